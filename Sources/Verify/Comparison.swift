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

    private enum Kind {
      /// Matrices and embeddings are rounded to `rounding` before use.
      case network(Network, Precision, rounding: Storage?)
      case program(any LogitProgram)
    }

    package let name: String
    /// Whether this is the reference again, in the precision of others: where it overflows, they are not judged.
    package var isReference = false
    /// The place of the one probe that it is run on; nil for all.
    package var onlyProbe: Int?
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

    package func run(on all: [Probe], workers: Workers) -> any NetworkRun {
      let probes = onlyProbe.map { [all[$0]] } ?? all
      return switch kind {
      case .network(let network, .single, let rounding):
        ScalarRun<Float>(network, probes: probes, rounding: rounding)
      case .network(let network, .double, let rounding):
        ScalarRun<Double>(network, probes: probes, rounding: rounding)
      case .program(let program): ProgramRun(program, probes: probes, workers: workers)
      }
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
    let runs = ([reference] + contenders).map { $0.run(on: probes, workers: workers) }
    // The slow ones first, so that no thread waits long for the last.
    let order = runs.indices.sorted { runs[$0].cost > runs[$1].cost }
    let depth = runs.map(\.blockCount).max() ?? 0
    let vocabularySteps = (vocabularySize + Self.vocabularyBlock - 1) / Self.vocabularyBlock
    let total = depth + 2 + vocabularySteps
    var residuals: [[ResidualDifference]] = contenders.map { _ in [] }

    func inStep(_ body: @Sendable (any NetworkRun) throws(Refusal) -> Void) throws(Refusal) {
      try workers.forEach(order.count) { (index) throws(Refusal) in try body(runs[order[index]]) }
    }
    try inStep { (run) throws(Refusal) in try run.embed() }
    Self.compareResiduals(runs, depth: 0, into: &residuals)
    progress(1, total)
    for block in 0..<depth {
      try inStep { (run) throws(Refusal) in
        if block < run.blockCount { try run.run(block: block) }
      }
      Self.compareResiduals(runs, depth: block + 1, into: &residuals)
      progress(block + 2, total)
    }
    try inStep { (run) throws(Refusal) in try run.finish() }
    progress(depth + 2, total)

    var tokens = TokenStatistics(probes: probes, contenders: contenders)
    for (step, start) in stride(from: 0, to: vocabularySize, by: Self.vocabularyBlock).enumerated() {
      let range = start..<min(start + Self.vocabularyBlock, vocabularySize)
      let logits = Mutex([[Double]](repeating: [], count: runs.count))
      workers.forEach(order.count) { index in
        let values = runs[order[index]].logits(of: range)
        logits.withLock { $0[order[index]] = values }
      }
      tokens.add(logits.withLock { $0 }, range: range, workers: workers)
      progress(depth + 3 + step, total)
    }
    outcomes = zip(tokens.differences, residuals).map { Outcome(logits: $0, residuals: $1) }
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
