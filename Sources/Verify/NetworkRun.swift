import Formats
import Networks

/// A network on its way through the blocks, one step at a time, so that several can be compared along the way.
package protocol NetworkRun: AnyObject, Sendable {
  var blockCount: Int { get }
  /// How long a block takes, next to that of others.
  var cost: Int { get }
  func embed() throws(Refusal)
  func run(block: Int) throws(Refusal)
  func finish() throws(Refusal)
  /// The residual stream as it stands: [T, D].
  var residual: [Double] { get }
  /// After ``finish()``: the logits of a range of the vocabulary, [T, range].
  func logits(of range: Range<Int>) -> [Double]
}

/// A run in one precision.
final class ScalarRun<Scalar: ArithmeticScalar>: NetworkRun, @unchecked Sendable {
  private let network: Network
  private var operations: CPUOperations<Scalar>
  private var stream = Matrix<Scalar>(rows: 0, columns: 0)
  private var pending: PendingLogits<Scalar>?

  /// - Parameter rounding: rounds matrices and embeddings to their storage types before use.
  init(_ network: Network, probes: [Probe], rounding: Storage? = nil) {
    self.network = network
    operations = CPUOperations(probes: probes, rounding: rounding)
  }

  var blockCount: Int { network.blocks.count }
  var cost: Int { MemoryLayout<Scalar>.size }
  func embed() throws(Refusal) { stream = try network.embed(with: &operations) }
  func run(block: Int) throws(Refusal) { stream = try network.run(block: block, on: stream, with: &operations) }
  func finish() throws(Refusal) { pending = try network.unembed(stream, with: &operations) }
  var residual: [Double] { stream.doubles() }

  func logits(of range: Range<Int>) -> [Double] {
    guard let pending else { preconditionFailure("logits before the pass is finished") }
    return pending.logits(of: range).doubles()
  }
}

/// A program that was written. It has no residual stream to look at.
final class ProgramRun: NetworkRun, @unchecked Sendable {
  private let program: any LogitProgram
  private let probes: [Probe]
  private let workers: Workers
  private static let product: MatrixProduct = { m, n, k, a, strideA, b, strideB, isTransposed, c, strideC in
    Double.multiply(
      rows: m, columns: n, inner: k, a, strideA: strideA, b, strideB: strideB, isTransposed: isTransposed, factor: 1,
      beta: 1, into: c, strideC: strideC)
  }
  /// Of all probes, one after the other: [T, V].
  private var all: [Double] = []

  init(_ program: any LogitProgram, probes: [Probe], workers: Workers) {
    _ = arithmeticIsReady
    self.program = program
    self.probes = probes
    self.workers = workers
  }

  var blockCount: Int { 0 }
  var cost: Int { .max }
  func embed() {}
  func run(block: Int) {}
  func finish() throws(Refusal) {
    for probe in probes {
      all += try program.logits(of: probe.tokens, at: probe.positions, product: Self.product, workers: workers)
    }
  }
  var residual: [Double] { [] }

  func logits(of range: Range<Int>) -> [Double] {
    stride(from: 0, to: all.count, by: program.vocabularySize).flatMap { start in
      all[start + range.lowerBound..<start + range.upperBound]
    }
  }
}
