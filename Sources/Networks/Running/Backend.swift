import NormFoldFormats

/// Something that runs a network's operations: arithmetic in Float or Double, plain loops, the writer of an ONNX graph.
/// What is verified is thus what is exported.
package protocol Backend {
  /// The form in which the backend holds a value [tokens, features].
  associatedtype Activations

  /// Computes one operation of the values that it reads, in the order of the node's operands.
  mutating func evaluate(_ node: Network.Node, _ operands: [Activations]) throws(Refusal) -> Activations
}

/// A network on its way through a backend, stage by stage. Values are kept until their last reader has run.
package struct Execution<Runner: Backend> {
  /// Sees every operation when it has run: what it read, and what it computed.
  package typealias Observer = (Network.Node, [Runner.Activations], Runner.Activations) throws(Refusal) -> Void

  package let network: Network
  package var backend: Runner
  private let stages: [Range<Int>]
  /// By operation: the values that nothing after it reads.
  private let lastReads: [[Path]]
  private var values: [Path: Runner.Activations] = [:]

  package init(_ network: Network, on backend: Runner) {
    self.network = network
    self.backend = backend
    stages = network.stages
    var lastReads = [[Path]](repeating: [], count: network.nodes.count)
    var seen: Set<Path> = [network.output]
    for (index, node) in network.nodes.enumerated().reversed() {
      for operand in node.operands where seen.insert(operand).inserted { lastReads[index].append(operand) }
    }
    self.lastReads = lastReads
  }

  /// One for what comes before the first block, one for each block, one for what comes behind the last.
  package var stageCount: Int { stages.count }

  /// Runs the operations of a stage, whose predecessors have run.
  ///
  /// - Parameter skipsOutput: whether the unembedding is left out, and what caps it. Its operand stays.
  package mutating func run(
    stage: Int, skipsOutput: Bool = false, observe: Observer? = nil
  ) throws(Refusal) {
    for index in stages[stage] {
      let node = network.nodes[index]
      if skipsOutput, node.path == network.unembeddingPath { return }
      var operands: [Runner.Activations] = []
      for path in node.operands { operands.append(value(at: path)) }
      let result = try backend.evaluate(node, operands)
      try observe?(node, operands, result)
      values[node.path] = result
      for path in lastReads[index] { values[path] = nil }
    }
  }

  /// A value that was computed and that something has still to read, or the output.
  package func value(at path: Path) -> Runner.Activations {
    guard let value = values[path] else { preconditionFailure("\(path) is not computed") }
    return value
  }

  /// The residual stream behind the stages that have run.
  ///
  /// - Parameter depth: 0 behind the embedding, n behind the n-th block.
  package func stream(atDepth depth: Int) -> Runner.Activations {
    value(at: network.nodes[stages[depth].upperBound - 1].path)
  }
}

extension Network {
  /// Runs the whole network and returns its output.
  package func evaluate<Runner: Backend>(on backend: inout Runner) throws(Refusal) -> Runner.Activations {
    var execution = Execution(self, on: backend)
    for stage in 0..<execution.stageCount { try execution.run(stage: stage) }
    backend = execution.backend
    return execution.value(at: output)
  }
}
