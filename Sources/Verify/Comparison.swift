import Dispatch
import Formats
import Networks
import Numerics
import Synchronization

extension Double {
  var exponential: Double { .exp(self) }
  var logarithm: Double { .log(self) }
}

/// Runs several networks through the same probes in step and compares each with the first.
package struct Comparison: Sendable {
  /// What takes part.
  package struct Contender: Sendable {
    package enum Precision: String, Sendable, Codable {
      case single, double
    }

    private enum Kind {
      /// Matrices and embeddings are rounded to `rounding` before use.
      case network(Network, Precision, rounding: Storage?)
      case program(any LogitProgram)
    }

    package let name: String
    /// Whether this is the reference again, in the precision of others: where it overflows, they are not judged.
    package var isReference = false
    private let kind: Kind

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

    /// Positions that it can be run on; nil where nothing says.
    package var contextLength: Int? {
      if case .network(let network, _, _) = kind { network.dimensions.contextLength } else { nil }
    }

    func run(on probes: [Probe]) -> any NetworkRun {
      switch kind {
      case .network(let network, .single, let rounding):
        ScalarRun<Float>(network, probes: probes, rounding: rounding)
      case .network(let network, .double, let rounding):
        ScalarRun<Double>(network, probes: probes, rounding: rounding)
      case .program(let program): ProgramRun(program, probes: probes)
      }
    }
  }

  /// What came of one contender, held against the reference.
  package struct Outcome: Sendable, Codable {
    package var logits: LogitDifference
    package var residuals: [ResidualDifference]
  }

  /// By contender, in the order given, without the reference.
  package let outcomes: [Outcome]
  /// Tokens on which the reference itself gives NaN or infinity, in a precision that it was run in: they are named and not
  /// judged.
  package let overflows: [String]
  /// The largest |logit| of the reference.
  package let largestLogit: Double

  /// Logits of this many vocabulary entries are in memory at a time.
  private static let vocabularyBlock = 2_048

  /// - Parameters:
  ///   - reference: what the others are held against.
  ///   - progress: called with the number of steps done and to do, from any thread.
  /// - Throws: what the networks throw; `.unsupported` where two networks cannot be compared.
  package init(
    of contenders: [Contender], with reference: Contender, on probes: [Probe],
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let vocabularySize = reference.vocabularySize
    for contender in contenders where contender.vocabularySize != vocabularySize {
      throw Refusal(
        .unsupported,
        "\(contender.name) has a vocabulary of \(contender.vocabularySize), \(reference.name) of \(vocabularySize)",
        advice: "only networks with the same vocabulary can be compared")
    }
    let longest = probes.map(\.tokens.count).max() ?? 0
    for contender in [reference] + contenders {
      guard let context = contender.contextLength, context < longest else { continue }
      throw Refusal(
        .unsupported, "\(contender.name) has a context of \(context) tokens, the longest probe \(longest)",
        advice: "give --probe-length \(context) or less")
    }
    let runs = ([reference] + contenders).map { $0.run(on: probes) }
    let depth = runs.map(\.blockCount).max() ?? 0
    let vocabularySteps = (vocabularySize + Self.vocabularyBlock - 1) / Self.vocabularyBlock
    let total = depth + 2 + vocabularySteps
    var residuals: [[ResidualDifference]] = contenders.map { _ in [] }

    try concurrently(runs.count) { (index) throws(Refusal) in try runs[index].embed() }
    Self.compareResiduals(runs, depth: 0, into: &residuals)
    progress(1, total)
    for block in 0..<depth {
      try concurrently(runs.count) { (index) throws(Refusal) in
        if block < runs[index].blockCount { try runs[index].run(block: block) }
      }
      Self.compareResiduals(runs, depth: block + 1, into: &residuals)
      progress(block + 2, total)
    }
    try concurrently(runs.count) { (index) throws(Refusal) in try runs[index].finish() }
    progress(depth + 2, total)

    var tokens = TokenStatistics(
      probes: probes, contenderCount: contenders.count,
      references: contenders.indices.filter { contenders[$0].isReference })
    for (step, start) in stride(from: 0, to: vocabularySize, by: Self.vocabularyBlock).enumerated() {
      let range = start..<min(start + Self.vocabularyBlock, vocabularySize)
      let logits = Mutex([[Double]](repeating: [], count: runs.count))
      try concurrently(runs.count) { (index) throws(Refusal) in
        let values = runs[index].logits(of: range)
        logits.withLock { $0[index] = values }
      }
      tokens.add(logits.withLock { $0 }, range: range)
      progress(depth + 3 + step, total)
    }
    outcomes = zip(tokens.differences(), residuals).map { Outcome(logits: $0, residuals: $1) }
    overflows = tokens.overflows
    largestLogit = tokens.largestLogit
  }

  /// Only networks of one depth have residual streams that correspond.
  private static func compareResiduals(
    _ runs: [any NetworkRun], depth: Int, into differences: inout [[ResidualDifference]]
  ) {
    let reference = runs[0].residual
    // What the reference overflows on is not judged.
    let magnitude = reference.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
    for (index, run) in runs.dropFirst().enumerated() where run.blockCount == runs[0].blockCount {
      let candidate = run.residual
      guard candidate.count == reference.count else { continue }
      var largest = 0.0
      for (a, b) in zip(reference, candidate) where a.isFinite {
        // `max` would lose a NaN.
        largest = b.isFinite ? max(largest, abs(a - b)) : .infinity
        if largest == .infinity { break }
      }
      differences[index].append(
        ResidualDifference(depth: depth, largest: largest, relative: magnitude > 0 ? largest / magnitude : 0))
    }
  }
}

/// Statistics of every token of every run.
private struct TokenStatistics {
  let probes: [Probe]
  /// For each token: its probe, its position there, and the token that comes next.
  let places: [(probe: Probe, position: Int, next: Int?)]
  /// [run][token]
  var distributions: [[DistributionAccumulator]]
  /// [contender][token]
  var pairs: [[DifferenceAccumulator]]

  /// The contenders that are the reference again.
  let references: [Int]

  init(probes: [Probe], contenderCount: Int, references: [Int]) {
    self.probes = probes
    self.references = references
    places = probes.flatMap { probe in
      probe.tokens.indices.map { position in
        (probe, position, position + 1 < probe.tokens.count ? probe.tokens[position + 1] : nil)
      }
    }
    distributions = Array(repeating: Array(repeating: .init(), count: places.count), count: contenderCount + 1)
    pairs = Array(repeating: Array(repeating: .init(), count: places.count), count: contenderCount)
  }

  /// - Parameter logits: for each run, [T, range].
  mutating func add(_ logits: [[Double]], range: Range<Int>) {
    let width = range.count
    for token in places.indices {
      let slice = token * width..<(token + 1) * width
      for run in distributions.indices {
        logits[run].withUnsafeBufferPointer {
          distributions[run][token].add(
            UnsafeBufferPointer(rebasing: $0[slice]), first: range.lowerBound, target: places[token].next)
        }
      }
      guard distributions[0][token].isFinite else { continue }
      for contender in pairs.indices where distributions[contender + 1][token].isFinite {
        logits[0].withUnsafeBufferPointer { reference in
          logits[contender + 1].withUnsafeBufferPointer { candidate in
            pairs[contender][token].add(
              reference: UnsafeBufferPointer(rebasing: reference[slice]),
              candidate: UnsafeBufferPointer(rebasing: candidate[slice]), first: range.lowerBound,
              largestSoFar: distributions[0][token].largest)
          }
        }
      }
    }
  }

  /// The tokens on which the reference is finite in every precision that it was run in.
  var judged: [Int] { places.indices.filter(isJudged) }

  private func isJudged(_ token: Int) -> Bool {
    distributions[0][token].isFinite && references.allSatisfy { distributions[$0 + 1][token].isFinite }
  }

  var overflows: [String] {
    places.indices.filter { !isJudged($0) }.map {
      "\(places[$0].probe.name), position \(places[$0].position)"
    }
  }

  var largestLogit: Double { judged.reduce(0) { max($0, distributions[0][$1].largestMagnitude) } }

  func differences() -> [LogitDifference] { pairs.indices.map(difference) }

  private func difference(_ contender: Int) -> LogitDifference {
    let tokens = judged.filter { distributions[contender + 1][$0].isFinite }
    let count = Double(tokens.count)
    func shift(_ token: Int) -> Double { distributions[0][token].logSum - distributions[contender + 1][token].logSum }
    func largest(_ value: (Int) -> Double) -> Double { tokens.reduce(0) { max($0, value($1)) } }
    func mean(_ value: (Int) -> Double) -> Double { tokens.reduce(0) { $0 + value($1) } / count }
    func loss(_ run: Int) -> Double? {
      let losses = tokens.compactMap { distributions[run][$0].loss }
      return losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count)
    }
    let pair = pairs[contender]
    let worst = tokens.max { pair[$0].largest < pair[$1].largest }
    // With nothing to judge every number is NaN, and no limit holds.
    let nothing = tokens.isEmpty ? Double.nan : 0
    return LogitDifference(
      largest: largest { pair[$0].largest } + nothing,
      relative: largest { pair[$0].largest } / largestLogit + nothing,
      rootMeanSquare: mean { pair[$0].meanSquare }.squareRoot(),
      largestLogProbability: largest { pair[$0].largestLogProbability(shift: shift($0)) } + nothing,
      rootMeanSquareLogProbability: mean { pair[$0].meanSquareLogProbability(shift: shift($0)) }.squareRoot(),
      meanDivergence: mean { pair[$0].divergence(shift: shift($0)) },
      largestDivergence: largest { pair[$0].divergence(shift: shift($0)) } + nothing,
      topTokenAgreement: mean { distributions[0][$0].topToken == distributions[contender + 1][$0].topToken ? 1 : 0 },
      loss: loss(contender + 1), referenceLoss: loss(0),
      worst: .init(
        probe: worst.map { places[$0].probe.name } ?? "none", position: worst.map { places[$0].position } ?? 0,
        token: worst.map { pair[$0].worstToken } ?? 0, expected: worst.map { pair[$0].worstExpected } ?? .nan,
        found: worst.map { pair[$0].worstFound } ?? .nan),
      tokenCount: tokens.count, nonFiniteTokenCount: judged.count - tokens.count)
  }
}

/// Runs `body` for each index, on as many threads as there are cores.
/// - Throws: the error of the lowest index that threw.
package func concurrently(
  _ count: Int, _ body: @Sendable (Int) throws(Refusal) -> Void
) throws(Refusal) {
  let failures = Mutex<[Int: Refusal]>([:])
  DispatchQueue.concurrentPerform(iterations: count) { index in
    do throws(Refusal) { try body(index) } catch { failures.withLock { $0[index] = error } }
  }
  if let first = failures.withLock({ $0.min { $0.key < $1.key } }) { throw first.value }
}
