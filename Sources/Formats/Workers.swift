import CNormFoldKernels
import Dispatch
import FoundationEssentials
import Synchronization

/// The threads that independent work is spread over.
///
/// Tasks may spread their own work in turn: whichever threads are idle then take part, so that a core is without work only
/// where no task is left. Each call of BLAS stays on its own thread: threads of BLAS wait for each other by spinning, and
/// lose all their speed to any neighbour on the machine.
///
///     conversion.workers = Workers(count: 2)
public struct Workers: Sendable, Hashable, Encodable {
  /// The number of threads that work at a time.
  public let count: Int
  /// The number of threads that work is cut for: of work whose last bits depend on how it is cut, they depend on this.
  package private(set) var cut: Int
  /// Shared by all copies.
  private let idle: IdleThreads
  private let recorder: TaskRecorder?

  public init(count: Int) {
    self.count = max(1, count)
    cut = self.count
    // More threads than cores would wait for each other.
    idle = IdleThreads(count: min(self.count, ProcessInfo.processInfo.activeProcessorCount) - 1)
    recorder = nil
  }

  /// Does everything on the calling thread, and records what could have been done at the same time.
  ///
  /// - Parameter count: the number of threads that work is cut for.
  package init(count: Int, recordedBy recorder: TaskRecorder) {
    self.count = max(1, count)
    cut = self.count
    idle = IdleThreads(count: 0)
    self.recorder = recorder
  }

  /// Returns the same threads, for work that is cut as other threads than these would have it.
  package func cut(for count: Int) -> Workers {
    var workers = self
    workers.cut = count
    return workers
  }

  /// One thread for each core.
  public static let all = Workers(count: ProcessInfo.processInfo.activeProcessorCount)

  /// The calling thread alone.
  package static let one = Workers(count: 1)

  public static func == (a: Workers, b: Workers) -> Bool { a.count == b.count }

  public func hash(into hasher: inout Hasher) { hasher.combine(count) }

  private enum CodingKeys: CodingKey { case count }

  /// Runs `body` once for each number below `taskCount`, the lower ones first.
  ///
  /// - Throws: the error of the lowest number that threw.
  package func forEach<Failure: Error>(
    _ taskCount: Int, _ body: @Sendable (Int) throws(Failure) -> Void
  ) throws(Failure) {
    if let recorder { return try recorder.record(taskCount, body) }
    // As long as no thread is idle, this one does it alone, at no cost.
    var doneCount = 0
    while doneCount < taskCount, taskCount - doneCount == 1 || idle.isEmpty {
      try body(doneCount)
      doneCount += 1
    }
    guard doneCount < taskCount else { return }
    let failures = Mutex<[Int: Failure]>([:])
    let next = Atomic(doneCount)
    // No task behind one that failed is begun: those before it all are.
    let end = Atomic(taskCount)
    let team = Team(idle)
    /// Runs tasks until none is left, and asks those that are idle by now to help.
    func work() {
      while true {
        let task = next.add(1, ordering: .relaxed).oldValue
        let rest = end.load(ordering: .relaxed) - task
        guard rest > 0 else { return }
        team.recruit(atMost: rest - 1)
        do throws(Failure) {
          try body(task)
        } catch {
          failures.withLock { $0[task] = error }
          end.min(task, ordering: .relaxed)
        }
      }
    }
    withoutActuallyEscaping(work) { work in unsafe withUnsafePointer(to: work) { unsafe team.run($0) } }
    if let first = failures.withLock({ $0.min { $0.key < $1.key } }) { throw first.value }
  }

  /// Runs two tasks beside each other.
  ///
  /// - Throws: the error of the first, else that of the second.
  package func both<First, Second, Failure: Error>(
    _ first: @Sendable () throws(Failure) -> First, _ second: @Sendable () throws(Failure) -> Second
  ) throws(Failure) -> (First, Second) {
    let results = Pair<First, Second>()
    try forEach(2) { (task) throws(Failure) in
      if task == 0 { results.first = try first() } else { results.second = try second() }
    }
    guard let first = results.first, let second = results.second else { preconditionFailure("a task is missing") }
    return (first, second)
  }

  /// Runs `body` once for each part of a range, at most `size` numbers long.
  package func forEachPart<Failure: Error>(
    of extent: Int, size: Int, _ body: @Sendable (Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    try forEach((extent + size - 1) / size) { (part) throws(Failure) in
      try body(part * size..<min((part + 1) * size, extent))
    }
  }
}

/// The results of two tasks. Each task writes its own result, before either is read.
private final class Pair<First, Second>: @unchecked Sendable {
  var first: First?
  var second: Second?
}

/// The threads that work on the tasks of one call.
@safe private final class Team: @unchecked Sendable {
  private let idle: IdleThreads
  private let state = Mutex((helperCount: 0, isOpen: true))
  /// Is true once the team is no longer open and its last helper has ended.
  private let isDone = Atomic(false)
  private let done = DispatchSemaphore(value: 0)
  /// The work that each of them does. It is gone when the team is no longer open.
  private nonisolated(unsafe) var work: UnsafePointer<() -> Void>?

  init(_ idle: IdleThreads) { self.idle = idle }

  func run(_ work: UnsafePointer<() -> Void>) {
    unsafe self.work = work
    unsafe work.pointee()
    disband()
  }

  /// Has idle threads help.
  func recruit(atMost wanted: Int) {
    guard wanted > 0, !idle.isEmpty else { return }
    idle.send(atMost: wanted, to: self)
  }

  /// Works, unless all tasks have been taken meanwhile.
  func help() {
    let isIn = state.withLock { state in
      if state.isOpen { state.helperCount += 1 }
      return state.isOpen
    }
    guard isIn else { return }
    unsafe work?.pointee()
    let isLast = state.withLock { state in
      state.helperCount -= 1
      return state.helperCount == 0 && !state.isOpen
    }
    if isLast {
      isDone.store(true, ordering: .releasing)
      done.signal()
    }
  }

  /// Waits for those that are at work: awake for a moment, then asleep, where the calling thread counts as idle.
  private func disband() {
    let isAlone = state.withLock { state in
      state.isOpen = false
      return state.helperCount == 0
    }
    guard !isAlone, !IdleThreads.isTrueWithinAMoment({ isDone.load(ordering: .acquiring) }) else { return }
    idle.put(back: 1)
    done.wait()
    idle.takeAway(1)
  }
}

/// The threads that have nothing to do.
///
/// One that has ended its work stays awake for a moment. A token that GPT-2 small generates takes 73 products, one behind the other:
/// where threads slept for every pause of more than 50 µs between them, a seventh of the processor's time went into waking them (two
/// threads in a virtual machine).
private final class IdleThreads: Sendable {
  private let count: Atomic<Int>
  /// `awakeCount` threads are awake; `teams` wait for one of these each, and are never more than there are.
  private let lounge = Mutex((awakeCount: 0, teams: [Team]()))
  /// The number of teams that wait, to be looked at without the lock.
  private let waitingCount = Atomic(0)

  init(count: Int) { self.count = Atomic(max(0, count)) }

  var isEmpty: Bool { count.load(ordering: .relaxed) <= 0 }

  /// Has threads help a team, those first that are awake.
  func send(atMost wanted: Int, to team: Team) {
    let taken = take(atMost: wanted)
    guard taken > 0 else { return }
    let awake = lounge.withLock { lounge in
      let awake = min(taken, lounge.awakeCount - lounge.teams.count)
      lounge.teams.append(contentsOf: repeatElement(team, count: awake))
      waitingCount.store(lounge.teams.count, ordering: .releasing)
      return awake
    }
    for _ in awake..<taken { DispatchQueue.global().async { self.serve(team) } }
  }

  /// Helps one team after the other, until none has come for a moment.
  private func serve(_ first: Team) {
    var team: Team? = first
    while let current = team {
      current.help()
      lounge.withLock { $0.awakeCount += 1 }
      put(back: 1)
      _ = Self.isTrueWithinAMoment { waitingCount.load(ordering: .relaxed) > 0 }
      team = lounge.withLock { lounge in
        lounge.awakeCount -= 1
        let next = lounge.teams.popLast()
        waitingCount.store(lounge.teams.count, ordering: .releasing)
        return next
      }
    }
  }

  /// Returns whether a condition is met before a moment is over.
  static func isTrueWithinAMoment(_ condition: () -> Bool) -> Bool {
    let end = ContinuousClock.now + moment
    repeat {
      for _ in 0..<16 {
        if condition() { return true }
        normfold_pause()
      }
    } while ContinuousClock.now < end
    return false
  }

  /// Longer than most pauses between the products of a token: with 50 µs two threads had 25 context switches a token, with
  /// 200 µs 4.
  private static let moment = Duration.microseconds(100)

  /// Returns how many were taken.
  private func take(atMost wanted: Int) -> Int {
    var known = count.load(ordering: .relaxed)
    while known > 0 {
      let taken = min(known, wanted)
      let (isTaken, current) = count.weakCompareExchange(
        expected: known, desired: known - taken, ordering: .acquiringAndReleasing)
      if isTaken { return taken }
      known = current
    }
    return 0
  }

  /// Takes what may not be there, until another puts it back.
  func takeAway(_ number: Int) { count.subtract(number, ordering: .acquiring) }

  func put(back number: Int) { count.add(number, ordering: .releasing) }
}
