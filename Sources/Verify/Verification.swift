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

  package struct ArithmeticClaim: Sendable, Codable {
    package var target: String
    /// The written file against the source in double precision.
    package var written: Comparison.Outcome
    /// The source in the same precision, its weights rounded to the same type, against itself in double precision.
    package var noise: Comparison.Outcome
    /// On ``LogitDifference/largest``.
    package var limit: Double
    package var holds: Bool
  }

  package var algebra: Comparison.Outcome
  package var algebraHolds: Bool
  /// How far the source as its own runtime computes it (with its large epsilon) is from the fixed norms that it means.
  package var literal: Comparison.Outcome?
  package var arithmetic: [ArithmeticClaim]
  package var overflows: [String]
  package var largestLogit: Double
  package var tokenCount: Int
  package var probes: [String]

  package var holds: Bool { algebraHolds && arithmetic.allSatisfy(\.holds) }

  /// A file that was written, opened again.
  package struct Written: Sendable {
    package let target: String
    /// As its runtime will compute it.
    package let network: Network
    /// The type its matrices are stored in.
    package let type: ElementType

    package init(target: String, network: Network, type: ElementType) {
      self.target = target
      self.network = network
      self.type = type
    }
  }

  /// - Parameters:
  ///   - source: the network that the input means.
  ///   - literal: the network that the input's own runtime computes, where that differs.
  ///   - folded: the recipes that were written, before any rounding.
  ///   - written: what was read back from the files.
  /// - Throws: what the networks throw, and `.nonFinite` where the source overflows on every token.
  package init(
    source: Network, literal: Network?, folded: Network, written: [Written], probes: [Probe],
    progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    var contenders = [Comparison.Contender(name: "the folded network", network: folded, precision: .double)]
    if let literal { contenders.append(.init(name: "the source as stored", network: literal, precision: .double)) }
    let types = written.reduce(into: [ElementType]()) { if !$0.contains($1.type) { $0.append($1.type) } }
    let noiseStart = contenders.count
    contenders += types.map {
      .init(name: "the source in single precision", network: source, precision: .single, rounding: $0 == .f32 ? nil : $0)
    }
    let writtenStart = contenders.count
    contenders += written.map { .init(name: $0.target, network: $0.network, precision: .single) }
    let comparison = try Comparison(
      of: contenders, with: .init(name: "the source", network: source, precision: .double), on: probes,
      progress: progress)
    let outcomes = comparison.outcomes
    algebra = outcomes[0]
    algebraHolds =
      outcomes[0].logits.relative <= Self.algebraLimit && outcomes[0].logits.nonFiniteTokenCount == 0
      && outcomes[0].logits.tokenCount > 0
    self.literal = literal == nil ? nil : outcomes[1]
    arithmetic = written.enumerated().map { index, file in
      let noise = outcomes[noiseStart + (types.firstIndex(of: file.type) ?? 0)]
      let outcome = outcomes[writtenStart + index]
      let limit = Self.noiseFactor * noise.logits.largest
      return ArithmeticClaim(
        target: file.target, written: outcome, noise: noise, limit: limit,
        holds: outcome.logits.largest <= limit && outcome.logits.nonFiniteTokenCount <= noise.logits.nonFiniteTokenCount)
    }
    overflows = comparison.overflows
    largestLogit = comparison.largestLogit
    tokenCount = outcomes[0].logits.tokenCount + outcomes[0].logits.nonFiniteTokenCount
    self.probes = probes.map { "\($0.name) (\($0.tokens.count))" }
  }
}
