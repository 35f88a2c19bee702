import Formats
import Networks
import Verify

/// Whether two checkpoints compute the same logits: the candidate in single precision, held against the reference's own
/// rounding noise.
public struct VerificationRun: Sendable {
  public var reference: String
  public var candidate: String
  /// Whether the logits of each position may all be off by one constant, which no probability can see.
  public var isUpToShift = false
  package var readingOptions = ReadingOptions()
  package var probeOptions = ProbeOptions()

  public init(reference: String, candidate: String) {
    self.reference = reference
    self.candidate = candidate
  }

  /// What was found.
  public struct Report: Sendable, Encodable {
    public let reference: String
    public let candidate: String
    package let double: Comparison.Outcome
    package let single: Comparison.Outcome
    package let noise: Comparison.Outcome
    public let limit: Double
    public let largestLogit: Double
    /// Whether the limit is on log-probabilities.
    public let isUpToShift: Bool
    public let probes: [String]
    public let overflows: [String]
    public let warnings: [String]
    public let holds: Bool
  }

  public func run(progress: ConversionProgress.Handler = { _ in }) throws(Refusal) -> Report {
    let source = try Model(opening: reference, options: readingOptions)
    let other = try Model(opening: candidate, options: readingOptions)
    let network = other.literalNetwork ?? other.network
    let storage = Storage(of: network).ofFoldedWeights
    let rounding = storage.isSinglePrecision ? nil : storage
    let unmeasured = storage.typesWithoutRounding.map(\.displayName).sorted()
    let probes = probeOptions.probes(for: source)
    var noise = Comparison.Contender(
      name: reference, network: source.network, precision: .single, rounding: rounding)
    noise.isReference = true
    let comparison = try Comparison(
      of: [
        .init(name: candidate, network: network, precision: .double),
        .init(name: candidate, network: network, precision: .single), noise,
      ],
      with: .init(name: reference, network: source.network, precision: .double), on: probes
    ) { done, total in
      progress(ConversionProgress(stage: .verifying, subject: "logits", done: done, total: total, unit: "steps"))
    }
    try source.checkpoint.requireIntact()
    try other.checkpoint.requireIntact()
    let outcomes = comparison.outcomes
    let limit = Verification.noiseFactor * outcomes[2].logits.largest(upToShift: isUpToShift)
    return Report(
      reference: reference, candidate: candidate, double: outcomes[0], single: outcomes[1], noise: outcomes[2],
      limit: limit, largestLogit: comparison.largestLogit, isUpToShift: isUpToShift,
      probes: probes.map { "\($0.name) (\($0.tokens.count))" },
      overflows: comparison.overflows,
      warnings: source.warnings + other.warnings
        + unmeasured.map { "what storing the reference as \($0) costs is not known, so the limit leaves it out" },
      holds: outcomes[1].logits.isWithin(limit, upToShift: isUpToShift))
  }
}
