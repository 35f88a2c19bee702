import NormFoldArithmetic
import NormFoldFormats

/// Losses of a text under a model, and how another model's distributions differ from them.
///
///     print(report.loss.mean, report.comparison?.lossDifference ?? 0, report.droppedTokenCount)
public struct EvaluationReport: Encodable, Sendable {
  public var model: String
  /// The files that the text is from.
  public var texts: [String]
  public var chunking: Chunking
  package var precision: Precision
  public var chunkCount: Int
  /// Tokens at the end of the text that are in no chunk.
  public var droppedTokenCount: Int
  /// Under the integers, where there are some.
  public var loss: LossStatistics
  public var comparison: ModelComparison?
  public var integers: IntegerEvaluation?
  /// Other integers that the model was computed in besides.
  public var otherIntegers: [OtherIntegers]
  public var warnings: [Message]
  public var seconds: Double

  private enum CodingKeys: String, CodingKey {
    case model, texts, chunking, precision, chunkCount, droppedTokenCount, loss, comparison, otherIntegers, warnings,
      seconds
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(model, forKey: .model)
    try container.encode(texts, forKey: .texts)
    try container.encode(chunking, forKey: .chunking)
    try container.encode(precision, forKey: .precision)
    try container.encode(chunkCount, forKey: .chunkCount)
    try container.encode(droppedTokenCount, forKey: .droppedTokenCount)
    try container.encode(loss, forKey: .loss)
    try container.encodeIfPresent(comparison, forKey: .comparison)
    try integers?.encode(to: encoder)
    if !otherIntegers.isEmpty { try container.encode(otherIntegers, forKey: .otherIntegers) }
    try container.encode(warnings, forKey: .warnings)
    try container.encode(seconds, forKey: .seconds)
  }

  /// Another model on the same tokens.
  public struct ModelComparison: Encodable, Sendable {
    public var model: String
    public var loss: LossStatistics
    /// The other model's mean loss less the model's, in nats.
    public var lossDifference: Double
    /// Mean over the scored tokens of KL(model ‖ other), in nats.
    public var meanDivergence: Double
    public var largestDivergence: Double
    /// Mean over the scored tokens of the Jensen-Shannon divergence, in nats: at most ln 2.
    public var meanJensenShannon: Double
    /// The share of scored tokens at which both have the same top-1 token.
    public var top1Agreement: Double
    /// Tokens at which either is not finite: they are in no divergence.
    public var unjudgedTokenCount: Int
  }
}

/// Statistics of per-token losses, in nats.
///
///     let loss = report.loss
///     print(loss.mean, loss.standardError, loss.central95.upper, loss.byPosition.count)
public struct LossStatistics: Encodable, Sendable {
  /// Scored tokens.
  public var tokenCount: Int
  /// Scored tokens at which the network itself gives NaN or infinity: they are in none of the numbers below.
  public var nonFiniteTokenCount: Int
  /// The cross-entropy, in nats per token.
  public var mean: Double
  /// The standard error of the mean, as if tokens were independent.
  public var standardError: Double
  /// exp(mean)
  public var perplexity: Double
  public var median: Double
  public var smallest: Double
  public var largest: Double
  /// Between the 2.5th and the 97.5th percentile.
  public var central95: Interval
  /// Between the 0.05th and the 99.95th percentile.
  public var central999: Interval
  public var histogram: Histogram
  /// By the position of the token that is predicted, those only that were ever scored.
  public var byPosition: [PositionMean]

  public struct Interval: Encodable, Hashable, Sendable {
    public var lower: Double
    public var upper: Double
  }

  /// Counts of losses in bins of equal width from 0.
  public struct Histogram: Encodable, Hashable, Sendable {
    /// In nats.
    public var binWidth: Double
    public var counts: [Int]
    /// Losses beyond the last bin.
    public var beyondCount: Int
  }

  public struct PositionMean: Encodable, Hashable, Sendable {
    public var position: Int
    public var tokenCount: Int
    public var mean: Double
  }
}

/// A model in integers, held against itself in floating point.
///
///     if let integers = report.integers { print(integers.divergence.mean, integers.top1Agreement) }
public struct IntegerEvaluation: Encodable, Sendable {
  public var arithmetic: IntegerArithmetic
  /// The loss in floating point.
  public var floatLoss: LossStatistics
  public var divergence: Divergence
  /// The share of scored tokens at which both have the same top-1 token.
  public var top1Agreement: Double
  /// Tokens at which either is not finite: they are in no divergence.
  public var unjudgedTokenCount: Int
  /// Numbers that did not fit into the ring, the worst operation first.
  public var overflows: [IntegerOverflow]

  /// KL(floating point ‖ integers) over the scored tokens, in nats.
  public struct Divergence: Encodable, Sendable {
    public var mean: Double
    public var largest: Double
  }

  init(
    arithmetic: IntegerArithmetic, floatLoss: LossStatistics, differences: EvaluationReport.ModelComparison,
    overflows: [IntegerOverflow]
  ) {
    self.arithmetic = arithmetic
    self.floatLoss = floatLoss
    divergence = Divergence(mean: differences.meanDivergence, largest: differences.largestDivergence)
    top1Agreement = differences.top1Agreement
    unjudgedTokenCount = differences.unjudgedTokenCount
    self.overflows = overflows.summedUp
  }
}

/// A model in other integers than the report is about, held against itself in floating point.
///
///     for other in report.otherIntegers { print(other.arithmetic.name, other.meanLoss, other.divergence.mean) }
public struct OtherIntegers: Encodable, Sendable {
  public var arithmetic: IntegerArithmetic
  /// The cross-entropy in these integers, in nats per token.
  public var meanLoss: Double
  public var divergence: IntegerEvaluation.Divergence
  /// The share of scored tokens at which both have the same top-1 token.
  public var top1Agreement: Double
  /// Numbers that did not fit into the ring, the worst operation first.
  public var overflows: [IntegerOverflow]

  init(
    arithmetic: IntegerArithmetic, differences: EvaluationReport.ModelComparison, overflows: [IntegerOverflow]
  ) {
    self.arithmetic = arithmetic
    meanLoss = differences.loss.mean
    divergence = IntegerEvaluation.Divergence(mean: differences.meanDivergence, largest: differences.largestDivergence)
    top1Agreement = differences.top1Agreement
    self.overflows = overflows.summedUp
  }
}

extension [IntegerOverflow] {
  /// One for each operation, the worst first.
  var summedUp: [IntegerOverflow] {
    Dictionary(map { ($0.path, $0.count) }, uniquingKeysWith: +).map { IntegerOverflow(path: $0, count: $1) }
      .sorted { ($1.count, $0.path) < ($0.count, $1.path) }
  }
}
