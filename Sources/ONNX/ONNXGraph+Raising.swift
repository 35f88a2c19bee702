import NormFoldFormats
import NormFoldNetworks

extension ONNXGraph {
  /// The network that the graph computes, where it is one that ``ONNXLowering`` writes, whoever wrote it.
  ///
  /// Its nodes say which norms are there and which maps have a bias; what the network is besides, it has from a network
  /// that it is to be held against. The result is written down again, and must give the same nodes.
  ///
  /// - Parameter reference: a network with operations of the same names.
  /// - Returns: nil where the graph is another.
  package func raised(like reference: Network, endOfText: Int?) -> Network? {
    guard form.length == nil || form.length == reference.contextLength else { return nil }
    var network = reference
    for node in reference.nodes {
      let name = node.path.description
      switch node.operation {
      case .norm(let norm): network[norm: node.path] = self.norm(at: name, like: norm)
      case .linear(let map):
        let adds = producer(of: name + ".product").map { $0.operation == "MatMul" || $0.inputs.count > 2 } ?? false
        let bias = Parameter.constant(0, shape: [map.weight.columnCount])
        network[linear: node.path] = LinearMap(weight: map.weight, bias: adds ? bias : nil)
      case .scale(let meant):
        guard let scale = producer(of: name), scale.operation == "Mul", scale.inputs.count == 2 else {
          network.remove(node.path)
          continue
        }
        guard var factor = number(named: scale.inputs[1]) else { return nil }
        // A number that was rounded to the graph's type is the one that was meant.
        let isHalf = initializers.first { $0.name == scale.inputs[1] }?.type == .f16
        if factor == (isHalf ? Double(Float16(meant)) : Double(Float(meant))) { factor = meant }
        network.replaceOperation(at: node.path, by: .scale(factor))
      default: continue
      }
    }
    guard let stored = storing(network),
      let type = outputs.first(where: { network.task.outputNames.contains($0.name) })?.type,
      let again = try? ONNXGraph(of: stored, type: type, endOfText: endOfText, form: form),
      again.nodes == nodes,
      again.outputs == outputs, again.inputs == inputs, again.smallConstants == smallConstants
    else { return nil }
    return stored
  }

  /// The norm that some nodes compute; nil where there are none.
  private func norm(at name: String, like norm: Norm) -> Norm? {
    var result = norm
    if let node = producer(of: name), node.operation == "LayerNormalization" {
      guard case .number(let epsilon) = node.attributes["epsilon"] else { return nil }
      (result.kind, result.deviation) = (.layer, .computed(epsilon: Double(epsilon)))
      result.bias = node.inputs.count > 2 ? norm.bias ?? .constant(0, shape: norm.gain.shape) : nil
      return result
    }
    let isScaled = producer(of: name + ".weighted") != nil
    if let variance = producer(of: name + ".variance"), variance.inputs.count == 2 {
      guard let epsilon = number(named: variance.inputs[1]) else { return nil }
      let isCompressed = producer(of: name + ".sum_square") != nil
      let isCentred = producer(of: name + ".centred") != nil
      result.kind = isCompressed ? .crms : isCentred ? .layer : .rms
      result.deviation = .computed(epsilon: epsilon)
      if !isScaled {
        result.gain = .constant(1, shape: [norm.gain.elementCount - (isCompressed ? 1 : 0)])
      }
    } else if isScaled {
      result.kind = producer(of: name + ".centred") == nil ? .rms : .layer
      result.deviation = .fixed(.constant(1, shape: norm.gain.shape))
    } else {
      return nil
    }
    result.bias = producer(of: name)?.operation == "Add" ? norm.bias ?? .constant(0, shape: norm.gain.shape) : nil
    return result
  }

  private func producer(of value: String) -> Node? { nodes.first { $0.outputs.first == value } }

  private func number(named name: String) -> Double? {
    guard let constant = initializers.first(where: { $0.name == name }), case .numbers(let values) = constant.content
    else { return nil }
    return values.count == 1 ? values[0] : nil
  }

  /// The constants that stand in the model file itself, by name, as the file holds them.
  private var smallConstants: [String: Content] {
    var result: [String: Content] = [:]
    for initializer in initializers {
      switch initializer.content {
      case .integers, .booleans: result[initializer.name] = initializer.content
      case .numbers(let values):
        result[initializer.name] = .numbers(
          values.map { initializer.type == .f16 ? Double(Float16($0)) : Double(Float($0)) })
      case .external: continue
      }
    }
    return result
  }
}
