import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// A network on its way through the blocks, one step at a time, so that several can be compared along the way.
package protocol NetworkRun: AnyObject, Sendable {
  var blockCount: Int { get }
  /// The time that a block takes, relative to that of other runs.
  var cost: Int { get }
  func embed() throws(Refusal)
  func run(block: Int) throws(Refusal)
  func finish() throws(Refusal)
  /// The residual stream as it stands, [T, D]; nil where there is none to look at.
  var residual: MatrixRows? { get }
  /// After ``finish()``: the logits of a range of the vocabulary.
  func logits(of range: Range<Int>) -> MatrixRows
  /// Is true if the run has no blocks to stop behind, and is computed as a whole when it is finished.
  var isProgram: Bool { get }
}

extension NetworkRun {
  package var isProgram: Bool { false }
}

/// A run in one precision.
package final class ScalarRun<Scalar: ArithmeticScalar>: NetworkRun, @unchecked Sendable {
  private var execution: Execution<FastBackend<Scalar>>
  private var depth = 0
  private var pending: PendingLogits<Scalar>?
  package let blockCount: Int

  /// - Parameters:
  ///   - rounding: rounds matrices and embeddings to their storage types before use.
  ///   - otherNorms: the norms of tokens that have others than the network.
  package init(
    _ network: Network, probes: [Probe], rounding: Storage? = nil, otherNorms: [NormsOfRows] = [],
    workers: Workers = .one
  ) {
    execution = Execution(
      network, on: FastBackend(probes: probes, rounding: rounding, otherNorms: otherNorms, workers: workers))
    blockCount = network.blockCount
  }

  package var cost: Int { MemoryLayout<Scalar>.size * execution.backend.tokenCount }

  package func embed() throws(Refusal) { try execution.run(stage: 0) }

  package func run(block: Int) throws(Refusal) {
    try execution.run(stage: block + 1)
    depth = block + 1
  }

  package func finish() throws(Refusal) { pending = try execution.finish() }

  package var residual: MatrixRows? { pending == nil ? MatrixRows(execution.stream(atDepth: depth)) : nil }

  package func logits(of range: Range<Int>) -> MatrixRows {
    guard let pending else { preconditionFailure("logits before the pass is finished") }
    return MatrixRows(pending.logits(of: range))
  }
}

extension Execution {
  /// Runs the stage behind the last block, but for the unembedding, whose logits are computed when asked for.
  ///
  package mutating func finish<Scalar: ArithmeticScalar>() throws(Refusal) -> PendingLogits<Scalar>
  where Runner == FastBackend<Scalar> {
    guard let map = network.unembedding, let operand = network.node(at: network.unembeddingPath)?.operands.first else {
      try run(stage: stageCount - 1)
      return backend.logits(of: value(at: network.output), by: nil)
    }
    try run(stage: stageCount - 1, skipsOutput: true)
    return backend.logits(of: value(at: operand), by: map, cappedAt: network.logitCap)
  }
}

extension Network {
  /// The logits of a whole pass, to be computed when asked for.
  package func logits<Scalar: ArithmeticScalar>(
    on backend: FastBackend<Scalar>
  ) throws(Refusal) -> PendingLogits<Scalar> {
    var execution = Execution(self, on: backend)
    for stage in 0..<execution.stageCount - 1 { try execution.run(stage: stage) }
    return try execution.finish()
  }
}

/// Norms that some of the tokens have in place of those of the network.
package struct NormsOfRows: Sendable {
  package let rows: Range<Int>
  package let norms: [Path: Norm]

  package init(rows: Range<Int>, norms: [Path: Norm]) {
    self.rows = rows
    self.norms = norms
  }
}

/// A program that was written. It has no residual stream to look at.
package final class ProgramRun: NetworkRun, @unchecked Sendable {
  private let program: any LogitProgram
  private let probes: [Probe]
  private let workers: Workers
  /// The logits of all probes, one after the other: [T, V].
  private var all = Matrix<Double>(rows: 0, columns: 0)

  package init(_ program: any LogitProgram, probes: [Probe], workers: Workers) {
    _ = blasRunsOnOneThread
    self.program = program
    self.probes = probes
    self.workers = workers
  }

  package var isProgram: Bool { true }
  package var blockCount: Int { 0 }
  package var cost: Int { .max }

  package func embed() {}

  package func run(block: Int) {}

  package func finish() throws(Refusal) {
    let width = program.outputWidth
    all = Matrix<Double>(rows: probes.reduce(0) { $0 + $1.tokens.count }, columns: width)
    let product = unsafe workers.matrixProduct
    var end = 0
    for probe in probes {
      let logits = unsafe try program.logits(of: probe, product: product)
      let rows = unsafe UnsafeMutableBufferPointer(
        rebasing: all.values[end * width..<(end + probe.tokens.count) * width])
      _ = unsafe rows.update(from: logits)
      end += probe.tokens.count
    }
  }

  package var residual: MatrixRows? { nil }

  package func logits(of range: Range<Int>) -> MatrixRows { MatrixRows(all, columns: range) }
}

extension Workers {
  /// The fast product in double precision for programs, shared out over the workers.
  package var matrixProduct: MatrixProduct {
    { (m, n, k, a, strideA, b, strideB, isTransposed, c, strideC) in
      unsafe Double.multiply(
        rows: m, columns: n, inner: k, a, strideA: strideA, b, strideB: strideB, isTransposed: isTransposed, into: c,
        strideC: strideC, workers: self)
    }
  }
}
