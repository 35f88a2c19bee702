import Formats
import Networks
import Numerics
import Synchronization

/// Runs several networks through the same probes in step and compares each with the first.
package struct Comparison: Sendable {
  /// What takes part.
  package struct Contender: Sendable {
    package enum Precision: String, Sendable, Codable {
      case single, double
    }

    enum Kind {
      /// Matrices and embeddings are rounded to `rounding` before use.
      case network(Network, Precision, rounding: Storage?)
      case program(any LogitProgram)
    }

    package let name: String
    /// Whether this is the reference again, in the precision of others: where it overflows, they are not judged.
    package var isReference = false
    /// The place of the one probe that it is run on; nil for all.
    package var onlyProbe: Int?
    let kind: Kind

    /// - Parameter rounding: rounds matrices and embeddings to these types before use.
    package init(name: String, network: Network, precision: Precision, rounding: Storage? = nil) {
      self.name = name
      kind = .network(network, precision, rounding: rounding)
    }

    package init(name: String, program: any LogitProgram) {
      self.name = name
      kind = .program(program)
    }

    package var vocabularySize: Int {
      switch kind {
      case .network(let network, _, _): network.dimensions.vocabularySize
      case .program(let program): program.vocabularySize
      }
    }

    /// Whether it is a network in single precision.
    var isSingle: Bool { if case .network(_, .single, _) = kind { true } else { false } }

    /// Positions that it can be run on; nil where nothing says.
    package var contextLength: Int? {
      if case .network(let network, _, _) = kind { network.dimensions.contextLength } else { nil }
    }

    /// - Parameter otherNorms: the norms of tokens that have others than the network.
    package func run(on probes: [Probe], otherNorms: [NormsOfRows] = [], workers: Workers) -> any NetworkRun {
      switch kind {
      case .network(let network, .single, let rounding):
        ScalarRun<Float>(network, probes: probes, rounding: rounding, otherNorms: otherNorms)
      case .network(let network, .double, let rounding):
        ScalarRun<Double>(network, probes: probes, rounding: rounding, otherNorms: otherNorms)
      case .program(let program): ProgramRun(program, probes: probes, workers: workers)
      }
    }
  }

  /// Which contenders are to be held against which reference, and on what.
  package struct Question: Sendable {
    package var contenders: [Contender]
    package var reference: Contender
    package var probes: [Probe]

    package init(of contenders: [Contender], with reference: Contender, on probes: [Probe]) {
      self.contenders = contenders
      self.reference = reference
      self.probes = probes
    }
  }

  /// What came of one contender, held against the reference.
  package struct Outcome: Sendable, Codable {
    package var logits: LogitDifference
    package var residuals: [ResidualDifference]
  }

  /// A token on which the reference itself gives NaN or infinity.
  package struct Overflow: Sendable, CustomStringConvertible {
    package let probe: String
    package let position: Int

    package var description: String { "\(probe), position \(position)" }
  }

  /// By contender, in the order given, without the reference.
  package let outcomes: [Outcome]
  /// In a precision that it was run in. These tokens are named and not judged.
  package let overflows: [Overflow]
  /// The largest |logit| of the reference.
  package let largestLogit: Double

  /// Logits of this many vocabulary entries are in memory at a time.
  private static let vocabularyBlock = 2_048

  /// - Parameters:
  ///   - reference: what the others are held against.
  ///   - progress: called with the number of steps done and to do, from any thread.
  /// - Throws: what the networks throw; `.unsupported` where two networks cannot be compared.
  package init(
    of contenders: [Contender], with reference: Contender, on probes: [Probe], workers: Workers = .all,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let question = Question(of: contenders, with: reference, on: probes)
    self = try Self.answers(to: [question], workers: workers, progress: progress)[0]
  }

  private init(_ tokens: TokenStatistics, residuals: [[ResidualDifference]]) {
    outcomes = zip(tokens.differences, residuals).map { Outcome(logits: $0, residuals: $1) }
    overflows = tokens.overflows
    largestLogit = tokens.largestLogit
  }

  /// Several comparisons in one go: what they have in common is computed once.
  package static func answers(
    to questions: [Question], workers: Workers = .all,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) -> [Comparison] {
    precondition(Set(questions.map(\.reference.vocabularySize)).count <= 1, "networks of several vocabularies")
    for question in questions { try question.requireSense() }
    var passes = SharedPasses()
    let asked = Mutex(questions.map { Asked($0, in: &passes) })
    let runs = passes.runs(workers: workers)
    // Nobody is left behind with a file that goes away.
    defer { for run in runs { run.wait() } }
    let depth = runs.map(\.blockCount).max() ?? 0
    let vocabularySize = questions.map(\.reference.vocabularySize).max() ?? 0
    let vocabularySteps = (vocabularySize + Self.vocabularyBlock - 1) / Self.vocabularyBlock
    let total = depth + 2 + vocabularySteps

    // Of each depth, until all have come to it.
    let residuals = Mutex([[MatrixRows?]](repeating: runs.map { _ in nil }, count: depth + 1))
    try Convoy(costs: runs.map(\.cost), stageCount: depth + 2).travel(workers: workers) {
      (index, stage) throws(Refusal) in
      let run = runs[index]
      switch stage {
      case 0: try run.embed()
      case depth + 1: return try run.finish()
      default: if stage <= run.blockCount { try run.run(block: stage - 1) }
      }
      let residual = run.residual
      residuals.withLock { $0[stage][index] = residual }
    } arrive: { stage in
      if stage <= depth {
        let rows = residuals.withLock { all in
          defer { all[stage] = [] }
          return all[stage]
        }
        asked.withLock { asked in
          for index in asked.indices { asked[index].compareResiduals(rows, of: runs, depth: stage) }
        }
      }
      progress(stage + 1, total)
    }

    // The slow ones first, so that no thread waits long for the last.
    let order = runs.indices.sorted { runs[$0].cost > runs[$1].cost }
    for (step, start) in stride(from: 0, to: vocabularySize, by: Self.vocabularyBlock).enumerated() {
      let range = start..<min(start + Self.vocabularyBlock, vocabularySize)
      let logits = Mutex([MatrixRows?](repeating: nil, count: runs.count))
      workers.forEach(order.count) { index in
        let block = runs[order[index]].logits(of: range)
        logits.withLock { $0[order[index]] = block }
      }
      let blocks = logits.withLock { $0.compactMap(\.self) }
      asked.withLock { asked in
        for index in asked.indices { asked[index].tokens.add(blocks, range: range, workers: workers) }
      }
      progress(depth + 3 + step, total)
    }
    return asked.withLock { $0.map { Comparison($0.tokens, residuals: $0.residuals) } }
  }
}

/// A question, and what is known of its answer.
private struct Asked {
  /// The reference first.
  let seats: [SharedPasses.Seat]
  var tokens: TokenStatistics
  /// By contender.
  var residuals: [[ResidualDifference]]

  init(_ question: Comparison.Question, in passes: inout SharedPasses) {
    seats = ([question.reference] + question.contenders).map { passes.seat($0, on: question.probes) }
    tokens = TokenStatistics(question, seats: seats)
    residuals = question.contenders.map { _ in [] }
  }

  /// Only networks of one depth have residual streams that correspond.
  /// - Parameter streams: by pass, where it has one.
  mutating func compareResiduals(_ streams: [MatrixRows?], of runs: [any NetworkRun], depth: Int) {
    let (own, rows) = (seats[0].pass, seats[0].rows)
    guard let reference = streams[own], depth <= runs[own].blockCount else { return }
    let magnitude = reference.largestMagnitude(rows: rows)
    for (index, seat) in seats.dropFirst().enumerated() {
      guard runs[seat.pass].blockCount == runs[own].blockCount, let candidate = streams[seat.pass],
        candidate.columnCount == reference.columnCount
      else { continue }
      let first = rows.lowerBound + seat.tokens.lowerBound
      let largest = reference.largestDifference(
        rows: first..<first + seat.tokens.count, from: candidate, rows: seat.rows)
      residuals[index].append(
        ResidualDifference(depth: depth, largest: largest, relative: magnitude > 0 ? largest / magnitude : 0))
    }
  }
}

extension Comparison.Question {
  /// - Throws: `.unsupported` where two networks cannot be compared.
  fileprivate func requireSense() throws(Refusal) {
    let vocabularySize = reference.vocabularySize
    for contender in contenders where contender.vocabularySize != vocabularySize {
      throw Refusal(
        .unsupported,
        "\(contender.name) has a vocabulary of \(contender.vocabularySize), \(reference.name) of \(vocabularySize)",
        advice: "only networks with the same vocabulary can be compared")
    }
    let end = probes.flatMap(\.positions).reduce(0) { max($0, $1 + 1) }
    for contender in [reference] + contenders {
      guard let context = contender.contextLength, context < end else { continue }
      throw Refusal(
        .unsupported, "\(contender.name) has a context of \(context) tokens, the probes have \(end) positions",
        advice: "give --probe-length \(context) or less")
    }
  }
}
