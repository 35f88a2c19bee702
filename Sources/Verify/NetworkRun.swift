import Dispatch
import Formats
import Networks
import Synchronization

/// A network on its way through the blocks, one step at a time, so that several can be compared along the way.
package protocol NetworkRun: AnyObject, Sendable {
  var blockCount: Int { get }
  /// How long a block takes, next to that of others.
  var cost: Int { get }
  func embed() throws(Refusal)
  func run(block: Int) throws(Refusal)
  func finish() throws(Refusal)
  /// The residual stream as it stands, [T, D]; nil where there is none to look at.
  var residual: MatrixRows? { get }
  /// After ``finish()``: the logits of a range of the vocabulary.
  func logits(of range: Range<Int>) -> MatrixRows
  /// Returns once nothing of it is under way.
  func wait()
}

extension NetworkRun {
  package func wait() {}
}

/// A run in one precision.
final class ScalarRun<Scalar: ArithmeticScalar>: NetworkRun, @unchecked Sendable {
  private let network: Network
  private var operations: CPUOperations<Scalar>
  private var stream = Matrix<Scalar>(rows: 0, columns: 0)
  private var pending: PendingLogits<Scalar>?

  /// - Parameters:
  ///   - rounding: rounds matrices and embeddings to their storage types before use.
  ///   - otherNorms: the norms of tokens that have others than the network.
  init(_ network: Network, probes: [Probe], rounding: Storage? = nil, otherNorms: [NormsOfRows] = []) {
    self.network = network
    operations = CPUOperations(probes: probes, rounding: rounding, otherNorms: otherNorms)
  }

  var blockCount: Int { network.blocks.count }
  var cost: Int { MemoryLayout<Scalar>.size * operations.tokenCount }
  func embed() throws(Refusal) { stream = try network.embed(with: &operations) }
  func run(block: Int) throws(Refusal) { stream = try network.run(block: block, on: stream, with: &operations) }
  func finish() throws(Refusal) { pending = try network.unembed(stream, with: &operations) }
  var residual: MatrixRows? { MatrixRows(stream) }

  func logits(of range: Range<Int>) -> MatrixRows {
    guard let pending else { preconditionFailure("logits before the pass is finished") }
    return MatrixRows(pending.logits(of: range))
  }
}

/// A program that was written. It has no residual stream to look at, and runs beside the networks, on a thread of its own
/// if there are several workers.
final class ProgramRun: NetworkRun, @unchecked Sendable {
  private let program: any LogitProgram
  private let probes: [Probe]
  private let workers: Workers
  private let group = DispatchGroup()
  private let outcome = Mutex<Result<Matrix<Double>, Refusal>?>(nil)
  private static let product: MatrixProduct = { m, n, k, a, strideA, b, strideB, isTransposed, c, strideC in
    Double.multiply(
      rows: m, columns: n, inner: k, a, strideA: strideA, b, strideB: strideB, isTransposed: isTransposed, factor: 1,
      beta: 1, into: c, strideC: strideC)
  }
  /// Of all probes, one after the other: [T, V].
  private var all = Matrix<Double>(rows: 0, columns: 0)

  init(_ program: any LogitProgram, probes: [Probe], workers: Workers) {
    _ = arithmeticIsReady
    self.program = program
    self.probes = probes
    self.workers = workers
  }

  var blockCount: Int { 0 }
  var cost: Int { .max }

  func embed() {
    guard workers.count > 1 else { return }
    DispatchQueue.global().async(group: group) {
      let result = self.computed()
      self.outcome.withLock { $0 = result }
    }
  }

  func run(block: Int) {}

  func finish() throws(Refusal) {
    group.wait()
    all = try (outcome.withLock { $0 } ?? computed()).get()
  }

  func wait() { group.wait() }

  var residual: MatrixRows? { nil }

  func logits(of range: Range<Int>) -> MatrixRows { MatrixRows(all, columns: range) }

  private func computed() -> Result<Matrix<Double>, Refusal> {
    let width = program.vocabularySize
    let all = Matrix<Double>(rows: probes.reduce(0) { $0 + $1.tokens.count }, columns: width)
    var end = 0
    do throws(Refusal) {
      for probe in probes {
        let logits = try program.logits(
          of: probe.tokens, at: probe.positions, product: Self.product)
        let rows = UnsafeMutableBufferPointer(rebasing: all.values[end * width..<(end + probe.tokens.count) * width])
        _ = rows.update(from: logits)
        end += probe.tokens.count
      }
    } catch { return .failure(error) }
    return .success(all)
  }
}
