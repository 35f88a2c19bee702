import Formats
import Glibc
import Synchronization

/// Runs several jobs through the same stages: each begins its next stage as soon as a thread is free, but none gets more
/// than one stage ahead of the slowest, so that little is kept of a stage until all have passed it.
///
/// With stages in step, all threads would wait at the end of each for the one that has the most to do.
final class BoundedPipeline: @unchecked Sendable {
  private let stageCount: Int
  /// The jobs, those with the longest stages first: they are not to be the last that are waited for.
  private let order: [Int]
  private let condition = Condition()
  /// What the condition guards: by job, the stages that it has behind it and whether it is in one, and the first failure.
  private var passed: [Int]
  private var isBusy: [Bool]
  private var failure: Refusal?
  /// The stages whose completion was reported. One report at a time.
  private let reported = Mutex(0)

  /// - Parameter costs: how long each job takes for a stage, relative to the others.
  init(costs: [Int], stageCount: Int) {
    self.stageCount = stageCount
    order = costs.indices.sorted { costs[$0] > costs[$1] }
    passed = costs.map { _ in 0 }
    isBusy = costs.map { _ in false }
  }

  /// Runs every job through every stage. A pipeline can be run once.
  ///
  /// - Parameters:
  ///   - step: runs one job through one stage.
  ///   - onStageComplete: called when all jobs have passed a stage, in order, one call at a time, from any thread.
  /// - Throws: what `step` threw first. What is under way is waited for.
  func run(
    workers: Workers, step: @Sendable (_ job: Int, _ stage: Int) throws(Refusal) -> Void,
    onStageComplete: @Sendable (_ stage: Int) -> Void
  ) throws(Refusal) {
    workers.forEach(min(workers.count, order.count)) { _ in
      while let (job, stage) = next() {
        do throws(Refusal) {
          try step(job, stage)
          complete(job)
          report(onStageComplete)
        } catch { fail(error) }
      }
    }
    if let failure { throw failure }
  }

  /// Returns the job that is farthest behind of those that may go on; nil when nothing is left to do.
  private func next() -> (job: Int, stage: Int)? {
    condition.lock()
    defer { condition.unlock() }
    while failure == nil, let slowest = passed.min(), slowest < stageCount {
      let free = order.filter { !isBusy[$0] && passed[$0] < stageCount && passed[$0] <= slowest + 1 }
      if let job = free.min(by: { passed[$0] < passed[$1] }) {
        isBusy[job] = true
        return (job, passed[job])
      }
      condition.wait()
    }
    return nil
  }

  private func complete(_ job: Int) {
    condition.lock()
    defer { condition.unlock() }
    isBusy[job] = false
    passed[job] += 1
    condition.broadcast()
  }

  private func report(_ onStageComplete: (_ stage: Int) -> Void) {
    reported.withLock { reported in
      while reported < completedStageCount {
        onStageComplete(reported)
        reported += 1
      }
    }
  }

  private var completedStageCount: Int {
    condition.lock()
    defer { condition.unlock() }
    return passed.min() ?? 0
  }

  private func fail(_ refusal: Refusal) {
    condition.lock()
    defer { condition.unlock() }
    failure = failure ?? refusal
    condition.broadcast()
  }
}

/// A lock that a thread can release while it waits for another to change what the lock guards.
private final class Condition: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let change = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(change, nil)
  }

  deinit {
    pthread_cond_destroy(change)
    pthread_mutex_destroy(mutex)
    change.deallocate()
    mutex.deallocate()
  }

  func lock() { pthread_mutex_lock(mutex) }

  func unlock() { pthread_mutex_unlock(mutex) }

  /// Returns, with the lock, after a ``broadcast()``; now and then without one.
  func wait() { pthread_cond_wait(change, mutex) }

  func broadcast() { pthread_cond_broadcast(change) }
}
