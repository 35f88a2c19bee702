import NormFoldFormats
import NormFoldNetworks

/// Something that runs a network's operations in integers.
package protocol IntegerBackend: Backend, Sendable where Activations: Sendable {
  var tokenCount: Int { get }
  /// The numbers that did not fit so far, counted by operation.
  var overflows: [IntegerOverflow] { get }
  /// Some columns of a value; nil for all.
  func rows(of x: Activations, columns: Range<Int>?) -> MatrixRows
  /// The logits of a range of the vocabulary.
  func logits(of x: Activations, by map: LinearMap, at path: Path, range: Range<Int>) -> MatrixRows
}

/// A run in integers.
package protocol IntegerNetworkRun: NetworkRun {
  /// The numbers that did not fit, counted by operation, once the logits were asked for.
  var overflows: [IntegerOverflow] { get }
}

extension IntegerArithmetic {
  /// A run of a network under this arithmetic, which has to have a form of it: see ``requireForm(of:)``.
  ///
  /// - Parameters:
  ///   - precision: of what dynamic fixed point computes in floating point.
  ///   - known: the integers of the network's weights, as far as other runs of this network under this arithmetic have found them.
  package func run(
    _ network: Network, probes: [Probe], precision: Precision = .single, known: IntegerWeights = IntegerWeights()
  ) -> any IntegerNetworkRun {
    switch (form, precision) {
    case (.dynamic(let weights, let activations), .single):
      IntegerRun(
        network,
        on: DynamicBackend<Float>(
          probes: probes, weightBits: weights, activationBits: activations, scales: scales,
          includesAttention: includesAttention, known: known))
    case (.dynamic(let weights, let activations), .double):
      IntegerRun(
        network,
        on: DynamicBackend<Double>(
          probes: probes, weightBits: weights, activationBits: activations, scales: scales,
          includesAttention: includesAttention, known: known))
    case (.fixed(let bits, let fraction), _):
      IntegerRun(network, on: FixedPointBackend(probes: probes, bits: bits, fraction: fraction))
    }
  }
}

final class IntegerRun<Runner: IntegerBackend>: IntegerNetworkRun, @unchecked Sendable {
  private var execution: Execution<Runner>
  private var depth = 0
  private var last: Runner.Activations?
  let blockCount: Int

  init(_ network: Network, on backend: Runner) {
    execution = Execution(network, on: backend)
    blockCount = network.blockCount
  }

  var cost: Int { MemoryLayout<Double>.size * execution.backend.tokenCount }
  var overflows: [IntegerOverflow] { execution.backend.overflows }

  func embed() throws(Refusal) { try execution.run(stage: 0) }

  func run(block: Int) throws(Refusal) {
    try execution.run(stage: block + 1)
    depth = block + 1
  }

  func finish() throws(Refusal) {
    let isLinear = execution.network.unembedding != nil
    try execution.run(stage: execution.stageCount - 1, skipsOutput: isLinear)
    let output = execution.network.output
    last = execution.value(at: isLinear ? execution.network.node(at: output)?.operands.first ?? output : output)
  }

  var residual: MatrixRows? {
    last == nil ? execution.backend.rows(of: execution.stream(atDepth: depth), columns: nil) : nil
  }

  func logits(of range: Range<Int>) -> MatrixRows {
    guard let last else { preconditionFailure("logits before the pass is finished") }
    guard let map = execution.network.unembedding else { return execution.backend.rows(of: last, columns: range) }
    return execution.backend.logits(of: last, by: map, at: execution.network.output, range: range)
  }
}
