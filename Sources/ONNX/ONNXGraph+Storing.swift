import NormFoldFormats
import NormFoldNetworks

extension ONNXGraph {
  /// A network with the graph's own numbers in the places of its parameters: what each node named after an operation reads.
  ///
  /// - Returns: nil where a node is missing or reads something else.
  package func storing(_ network: Network) -> Network? {
    let producers = Dictionary(nodes.flatMap { node in node.outputs.map { ($0, node) } }) { first, _ in first }
    let constants = Dictionary(initializers.map { ($0.name, $0) }) { first, _ in first }
    /// The number that a node reads besides what earlier nodes computed.
    func parameter(_ value: String, _ operation: String, _ operand: Int) -> Parameter? {
      guard let node = producers[value], node.operation == operation, operand < node.inputs.count,
        let initializer = constants[node.inputs[operand]], case .external(let parameter) = initializer.content
      else { return nil }
      return parameter
    }
    func map(_ path: Path, _ map: LinearMap) -> LinearMap? {
      let name =
        path == network.output && network.task.outputNames == [Self.logits] ? Self.logits : path.description
      guard map.bias != nil else {
        return (parameter(name, "MatMul", 1)).map { LinearMap(weight: $0, bias: nil) }
      }
      guard let weight = parameter(path.description + ".product", "MatMul", 1), let bias = parameter(name, "Add", 1)
      else { return nil }
      return LinearMap(weight: weight, bias: bias)
    }
    func tiedHead(_ path: Path, _ map: LinearMap) -> LinearMap? {
      let product = path.description + ".product"
      guard let node = producers[product], node.operation == "Gemm", node.attributes["transB"] == .integer(1),
        let weight = parameter(product, "Gemm", 1)
      else { return nil }
      let bias = node.inputs.count > 2 ? parameter(product, "Gemm", 2) : nil
      guard (bias == nil) == (map.bias == nil) else { return nil }
      return LinearMap(weight: weight.transposed(), bias: bias)
    }
    func norm(_ path: Path, _ norm: Norm) -> Norm? {
      var result = norm
      if producers[path.description]?.operation == "LayerNormalization" {
        guard let gain = parameter(path.description, "LayerNormalization", 1) else { return nil }
        (result.gain, result.bias) = (gain, parameter(path.description, "LayerNormalization", 2))
      } else {
        // A compressed norm has no gain where that is one.
        let gain = parameter(path.description + ".weighted", "Mul", 1)
        guard gain != nil || norm.gain.constantValue == 1 else { return nil }
        if let gain { result.gain = gain }
        if norm.isFixed { result.deviation = .fixed(.constant(1, shape: result.gain.shape)) }
        result.bias = parameter(path.description, "Add", 1)
      }
      return (result.bias == nil) == (norm.bias == nil) ? result : nil
    }
    var result = network
    for node in network.nodes {
      switch node.operation {
      case .embed(_, .first), .embed(_, .others):
        guard let table = parameter(node.path.description, "Mul", 0) else { return nil }
        result[table: node.path] = table
      case .embed(_, .position) where form.isPlain:
        guard case .external(let table)? = constants[node.path.description + ".weight"]?.content
        else { return nil }
        result[table: node.path] = table
      case .embed(_, let index):
        let value =
          form.readsEmbeddings && index == .token ? Self.embeddingsName : node.path.description
        guard let table = parameter(value, "Gather", 0) else { return nil }
        result[table: node.path] = table
      case .linear(let linear):
        guard let stored = map(node.path, linear) ?? tiedHead(node.path, linear) else { return nil }
        result[linear: node.path] = stored
      case .norm(let kept):
        guard let stored = norm(node.path, kept) else { return nil }
        result[norm: node.path] = stored
      case .scaleFeatures:
        guard let stored = parameter(node.path.description, "Mul", 1) else { return nil }
        result.replaceOperation(at: node.path, by: .scaleFeatures(stored))
      default: continue
      }
    }
    return result
  }

  static let logits = "logits"
}
