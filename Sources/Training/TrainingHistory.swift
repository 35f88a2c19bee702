import NormFoldFormats

/// A loss on text that is held out.
///
///     for validation in report.validations { print(validation.step, validation.loss) }
public struct TrainingValidation: Sendable, Equatable, Encodable {
  /// Steps that were taken before: 0 for what the run started from.
  public let step: Int
  /// The mean cross entropy of every token but the first of a sequence, in nats.
  public let loss: Double
}

/// The deviations that norms divided by at a step.
///
///     for sample in report.deviationSamples { print(sample.step, sample.deviations["transformer.ln_f"] ?? 0) }
public struct DeviationSample: Sendable, Equatable, Encodable {
  public let step: Int
  /// By the norm's name: the moving mean of √(variance + ε) behind the step, or what a fixed norm divides by.
  public let deviations: [String: Double]
}

/// The record of a run's steps.
package struct TrainingHistory: Sendable, Equatable {
  package var records: [TrainingRecord] = []
  package var validations: [TrainingValidation] = []
  package var samples: [DeviationSample] = []

  package init() {}

  /// Samples of deviations that a run of any length keeps, more or less.
  private static let sampleCount = 120

  /// Takes what a step did.
  package mutating func append(_ record: TrainingRecord, deviations: [String: Double], of stepCount: Int) {
    records.append(record)
    if record.step % max(1, stepCount / Self.sampleCount) == 0 {
      samples.append(DeviationSample(step: record.step, deviations: deviations))
    }
  }
}

extension TrainingHistory {
  /// Takes a loss on text that is held out.
  package mutating func append(loss: Double, behind stepCount: Int) -> TrainingValidation {
    validations.append(TrainingValidation(step: stepCount, loss: loss))
    return validations[validations.count - 1]
  }
}

// MARK: In a checkpoint

extension TrainingHistory {
  /// The history as members of a checkpoint's JSON.
  var json: [JSONValue.Member] {
    [
      .init(key: "log", value: .array(records.map { .string($0.line) })),
      .init(key: "validations", value: .array(validations.map { .string($0.line) })),
      .init(
        key: "deviation_samples",
        value: .array(
          samples.map { sample in
            .object([
              "step": .number(sample.step), "deviations": DeviationSample.json(sample.deviations),
            ])
          })),
    ]
  }

  /// - Throws: `.malformed` where something is missing or no number.
  init(_ json: JSONValue, file: String) throws(Refusal) {
    guard let lines = json["log"]?.array, let validations = json["validations"]?.array,
      let samples = json["deviation_samples"]?.array
    else { throw Refusal(.malformed, file: file, subject: "log", "is missing", advice: "start again") }
    for line in lines { records.append(try TrainingRecord(line.string ?? "", file: file)) }
    for line in validations { self.validations.append(try TrainingValidation(line.string ?? "", file: file)) }
    for sample in samples {
      guard let step = sample["step"]?.count, let deviations = sample["deviations"] else {
        throw Refusal(.malformed, file: file, subject: "deviation_samples", "a sample is not whole")
      }
      self.samples.append(
        DeviationSample(step: step, deviations: try DeviationSample.deviations(deviations, file: file)))
    }
  }
}

extension DeviationSample {
  static func json(_ deviations: [String: Double]) -> JSONValue {
    .object(deviations.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: .number("\($0.value)")) })
  }

  static func deviations(_ json: JSONValue, file: String) throws(Refusal) -> [String: Double] {
    var result: [String: Double] = [:]
    for member in json.members ?? [] {
      guard let value = member.value.double, value > 0, value.isFinite else {
        throw Refusal(
          .malformed, file: file, subject: "deviations.\(member.key)",
          "expected a positive number, found \(member.value.kind)")
      }
      result[member.key] = value
    }
    return result
  }
}

extension TrainingValidation {
  /// The validation as one line of JSON, as a log of validations holds it.
  package var line: String { "{\"step\": \(step), \"loss\": \(loss)}" }

  init(_ line: String, file: String) throws(Refusal) {
    let json = try unsafe JSONValue(parsing: Array(line.utf8).span.bytes, file: file)
    guard let step = json["step"]?.count, let loss = json["loss"]?.double else {
      throw Refusal(.malformed, file: file, subject: "validations", "a validation is not whole")
    }
    self.init(step: step, loss: loss)
  }
}

extension TrainingRecord {
  /// The step as one line of JSON: what a log holds.
  package var line: String {
    let names = fixed.map { "\"\($0)\"" }.joined(separator: ", ")
    return "{\"step\": \(step), \"lr\": \(rate), \"loss\": \(loss), \"aux\": \(auxiliary), "
      + "\"gradient_norm\": \(gradientNorm), \"fixed\": [\(names)]}"
  }

  init(_ line: String, file: String) throws(Refusal) {
    let json = try unsafe JSONValue(parsing: Array(line.utf8).span.bytes, file: file)
    guard let step = json["step"]?.count, let rate = json["lr"]?.double, let loss = json["loss"]?.double,
      let auxiliary = json["aux"]?.double, let norm = json["gradient_norm"]?.double, let fixed = json["fixed"]?.array
    else { throw Refusal(.malformed, file: file, subject: "log", "a record of a step is not whole") }
    self.init(
      step: step, rate: rate, loss: loss, auxiliary: auxiliary, gradientNorm: norm, fixed: fixed.compactMap(\.string))
  }
}
