import NormFoldArithmetic
import NormFoldTraining

/// A report of how a removal went, step by step, and of the conversion of its result.
///
///     print(report.records.last?.loss ?? .nan, report.conversion.failures)
public struct RemovalReport: Sendable, Encodable {
  public let tool: String
  public let source: String
  /// The path of the training checkpoint.
  public let checkpoint: String
  /// Is false for a control run.
  public let removesNorms: Bool
  /// The integers that the training was computed in; nil for floating point.
  public let integers: IntegerArithmetic?
  public let parameterCount: Int
  /// The number of tokens that were read.
  public let tokenCount: Int
  /// The records of the steps, those before a resumption included.
  public let records: [TrainingRecord]
  /// The loss on text that is held out: before the first step, on the way, and behind the last one.
  public let validations: [TrainingValidation]
  /// The deviations that norms divided by on the way, at some of the steps.
  public let deviationSamples: [DeviationSample]
  /// By the norm's name: what it divides by, or where it was left alone the moving mean of that.
  public let deviations: [String: Double]
  public let trainingSeconds: Double
  public let conversion: ConversionReport

  /// The mean loss of the last steps, at most 20.
  public var finalLoss: Double {
    let last = records.suffix(20)
    return last.reduce(0) { $0 + $1.loss } / Double(max(1, last.count))
  }
}
