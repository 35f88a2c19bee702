import Formats
import Synchronization
import Testing

@testable import Verify

@Suite struct ConvoyTests {
  /// What happened, in its order.
  private enum Event: Equatable {
    case begun(member: Int, stage: Int)
    case ended(member: Int, stage: Int)
    case arrived(stage: Int)
  }

  @Test(
    "Each member passes every stage in order, none more than one ahead, and arrivals are told once, in order",
    arguments: [1, 2, 3, 8], [1, 2, 5])
  func order(workerCount: Int, memberCount: Int) throws {
    let stageCount = 20
    let events = Mutex<[Event]>([])
    // The first member is slow.
    let costs = (0..<memberCount).map { memberCount - $0 }
    try Convoy(costs: costs, stageCount: stageCount).travel(workers: Workers(count: workerCount)) { member, stage in
      events.withLock { $0.append(.begun(member: member, stage: stage)) }
      if member == 0 { for _ in 0..<10_000 { events.withLock { _ in } } }
      events.withLock { $0.append(.ended(member: member, stage: stage)) }
    } arrive: { stage in
      events.withLock { $0.append(.arrived(stage: stage)) }
    }
    var passed = [Int](repeating: 0, count: memberCount)
    var arrivedCount = 0
    for event in events.withLock({ $0 }) {
      switch event {
      case .begun(let member, let stage):
        #expect(passed[member] == stage)
        #expect(stage <= (passed.min() ?? 0) + 1)
      case .ended(let member, let stage): passed[member] = stage + 1
      case .arrived(let stage):
        #expect(stage == arrivedCount)
        arrivedCount += 1
        #expect(passed.allSatisfy { $0 > stage })
      }
    }
    #expect(passed.allSatisfy { $0 == stageCount })
    #expect(arrivedCount == stageCount)
  }

  @Test("A failure ends the way for all, and what is under way is waited for", arguments: [1, 2, 4])
  func failure(workerCount: Int) {
    let running = Atomic(0)
    let refusal = #expect(throws: Refusal.self) {
      try Convoy(costs: [1, 1, 1], stageCount: 1_000).travel(workers: Workers(count: workerCount)) {
        (member, stage) throws(Refusal) in
        running.add(1, ordering: .sequentiallyConsistent)
        defer { running.subtract(1, ordering: .sequentiallyConsistent) }
        if member == 1, stage == 3 { throw Refusal(.malformed, "member \(member), stage \(stage)") }
        #expect(stage <= 5)
      } arrive: { stage in
        #expect(stage < 3)
      }
    }
    #expect(refusal?.problem == "member 1, stage 3")
    #expect(running.load(ordering: .sequentiallyConsistent) == 0)
  }

  @Test("Without members or stages there is nothing to do")
  func nothing() throws {
    @Sendable func never(_ member: Int, _ stage: Int) throws(Refusal) {
      Issue.record("member \(member), stage \(stage)")
    }
    try Convoy(costs: [], stageCount: 3).travel(workers: .all, run: never) { _ in Issue.record("arrived") }
    try Convoy(costs: [1, 2], stageCount: 0).travel(workers: .all, run: never) { _ in Issue.record("arrived") }
  }
}
