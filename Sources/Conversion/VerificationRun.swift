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
    package let double: Comparison.Outcome
    package let single: Comparison.Outcome
    package let noise: Comparison.Outcome
    /// Both in single precision, on the probes that are run in no other.
    package let long: Comparison.Outcome?
    public let limit: Double
    public let largestLogit: Double
    /// Whether the limit is on log-probabilities.
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
    let storage = Storage(of: network).ofFoldedWeights
    let rounding = storage.isSinglePrecision ? nil : storage
    let unmeasured = storage.typesWithoutRounding.map(\.displayName).sorted()
    let probes = try probeOptions.probes(for: source, at: reference)
    let tokenCount = probes.all.reduce(0) { $0 + $1.tokens.count }
    let double = Comparison.Contender(name: reference, network: source.network, precision: .double)
    let written = Comparison.Contender(name: candidate, network: network, precision: .single)
    var noise = Comparison.Contender(
      name: reference, network: source.network, precision: .single, rounding: rounding)
    noise.isReference = true
    @Sendable func show(_ done: Int, _ total: Int) {
      progress(ConversionProgress(stage: .verifying, subject: "logits", done: done, total: total, unit: "steps"))
    }
    func precisely(on probes: [Probe]) throws(Refusal) -> Comparison {
      try Comparison(
        of: [.init(name: candidate, network: network, precision: .double), written, noise], with: double, on: probes,
        workers: workers, progress: show)
    }
    func limit(of comparison: Comparison) -> Double {
      Verification.noiseFactor * comparison.outcomes[2].logits.largest(upToShift: isUpToShift)
    }
    var comparison = try precisely(on: probes.precise)
    var long: Comparison.Outcome?
    if !probes.long.isEmpty {
      long = try Comparison(
        of: [written], with: .init(name: reference, network: source.network, precision: .single), on: probes.long,
        workers: workers, progress: show
      ).outcomes[0]
      // Both sides round here, so that the reference's own noise is allowed once more.
      let allowed = limit(of: comparison) * (1 + 1 / Verification.noiseFactor)
      if let found = long, !found.logits.isWithin(allowed, upToShift: isUpToShift) {
        comparison = try precisely(on: probes.all)
        long = nil
      }
    }
    try source.checkpoint.requireIntact()
    try other.checkpoint.requireIntact()
    let outcomes = comparison.outcomes
    let limit = limit(of: comparison)
    return Report(
      reference: reference, candidate: candidate, double: outcomes[0], single: outcomes[1], noise: outcomes[2],
      long: long,
      limit: limit, largestLogit: comparison.largestLogit, isUpToShift: isUpToShift,
      tokenCount: tokenCount - comparison.overflows.count,
      probes: probes.all.map { "\($0.name) (\($0.tokens.count))" },
      overflows: comparison.overflows,
      warnings: source.warnings + other.warnings
        + unmeasured.map { "what storing the reference as \($0) costs is not known, so the limit leaves it out" },
      holds: outcomes[1].logits.isWithin(limit, upToShift: isUpToShift))
  }
}
