import NormFoldNetworks

extension Network {
  /// The network in which no output of a norm or of a map is multiplied by a number of its own:
  ///
  ///     s·(x/σ ⊙ γ + β) = x/σ ⊙ γ' + β'      γ' = s·γ    β' = s·β
  ///     s·(h·W + b) = h·W' + b'              W' = s·W    b' = s·b
  ///
  /// A norm, computed or not, and a map take the scale of what they give, if nothing else reads it. Exact for every s.
  ///
  /// - Returns: the network, and the norms and maps that took a scale.
  package func absorbingScales() -> (network: Network, scaled: [Path]) {
    var result = self
    var scaled: [Path] = []
    for node in nodes {
      guard case .scale(let factor) = node.operation, let operand = node.operands.first, users(of: operand).count == 1
      else { continue }
      if let norm = result[norm: operand] {
        result[norm: operand]?.gain = norm.gain.multiplied(by: factor)
        result[norm: operand]?.bias = norm.bias?.multiplied(by: factor)
      } else if let map = result[linear: operand] {
        result[linear: operand] = LinearMap(
          weight: map.weight.multiplied(by: factor), bias: map.bias?.multiplied(by: factor))
      } else {
        continue
      }
      result.remove(node.path)
      scaled.append(operand)
    }
    return (result, scaled)
  }
}
