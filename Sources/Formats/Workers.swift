import Dispatch
import FoundationEssentials
import Synchronization

/// The threads that independent work is spread over.
///
/// Each call of BLAS stays on its own thread: threads of BLAS wait for each other by spinning, and lose all their speed
/// to any neighbour on the machine.
///
///     conversion.workers = Workers(count: 2)
public struct Workers: Sendable, Hashable, Encodable {
  /// How many threads work at a time.
  public let count: Int

  public init(count: Int) { self.count = max(1, count) }

  /// As many as there are cores.
  public static let all = Workers(count: ProcessInfo.processInfo.activeProcessorCount)

  /// Runs `body` once for each number below `taskCount`, the lower ones first.
  ///
  /// - Throws: the error of the lowest number that threw.
  package func forEach<Failure: Error>(
    _ taskCount: Int, _ body: @Sendable (Int) throws(Failure) -> Void
  ) throws(Failure) {
    guard count > 1, taskCount > 1 else {
      for task in 0..<taskCount { try body(task) }
      return
    }
    let failures = Mutex<[Int: Failure]>([:])
    let next = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: min(count, taskCount)) { _ in
      while true {
        let task = next.add(1, ordering: .relaxed).oldValue
        guard task < taskCount else { return }
        do throws(Failure) { try body(task) } catch { failures.withLock { $0[task] = error } }
      }
    }
    if let first = failures.withLock({ $0.min { $0.key < $1.key } }) { throw first.value }
  }
}
