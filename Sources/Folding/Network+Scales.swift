import Networks

extension Network {
  /// The network in which no norm and no branch multiplies its output by a number of its own:
  ///
  ///     s·(x/σ ⊙ γ + β) = x/σ ⊙ γ' + β'      γ' = s·γ    β' = s·β
  ///     s·(h·W + b) = h·W' + b'              W' = s·W    b' = s·b
  ///
  /// The norm takes its own scale, computed or not; the output map of a branch takes that of the branch. Exact for every s.
  package func absorbingScales() -> Network {
    var result = self
    for (site, norm) in norms where norm.outputScale != 1 {
      result[site]?.gain = norm.gain.multiplied(by: norm.outputScale)
      result[site]?.bias = norm.bias?.multiplied(by: norm.outputScale)
      result[site]?.outputScale = 1
    }
    for block in blocks.indices {
      let (attention, mlp) = (blocks[block].attention, blocks[block].mlp)
      result.blocks[block].attention.output = attention.output.multiplied(by: attention.outputScale)
      result.blocks[block].attention.outputScale = 1
      result.blocks[block].mlp.output = mlp.output.multiplied(by: mlp.outputScale)
      result.blocks[block].mlp.outputScale = 1
    }
    return result
  }

  /// The branches whose output is multiplied, by their output maps.
  var scaledBranches: [Role.Map] {
    blocks.indices.flatMap { block -> [Role.Map] in
      (blocks[block].attention.outputScale == 1 ? [] : [.attentionOutput(block: block)])
        + (blocks[block].mlp.outputScale == 1 ? [] : [.mlpOutput(block: block)])
    }
  }
}

extension LinearMap {
  fileprivate func multiplied(by factor: Double) -> LinearMap {
    LinearMap(weight: weight.multiplied(by: factor), bias: bias?.multiplied(by: factor))
  }
}
