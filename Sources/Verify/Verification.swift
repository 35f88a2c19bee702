import Arithmetic
import Formats
import Networks

/// The claims of a conversion, each with its numbers.
///
/// 1. *Parts.* Every part of what was written computes what the same part of the source does, up to the rounding of its
///    type, for every input (``PartsClaim``).
/// 2. *Algebra.* The source and the folded network, both in double precision, differ by rounding only.
/// 3. *File.* What was written holds, bit for bit, what was meant; whoever wrote it has checked that.
/// 4. *Run.* The written file, run in the precision that it is for, is as close to the source in double precision as the
///    source itself is in that precision, its matrices rounded to the types of the file: the limits (on logits,
///    Kullback-Leibler divergence and top-1 tokens) are measured on the precise probes, not picked. A program is run on one
///    of them, and so is the source that it is measured by.
package struct Verification: Sendable, Encodable {
  /// The limit of the algebra claim, over the largest logit. Double rounding through the deepest GPT-2 stays
  /// four orders below it, a wrong fold eight above.
  package static let algebraLimit = 1e-9

  /// What holds of one output.
  package struct TargetClaims: Sendable, Encodable {
    package var target: String
    /// The numbers: ``Judgement/double`` of the folded network, ``Judgement/single`` of the written file.
    package var judgement: Judgement
    package var partsHold: Bool
    package var algebraHolds: Bool
    package var arithmeticHolds: Bool

    package var holds: Bool { partsHold && algebraHolds && arithmeticHolds }

    private enum CodingKeys: String, CodingKey {
      case target, parts, partsHold, algebra, algebraHolds, written, noise, limits, holdsSourceMatrices,
        arithmeticHolds, isUpToShift,
        long
    }

    package func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(target, forKey: .target)
      try container.encodeIfPresent(judgement.parts, forKey: .parts)
      try container.encode(partsHold, forKey: .partsHold)
      try container.encode(judgement.double, forKey: .algebra)
      try container.encode(algebraHolds, forKey: .algebraHolds)
      try container.encode(judgement.single, forKey: .written)
      try container.encode(judgement.noise, forKey: .noise)
      try container.encode(judgement.limits, forKey: .limits)
      try container.encode(judgement.holdsReferenceMatrices, forKey: .holdsSourceMatrices)
      try container.encode(arithmeticHolds, forKey: .arithmeticHolds)
      try container.encode(judgement.isUpToShift, forKey: .isUpToShift)
      try container.encodeIfPresent(judgement.long, forKey: .long)
    }
  }

  package var targets: [TargetClaims]
  /// How far the source as its own runtime computes it (with its large epsilon) is from the fixed norms that it means.
  package var literal: Comparison.Outcome?
  /// The tokens on which the source itself overflows.
  package var overflows: [String]
  package var largestLogit: Double
  package var tokenCount: Int
  package var probes: [String]

  package var holds: Bool { !targets.isEmpty && targets.allSatisfy(\.holds) }

  /// - Parameters:
  ///   - source: the network that the input means.
  ///   - name: what messages call it.
  ///   - literal: the network that the input's own runtime computes, where that differs.
  ///   - written: the files that were written, opened again.
  /// - Throws: what judging throws.
  package init(
    source: Network, named name: String = "the source", literal: Network?, written: [Judgement.Candidate],
    probes: ProbeSet, workers: Workers = .all, progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let found = try Judgements(
      of: written, against: source, named: name, literal: literal, on: probes, workers: workers, progress: progress)
    targets = zip(written, found.judgements).map { file, judgement in
      TargetClaims(
        target: file.name, judgement: judgement, partsHold: judgement.partsHold,
        algebraHolds: judgement.double.logits.isWithin(
          Self.algebraLimit * found.largestLogit, upToShift: file.isUpToShift),
        arithmeticHolds: judgement.runHolds)
    }
    self.literal = found.literal
    overflows = found.overflows
    largestLogit = found.largestLogit
    tokenCount = found.tokenCount
    self.probes = found.probes
  }
}
