import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The claims of a conversion, each with its numbers.
///
/// 1. *Parts.* Every part of what was written computes what the same part of the source does, up to the rounding of its
///    type, for every input (`PartsClaim`).
/// 2. *Algebra.* The source and the folded network, both in double precision, differ by rounding only.
/// 3. *File.* What was written holds, bit for bit, what was meant; whoever wrote it has checked that.
/// 4. *Run.* The written file, run in the precision that it is for, is as close to the source in double precision as the
///    source itself is in that precision, its matrices rounded to the types of the file: the limits (on logits,
///    Kullback-Leibler divergence and top-1 tokens) are measured on the precise probes, not picked. A program is run on one
///    of them, and so is the source that it is measured by. A network may amplify the rounding of its weights by more than the
///    source does: where every part is proved, a file beyond the limits is held against its own weights in double precision,
///    and what rounding them did is reported.
///
///     if let verification = report.verification {
///       print(verification.holds, verification.tokenCount, verification.targets.map(\.algebraHolds))
///     }
public struct Verification: Sendable, Encodable {
  /// The limit of the algebra claim, over the largest logit. Double rounding through the deepest GPT-2 stays
  /// four orders below it, a wrong fold eight above.
  public static let algebraLimit = 1e-9

  /// The claims about one output, and whether each of them holds.
  public struct TargetClaims: Sendable, Encodable {
    public var target: String
    /// The numbers: ``Judgement/double`` of the folded network, ``Judgement/single`` of the written file.
    public var judgement: Judgement
    public var partsHold: Bool
    public var algebraHolds: Bool
    public var arithmeticHolds: Bool

    public var holds: Bool { partsHold && algebraHolds && arithmeticHolds }

    private enum CodingKeys: String, CodingKey {
      case target, parts, partsHold, algebra, algebraHolds, written, noise, limits, holdsSourceMatrices,
        arithmeticHolds, isUpToShift,
        long, ownWeights, overflow
    }

    public func encode(to encoder: any Encoder) throws {
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
      try container.encodeIfPresent(judgement.ownWeights, forKey: .ownWeights)
      try container.encodeIfPresent(judgement.overflow, forKey: .overflow)
    }
  }

  public var targets: [TargetClaims]
  /// The difference of the source, as its own runtime computes it (with its large epsilon), from the fixed norms that
  /// it means; nil where the two are the same.
  public var literal: NetworkDifference?
  /// The tokens on which the source itself overflows.
  public var overflows: [String]
  public var largestLogit: Double
  public var tokenCount: Int
  public var probes: [String]

  public var holds: Bool { !targets.isEmpty && targets.allSatisfy(\.holds) }

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
