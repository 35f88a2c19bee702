import NormFoldNetworks

extension Network {
  /// Makes a fixed norm the sum of what it is and of its computed form: their operands, gains and biases are the same, so
  /// that it divides by the weighted harmonic mean of both deviations.
  ///
  /// - Parameter share: what the computed form counts.
  mutating func blend(_ path: Path, withComputed share: Double, epsilon: Double) {
    guard let index = index(of: path), let fixed = self[norm: path], let operand = node(at: path)?.operands.first else {
      preconditionFailure("no norm at \(path)")
    }
    var computed = fixed
    computed.deviation = .computed(epsilon: epsilon)
    var result = Network(contextLength: contextLength)
    func add(_ operation: Operation, _ name: String, _ operands: Path...) -> Path {
      result.append(Node(path: path.appending(name), operation: operation, operands: operands))
      return path.appending(name)
    }
    for node in nodes[..<index] { result.append(node) }
    let parts = [
      add(.scale(share), "computedShare", add(.norm(computed), "computed", operand)),
      add(.scale(1 - share), "fixedShare", add(.norm(fixed), "fixed", operand)),
    ]
    result.append(Node(path: path, operation: .add, operands: parts))
    for node in nodes[(index + 1)...] { result.append(node) }
    result.setOutputs(output, besides: sideOutputs)
    result.task = task
    self = result
  }
}
