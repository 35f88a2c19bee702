import Formats
import Synchronization
import Testing

@testable import Verify

@Suite struct BoundedPipelineTests {
  /// What happened, in its order.
  private enum Event: Equatable {
    case begun(job: Int, stage: Int)
    case ended(job: Int, stage: Int)
    case completed(stage: Int)
  }

  @Test(
    "Each job passes every stage in order, none more than one ahead, and completions are reported once, in order",
    arguments: [1, 2, 3, 8], [1, 2, 5])
  func order(workerCount: Int, jobCount: Int) throws {
    let stageCount = 20
    let events = Mutex<[Event]>([])
    // The first job is slow.
    let costs = (0..<jobCount).map { jobCount - $0 }
    try BoundedPipeline(costs: costs, stageCount: stageCount).run(workers: Workers(count: workerCount)) { job, stage in
      events.withLock { $0.append(.begun(job: job, stage: stage)) }
      if job == 0 { for _ in 0..<10_000 { events.withLock { _ in } } }
      events.withLock { $0.append(.ended(job: job, stage: stage)) }
    } onStageComplete: { stage in
      events.withLock { $0.append(.completed(stage: stage)) }
    }
    var passed = [Int](repeating: 0, count: jobCount)
    var completedCount = 0
    for event in events.withLock({ $0 }) {
      switch event {
      case .begun(let job, let stage):
        #expect(passed[job] == stage)
        #expect(stage <= (passed.min() ?? 0) + 1)
      case .ended(let job, let stage): passed[job] = stage + 1
      case .completed(let stage):
        #expect(stage == completedCount)
        completedCount += 1
        #expect(passed.allSatisfy { $0 > stage })
      }
    }
    #expect(passed.allSatisfy { $0 == stageCount })
    #expect(completedCount == stageCount)
  }

  @Test("A failure ends the way for all, and what is under way is waited for", arguments: [1, 2, 4])
  func failure(workerCount: Int) {
    let running = Atomic(0)
    let refusal = #expect(throws: Refusal.self) {
      try BoundedPipeline(costs: [1, 1, 1], stageCount: 1_000).run(workers: Workers(count: workerCount)) {
        (job, stage) throws(Refusal) in
        running.add(1, ordering: .sequentiallyConsistent)
        defer { running.subtract(1, ordering: .sequentiallyConsistent) }
        if job == 1, stage == 3 { throw Refusal(.malformed, "job \(job), stage \(stage)") }
        #expect(stage <= 5)
      } onStageComplete: { stage in
        #expect(stage < 3)
      }
    }
    #expect(refusal?.problem == "job 1, stage 3")
    #expect(running.load(ordering: .sequentiallyConsistent) == 0)
  }

  @Test("Without jobs or stages there is nothing to do")
  func nothing() throws {
    @Sendable func never(_ job: Int, _ stage: Int) throws(Refusal) {
      Issue.record("job \(job), stage \(stage)")
    }
    try BoundedPipeline(costs: [], stageCount: 3).run(workers: .all, step: never) { _ in Issue.record("completed") }
    try BoundedPipeline(costs: [1, 2], stageCount: 0).run(workers: .all, step: never) { _ in Issue.record("completed") }
  }
}
