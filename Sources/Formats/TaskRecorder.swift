/// Records which work could have been done at the same time, and how long each task of it took: what a machine with more
/// cores would make of it is computed from that. Everything runs on one thread.
package final class TaskRecorder: @unchecked Sendable {
  /// One step of a task. A task is the list of its steps, in their order.
  package enum Step: Sendable {
    /// Work in one piece, in seconds.
    case work(Double)
    /// Tasks that do not depend on each other, in the order in which they are begun.
    case tasks([[Step]])
  }

  private let clock = ContinuousClock()
  private var start: ContinuousClock.Instant
  /// The steps so far of the tasks that are under way, the innermost last.
  private var open: [[Step]] = [[]]

  package init() { start = clock.now }

  /// Forgets what was done so far.
  package func restart() {
    open = [[]]
    start = clock.now
  }

  /// Returns the steps that were done since the recorder was made or restarted.
  package func finish() -> [Step] {
    close()
    return open[0]
  }

  /// Ends a piece of work.
  private func close() {
    let now = clock.now
    let duration = (now - start).components
    open[open.count - 1].append(.work(Double(duration.seconds) + Double(duration.attoseconds) * 1e-18))
    start = now
  }

  func record<Failure: Error>(
    _ taskCount: Int, _ body: (Int) throws(Failure) -> Void
  ) throws(Failure) {
    guard taskCount > 1 else {
      if taskCount == 1 { try body(0) }
      return
    }
    close()
    var tasks: [[Step]] = []
    for task in 0..<taskCount {
      open.append([])
      start = clock.now
      defer {
        close()
        tasks.append(open.removeLast())
      }
      try body(task)
    }
    open[open.count - 1].append(.tasks(tasks))
    start = clock.now
  }
}
