import Formats
import Networks

/// The three claims of a conversion, each with its numbers.
///
/// 1. *Algebra.* The source and the folded network, both in double precision, differ by rounding only.
/// 2. *File.* What was written holds, bit for bit, what was meant (``FileClaim``).
/// 3. *Arithmetic.* The written file, run in the precision that it is for, is as close to the source in double
///    precision as the source itself is in that precision, on the same tokens: the limit is measured, not picked.
package struct Verification: Sendable, Codable {
  /// The limit of the algebra claim, over the largest logit. Double rounding through the deepest GPT-2 stays
  /// four orders below it, a wrong fold eight above.
  package static let algebraLimit = 1e-9
  /// How many times the source's own rounding noise the written file may be off. Both are extremes of the same
  /// kind of noise over the same tokens; over the fixtures their ratio stays below 2.
  package static let noiseFactor = 4.0

  /// What holds of one output.
  package struct TargetClaims: Sendable, Codable {
    package var target: String
    /// The folded network against the source, both in double precision.
    package var algebra: Comparison.Outcome
    package var algebraHolds: Bool
    /// The written file against the source in double precision.
    package var written: Comparison.Outcome
    /// The source in the same precision, its weights rounded to the same type, against itself in double precision.
    package var noise: Comparison.Outcome
    /// On the ``LogitDifference/largest`` of ``written``, or what stands for it.
    package var limit: Double
    package var arithmeticHolds: Bool
    /// Whether the logits of each position may all be off by one constant, which no probability can see: the limits are
    /// then on ``LogitDifference/largestLogProbability``.
    package var isUpToShift: Bool
  }

  package var targets: [TargetClaims]
  /// How far the source as its own runtime computes it (with its large epsilon) is from the fixed norms that it means.
  package var literal: Comparison.Outcome?
  /// Tokens on which the source itself overflows.
  package var overflows: [String]
  package var largestLogit: Double
  package var tokenCount: Int
  package var probes: [String]

  package var holds: Bool { !targets.isEmpty && targets.allSatisfy { $0.algebraHolds && $0.arithmeticHolds } }

  /// Files that were written, opened again.
  package struct Written: Sendable {
    package let target: String
    /// The recipes that were written, before any rounding.
    package let folded: Network
    package let model: WrittenModel
    /// The type its matrices are stored in.
    package let type: ElementType
    /// Whether the logits of each position may differ from the source's by a constant.
    package let isUpToShift: Bool

    package init(
      target: String, folded: Network, model: WrittenModel, type: ElementType, isUpToShift: Bool = false
    ) {
      self.target = target
      self.folded = folded
      self.model = model
      self.type = type
      self.isUpToShift = isUpToShift
    }
  }

  /// Programs are computed node by node, without SIMD or BLAS: their probes are cut to this many tokens.
  private static let programProbeLength = 16

  /// - Parameters:
  ///   - source: the network that the input means.
  ///   - literal: the network that the input's own runtime computes, where that differs.
  /// - Throws: what the networks throw; `.nonFinite` where the source overflows on every token.
  package init(
    source: Network, literal: Network?, written: [Written], probes: [Probe],
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let reference = Comparison.Contender(name: "the source", network: source, precision: .double)
    let types = written.reduce(into: [ElementType]()) { if !$0.contains($1.type) { $0.append($1.type) } }
    /// The source in single precision, its weights rounded as the written ones are.
    let noises = types.map { type in
      Comparison.Contender(
        name: "the source", network: source, precision: .single, rounding: type == .f32 ? nil : type)
    }
    let networks = written.compactMap { file -> Comparison.Contender? in
      guard case .network(let network) = file.model else { return nil }
      return .init(name: file.target, network: network, precision: .single)
    }
    let programs = written.compactMap { file -> Comparison.Contender? in
      guard case .program(let program) = file.model else { return nil }
      return .init(name: file.target, program: program)
    }
    let folded = written.map {
      Comparison.Contender(name: "the folded network", network: $0.folded, precision: .double)
    }
    let stored = literal.map { Comparison.Contender(name: "the source as stored", network: $0, precision: .double) }
    let whole = try Comparison(
      of: folded + networks + noises + (stored.map { [$0] } ?? []), with: reference, on: probes, progress: progress)
    let short =
      programs.isEmpty
      ? nil
      : try Comparison(
        of: programs + noises, with: reference,
        on: probes.map { Probe(name: $0.name, tokens: Array($0.tokens.prefix(Self.programProbeLength))) })

    var networkOutcomes = whole.outcomes[written.count...][..<(written.count + networks.count)]
    var programOutcomes = (short?.outcomes ?? [])[..<programs.count]
    targets = written.enumerated().map { index, file in
      let type = types.firstIndex(of: file.type) ?? 0
      let algebra = whole.outcomes[index]
      let outcome: Comparison.Outcome
      let noise: Comparison.Outcome
      switch file.model {
      case .network:
        outcome = networkOutcomes.removeFirst()
        noise = whole.outcomes[written.count + networks.count + type]
      case .program:
        outcome = programOutcomes.removeFirst()
        noise = short?.outcomes[programs.count + type] ?? outcome
      }
      let isUpToShift = file.isUpToShift
      let limit = Self.noiseFactor * noise.logits.largest(upToShift: isUpToShift)
      return TargetClaims(
        target: file.target, algebra: algebra,
        algebraHolds: algebra.logits.isWithin(Self.algebraLimit * whole.largestLogit, upToShift: isUpToShift),
        written: outcome, noise: noise, limit: limit,
        arithmeticHolds: outcome.logits.isWithin(limit, upToShift: isUpToShift), isUpToShift: isUpToShift)
    }
    self.literal = literal == nil ? nil : whole.outcomes.last
    overflows = whole.overflows
    largestLogit = whole.largestLogit
    tokenCount = probes.reduce(0) { $0 + $1.tokens.count } - overflows.count
    self.probes = probes.map { "\($0.name) (\($0.tokens.count))" }
    guard tokenCount > 0 else {
      throw Refusal(
        .nonFinite,
        "the source's own logits are NaN or infinite on every probe, so there is nothing to hold a conversion against",
        advice: "check the source")
    }
  }
}

extension LogitDifference {
  /// The largest difference that counts: of any logit, or, where the logits of a position may all shift by one constant,
  /// of any log-probability.
  package func largest(upToShift: Bool) -> Double { upToShift ? largestLogProbability : largest }

  /// Whether every judged token is finite and within `limit`. NaN is not within anything.
  package func isWithin(_ limit: Double, upToShift: Bool = false) -> Bool {
    tokenCount > 0 && nonFiniteTokenCount == 0 && largest(upToShift: upToShift) <= limit
  }
}
