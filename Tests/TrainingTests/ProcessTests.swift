import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Synchronization
import Testing
import TestSupport

@testable import NormFoldProcesses
@testable import NormFoldTraining

/// Several processes, as threads of this one: what they exchange is what processes of MPI exchange.
@Suite struct ProcessTests {
  private let recipe: Recipe

  init() throws { recipe = try Recipe(named: Fixtures.path("removal/settings.json")) }

  /// What a process ended with.
  private struct Outcome<Scalar: ArithmeticScalar>: Sendable {
    var history = TrainingHistory()
    var records: [TrainingRecord] { history.records }
    var values: [Scalar] = []
    var momentCount = 0
    var refusal: Refusal?
  }

  /// Trains with so many processes, each of which begins by `prepare`.
  private func train<Scalar: ArithmeticScalar>(
    as scalar: Scalar.Type, processes count: Int, steps: Int, sharesMoments: Bool = false,
    prepare: @Sendable @escaping (TrainingRun<Scalar>, Model) throws -> Void = { _, _ in },
    end: @Sendable @escaping (TrainingRun<Scalar>, Model, TrainingHistory) throws -> Void = { _, _, _ in }
  ) -> [Outcome<Scalar>] {
    let recipe = recipe
    return LocalProcesses.run(count) { process in
      var outcome = Outcome<Scalar>()
      do {
        let model = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
        let run = try TrainingRun<Scalar>(
          model.network, namesAfter: model.layout.prefix, recipe: recipe,
          tokens: TrainingTokens(file: Fixtures.path("removal/tokens.bin")), workers: Workers(count: 1),
          processes: process, sharesMoments: sharesMoments)
        try prepare(run, model)
        while run.step < steps { outcome.history.append(try run.advance(), deviations: run.deviations, of: steps) }
        try run.requireSameParameters()
        try end(run, model, outcome.history)
        outcome.values = Array(run.parameters.allValues)
        outcome.momentCount = run.parameters.firstMoments.columnCount
      } catch {
        outcome.refusal = error as? Refusal
      }
      return outcome
    }
  }

  @Test("Two, three and four processes take the steps of one, up to rounding", arguments: [2, 3, 4])
  func agreement(count: Int) {
    let one = train(as: Double.self, processes: 1, steps: 14)[0]
    let several = train(as: Double.self, processes: count, steps: 14)
    #expect(one.records.count == 14)
    for outcome in several {
      #expect(outcome.refusal == nil)
      #expect(outcome.records == several[0].records)
      #expect(outcome.values == several[0].values)
      for (found, expected) in zip(outcome.records, one.records) {
        #expect(abs(found.loss - expected.loss) <= 1e-12)
        #expect(abs(found.gradientNorm - expected.gradientNorm) <= 1e-12)
        #expect(abs(found.auxiliary - expected.auxiliary) <= 1e-12)
        #expect(found.fixed == expected.fixed)
      }
    }
  }

  @Test("Processes that share the moments have the bits of processes that all hold them")
  func sharing() {
    let whole = train(as: Float.self, processes: 3, steps: 9)
    let shared = train(as: Float.self, processes: 3, steps: 9, sharesMoments: true)
    #expect(whole[0].refusal == nil && shared[0].refusal == nil)
    #expect(shared[2].values == whole[0].values)
    #expect(shared.map(\.records) == whole.map(\.records))
    #expect(shared.map(\.momentCount).reduce(0, +) == whole[0].momentCount)
    #expect(shared[0].momentCount <= whole[0].momentCount / 3 + 16)
  }

  @Test("What two processes saved, four go on with, and one, whoever holds the moments")
  func resumption() throws {
    let directory = try TemporaryDirectory()
    let stored = TrainingCheckpoint(at: directory.path + "/out.removal")
    let identity = TrainingCheckpoint.Identity(recipe: recipe, tokens: 5, precision: .double)
    let saved = train(
      as: Double.self, processes: 2, steps: 7, sharesMoments: true,
      end: { run, model, history in
        try stored.write(run, of: model, identity, history: history, beside: [], marksNorms: true)
      })
    #expect(saved.allSatisfy { $0.refusal == nil })
    let whole = train(as: Double.self, processes: 1, steps: 11)[0]
    for (count, shares) in [(4, true), (1, false), (2, false)] {
      let others = train(
        as: Double.self, processes: count, steps: 11, sharesMoments: shares,
        prepare: { run, _ in
          let history = try stored.restore(run, identity)
          #expect(history.records.count == 7)
        })
      for (found, expected) in zip(others[count - 1].records, whole.records[7...]) {
        #expect(abs(found.loss - expected.loss) <= 1e-12)
        #expect(abs(found.gradientNorm - expected.gradientNorm) <= 1e-12)
      }
      #expect(others[count - 1].records.count == 4)
    }
  }

  @Test("What fails in one process ends all of them, and that one says why")
  func failure() {
    let outcomes = LocalProcesses.run(3) { process in
      do throws(Refusal) {
        try process.together { () throws(Refusal) in
          if process.rank == 1 { throw Refusal(.output, file: "out", "cannot be written") }
        }
        return ""
      } catch {
        return "\(process.reportingRank) \(error.category) \(error)"
      }
    }
    #expect(
      outcomes == [
        "1 output process 1 says why", "1 output out: cannot be written", "1 output process 1 says why",
      ])
  }

  @Test("More processes than micro-batches are refused by all")
  func tooMany() {
    let outcomes = train(as: Float.self, processes: 5, steps: 1)
    for outcome in outcomes {
      #expect(
        outcome.refusal?.description
          == "'micro_batches': expected one for each of the 5 processes, found 4; start fewer processes, or cut a step into more micro-batches"
      )
    }
  }

  @Test("A process with other parameters than the rest is found")
  func mismatch() {
    let outcomes = train(
      as: Double.self, processes: 2, steps: 2,
      prepare: { run, _ in if run.processes.rank == 1 { run.parameters.allValues[40] += 1e-9 } })
    #expect(
      outcomes.allSatisfy { $0.refusal?.problem == "process 1 holds other parameters than process 0" })
  }

  @Test(
    "How many processes there are is in the variables of their launcher",
    arguments: [
      ([:], nil), (["OMPI_COMM_WORLD_SIZE": "4"], 4), (["PMI_SIZE": "2"], 2),
      (["PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "8"], 8), (["PMIX_RANK": "0"], 1),
    ] as [([String: String], Int?)])
  func launchers(environment: [String: String], count: Int?) {
    #expect(LaunchedProcesses.launchedCount(environment) == count)
  }
}

/// Processes that are threads of this one.
final class LocalProcesses: ProcessGroup {
  /// What all of them say, and who has taken it.
  private final class Exchange: Sendable {
    private let condition = NSCondition()
    private struct State {
      var said: [Int: [UInt8]] = [:]
      var takenCount = 0
    }
    private let state = Mutex(State())

    /// Hands what every process says to every process.
    func exchange(_ bytes: [UInt8], of rank: Int, among count: Int) -> [[UInt8]] {
      condition.lock()
      defer { condition.unlock() }
      while state.withLock({ $0.said[rank] != nil }) { condition.wait() }
      state.withLock { $0.said[rank] = bytes }
      condition.broadcast()
      while state.withLock({ $0.said.count < count }) { condition.wait() }
      return state.withLock { state in
        let all = (0..<count).map { state.said[$0] ?? [] }
        state.takenCount += 1
        if state.takenCount == count { state = State() }
        condition.broadcast()
        return all
      }
    }
  }

  let rank: Int
  let count: Int
  var neighbourCount: Int { count }
  private let exchange: Exchange
  private let reporter = Atomic(0)

  private init(rank: Int, count: Int, exchange: Exchange) {
    (self.rank, self.count, self.exchange) = (rank, count, exchange)
  }

  /// Runs `body` in so many of them at the same time.
  static func run<Result: Sendable>(
    _ count: Int, _ body: @Sendable @escaping (LocalProcesses) -> Result
  ) -> [Result] {
    let exchange = Exchange()
    let results = Mutex<[Int: Result]>([:])
    let group = DispatchGroup()
    for rank in 0..<count {
      group.enter()
      let thread = Thread {
        let result = body(LocalProcesses(rank: rank, count: count, exchange: exchange))
        results.withLock { $0[rank] = result }
        group.leave()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    return results.withLock { results in (0..<count).compactMap { results[$0] } }
  }

  private func add<Number: BinaryFloatingPoint>(up numbers: UnsafeMutableBufferPointer<Number>) {
    let all = exchange.exchange(Array(UnsafeRawBufferPointer(numbers)), of: rank, among: count)
    for index in numbers.indices {
      numbers[index] = all.reduce(0) { sum, bytes in
        sum
          + bytes.withUnsafeBytes {
            $0.loadUnaligned(fromByteOffset: index * MemoryLayout<Number>.stride, as: Number.self)
          }
      }
    }
  }

  func sum(_ numbers: UnsafeMutableBufferPointer<Double>) { add(up: numbers) }

  func sum(_ numbers: UnsafeMutableBufferPointer<Float>) { add(up: numbers) }

  func send(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) {
    let all = exchange.exchange(rank == root ? Array(bytes) : [], of: rank, among: count)
    bytes.copyBytes(from: all[root])
  }

  func wait() { _ = exchange.exchange([], of: rank, among: count) }

  var reportingRank: Int { reporter.load(ordering: .relaxed) }

  func setReporter(_ rank: Int) { reporter.store(rank, ordering: .relaxed) }

  func leave() { wait() }
}
