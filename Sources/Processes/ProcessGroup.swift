import NormFoldArithmetic
import NormFoldFormats

/// Processes that do one piece of work together: each trains on some of the micro-batches of every step, or measures some parts of
/// a text. All of them get the same input; whatever one decides by itself is agreed on first.
///
/// Its methods are called by one thread, by all processes in the same order.
package protocol ProcessGroup: AnyObject, Sendable {
  /// The number of this process, from 0. Number 0 writes and reports.
  var rank: Int { get }
  var count: Int { get }
  /// The number of the group's processes that run on this machine, this one included.
  var neighbourCount: Int { get }
  /// Replaces the numbers of every process by their sums over all, which have the same bits everywhere.
  func sum(_ numbers: UnsafeMutableBufferPointer<Double>) throws(Refusal)
  func sum(_ numbers: UnsafeMutableBufferPointer<Float>) throws(Refusal)
  /// Replaces the bytes of every process by those of process `root`.
  func send(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws(Refusal)
  /// Returns once every process has called it, and uses no core until then.
  func wait() throws(Refusal)
  /// The process that reports how the run ends: number 0, until another one fails alone.
  var reportingRank: Int { get }
  func setReporter(_ rank: Int)
  /// Leaves the others, who must all do so.
  func leave()
}

extension ProcessGroup {
  /// The numbers that one message holds at most, so that no copy of a whole gradient is made: 16 MiB of single precision.
  private static var chunk: Int { 1 << 22 }

  /// Replaces the numbers of every process by their sums over all, some megabytes at a time.
  package func sum<Scalar: ArithmeticScalar>(all numbers: UnsafeMutableBufferPointer<Scalar>) throws(Refusal) {
    guard count > 1 else { return }
    for start in stride(from: 0, to: numbers.count, by: Self.chunk) {
      let part = unsafe UnsafeMutableRawBufferPointer(
        UnsafeMutableBufferPointer(rebasing: numbers[start..<min(start + Self.chunk, numbers.count)]))
      if Scalar.self == Double.self {
        unsafe try sum(part.assumingMemoryBound(to: Double.self))
      } else {
        unsafe try sum(part.assumingMemoryBound(to: Float.self))
      }
    }
  }

  /// Replaces the numbers of every process by those of process `root`, some megabytes at a time.
  package func send<Scalar: ArithmeticScalar>(
    all numbers: UnsafeMutableBufferPointer<Scalar>, from root: Int
  ) throws(Refusal) {
    guard count > 1 else { return }
    for start in stride(from: 0, to: numbers.count, by: Self.chunk) {
      let part = unsafe UnsafeMutableBufferPointer(rebasing: numbers[start..<min(start + Self.chunk, numbers.count)])
      unsafe try send(UnsafeMutableRawBufferPointer(part), from: root)
    }
  }

  /// The sums of a few numbers over all processes.
  package func sums(of numbers: [Double]) throws(Refusal) -> [Double] {
    guard count > 1 else { return numbers }
    let copy = Matrix<Double>(rows: 1, columns: max(1, numbers.count))
    for (index, number) in numbers.enumerated() { unsafe copy.start[index] = number }
    unsafe try sum(UnsafeMutableBufferPointer(rebasing: copy.values[..<numbers.count]))
    return numbers.indices.map { unsafe copy.start[$0] }
  }

  /// The numbers of every process, by its rank.
  package func gather(_ numbers: [Double]) throws(Refusal) -> [[Double]] {
    guard count > 1 else { return [numbers] }
    var lengths = [Double](repeating: 0, count: count)
    lengths[rank] = Double(numbers.count)
    lengths = try sums(of: lengths)
    var result: [[Double]] = []
    for root in 0..<count {
      let copy = Matrix<Double>(rows: 1, columns: max(1, Int(lengths[root])))
      if root == rank { for (index, number) in numbers.enumerated() { unsafe copy.start[index] = number } }
      unsafe try send(all: UnsafeMutableBufferPointer(rebasing: copy.values[..<Int(lengths[root])]), from: root)
      result.append((0..<Int(lengths[root])).map { unsafe copy.start[$0] })
    }
    return result
  }

  /// Does what may fail in one process and not in another, and fails in all of them if it does in one.
  ///
  /// - Throws: what `body` throws, in the process that is to report it; elsewhere a refusal of the same category.
  package func together<Result>(_ body: () throws(Refusal) -> Result) throws(Refusal) -> Result {
    guard count > 1 else { return try body() }
    var result: Result?
    var refusal: Refusal?
    do throws(Refusal) { result = try body() } catch { refusal = error }
    var codes = [Double](repeating: 0, count: count)
    if let refusal { codes[rank] = Double(1 + (Refusal.Category.allCases.firstIndex(of: refusal.category) ?? 0)) }
    codes = try sums(of: codes)
    guard let first = codes.firstIndex(where: { $0 > 0 }) else {
      guard let result else { preconditionFailure("neither a result nor a refusal") }
      return result
    }
    setReporter(first)
    if first == rank, let refusal { throw refusal }
    throw Refusal(Refusal.Category.allCases[Int(codes[first]) - 1], "process \(first) says why")
  }

  /// Returns whether one process or more say yes.
  package func any(_ isTrue: Bool) throws(Refusal) -> Bool { try sums(of: [isTrue ? 1 : 0])[0] > 0 }

  /// The part of `total` things in a row that belongs to a process.
  package func share(of total: Int, rank: Int) -> Range<Int> { total * rank / count..<total * (rank + 1) / count }
}

/// One process that has nobody to ask.
package final class SingleProcess: ProcessGroup {
  package init() {}

  package var rank: Int { 0 }
  package var count: Int { 1 }
  package var neighbourCount: Int { 1 }
  package func sum(_ numbers: UnsafeMutableBufferPointer<Double>) {}
  package func sum(_ numbers: UnsafeMutableBufferPointer<Float>) {}
  package func send(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) {}
  package func wait() {}
  package var reportingRank: Int { 0 }
  package func setReporter(_ rank: Int) {}
  package func leave() {}
}
