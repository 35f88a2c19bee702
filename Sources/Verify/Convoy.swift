import Formats
import Foundation
import Synchronization

/// Takes several passes through the same stages: each begins its next one as soon as a thread is free, but none gets more
/// than one stage ahead of the slowest, so that what is kept of a stage until all have passed it stays little.
///
/// Stages in step would have all threads wait at the end of each for the one that has the most to do.
final class Convoy: @unchecked Sendable {
  private let stageCount: Int
  /// The members, those with the longest stages first: they are not to be the last that are waited for.
  private let order: [Int]
  private let condition = NSCondition()
  /// What the condition guards: by member, the stages that it has behind it and whether it is in one, and the first failure.
  private var passed: [Int]
  private var isBusy: [Bool]
  private var failure: Refusal?
  /// One arrival at a time: the stages whose arrival was told.
  private let told = Mutex(0)

  /// - Parameter costs: how long each member takes for a stage, next to the others.
  init(costs: [Int], stageCount: Int) {
    self.stageCount = stageCount
    order = costs.indices.sorted { costs[$0] > costs[$1] }
    passed = costs.map { _ in 0 }
    isBusy = costs.map { _ in false }
  }

  /// Goes all the way, once.
  ///
  /// - Parameters:
  ///   - run: takes one member through one stage.
  ///   - arrive: called when all members have passed a stage, in order, one at a time, from any thread.
  /// - Throws: what `run` threw first. What is under way is waited for.
  func travel(
    workers: Workers, run: @Sendable (_ member: Int, _ stage: Int) throws(Refusal) -> Void,
    arrive: @Sendable (_ stage: Int) -> Void
  ) throws(Refusal) {
    workers.forEach(min(workers.count, order.count)) { _ in
      while let (member, stage) = next() {
        do throws(Refusal) {
          try run(member, stage)
          leave(member)
          tell(arrive)
        } catch { fail(error) }
      }
    }
    if let failure { throw failure }
  }

  /// The member that is farthest behind of those that may go on; nil when nothing is left to do.
  private func next() -> (member: Int, stage: Int)? {
    condition.lock()
    defer { condition.unlock() }
    while failure == nil, let slowest = passed.min(), slowest < stageCount {
      let free = order.filter { !isBusy[$0] && passed[$0] < stageCount && passed[$0] <= slowest + 1 }
      if let member = free.min(by: { passed[$0] < passed[$1] }) {
        isBusy[member] = true
        return (member, passed[member])
      }
      condition.wait()
    }
    return nil
  }

  private func leave(_ member: Int) {
    condition.lock()
    defer { condition.unlock() }
    isBusy[member] = false
    passed[member] += 1
    condition.broadcast()
  }

  private func tell(_ arrive: (_ stage: Int) -> Void) {
    told.withLock { told in
      while told < stagesBehindAll {
        arrive(told)
        told += 1
      }
    }
  }

  private var stagesBehindAll: Int {
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
