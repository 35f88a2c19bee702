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
  package var workers = Workers.all

  public init(reference: String, candidate: String) {
    self.reference = reference
    self.candidate = candidate
  }

  /// What was found.
  public struct Report: Sendable, Encodable {
    public let reference: String
    public let candidate: String
    /// The candidate against the reference, both in double precision: what is left where no weight was rounded.
    package let double: Comparison.Outcome
    /// The candidate in single precision against the reference in double precision.
    package let single: Comparison.Outcome
    /// What rounding alone does to the reference on the same tokens.
    package let noise: Comparison.Outcome
    /// On ``single``.
    package let limits: Limits
    /// Both in single precision, on the probes that are run in no other.
    package let long: Verification.LongOutcome?
    public let largestLogit: Double
    /// Whether the logits of each position may all be off by one constant.
    public let isUpToShift: Bool
    public let tokenCount: Int
    public let probes: [String]
    public let overflows: [String]
    public let warnings: [String]
    public let holds: Bool
  }

  public func run(progress: ConversionProgress.Handler = { _ in }) throws(Refusal) -> Report {
    let source = try Model(opening: reference, options: readingOptions)
    let other = try Model(opening: candidate, options: readingOptions)
    let network = other.literalNetwork ?? other.network
    let probes = try probeOptions.probes(for: source, at: reference)
    let verification = try Verification(
      source: source.network, named: reference, literal: nil,
      written: [
        .init(target: candidate, folded: network, model: .network(network), type: .f32, isUpToShift: isUpToShift)
      ], probes: probes, workers: workers
    ) { done, total in
      progress(ConversionProgress(stage: .verifying, subject: "logits", done: done, total: total, unit: "steps"))
    }
    try source.checkpoint.requireIntact()
    try other.checkpoint.requireIntact()
    let claims = verification.targets[0]
    let unmeasured = Storage(of: network).typesWithoutRounding.map(\.displayName).sorted()
    return Report(
      reference: reference, candidate: candidate, double: claims.algebra, single: claims.written, noise: claims.noise,
      limits: claims.limits, long: claims.long, largestLogit: verification.largestLogit, isUpToShift: isUpToShift,
      tokenCount: verification.tokenCount, probes: verification.probes, overflows: verification.overflows,
      warnings: source.warnings + other.warnings
        + unmeasured.map { "what storing the reference as \($0) costs is not known, so the limits leave it out" },
      holds: claims.arithmeticHolds)
  }
}
