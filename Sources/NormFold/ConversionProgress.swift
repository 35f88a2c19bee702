/// A step of a long run.
///
///     let report = try conversion.run { print("\($0.stage.rawValue) \($0.subject): \($0.done) of \($0.total) \($0.unit)") }
///     print(report.published)
public struct ConversionProgress: Sendable, Encodable {
  public enum Stage: String, Sendable, Encodable {
    case writing
    case verifying
    case measuring
  }

  public let stage: Stage
  /// The thing that is being worked on: a target's name.
  public let subject: String
  public let done: Int
  public let total: Int
  /// The unit that is counted: bytes or steps.
  public let unit: String

  package init(stage: Stage, subject: String, done: Int, total: Int, unit: String) {
    self.stage = stage
    self.subject = subject
    self.done = done
    self.total = total
    self.unit = unit
  }

  public typealias Handler = @Sendable (ConversionProgress) -> Void
}
