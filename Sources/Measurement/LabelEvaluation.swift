import Glibc
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// A measurement of how well a classifier labels texts, or pairs of texts.
///
///     var evaluation = LabelEvaluation(model: "bert-sst2", labels: "test.tsv")
///     evaluation.precision = .double
///     let report = try evaluation.run()
///     print(report.accuracy, report.loss)
public struct LabelEvaluation: Sendable, Encodable, ModelMeasurement {
  /// A directory or file, as the user named it.
  public var model: String
  /// A file in UTF-8 with an example a line: a text, in a file of pairs a second one, and the label, with tabs between. The label is
  /// a name in the config's `id2label`, or its number.
  public var labels: String
  public var precision = Precision.single
  /// Integers that the classifier is computed in. It is then held against itself in floating point.
  public var integers: IntegerArithmetic?
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, labels: String) {
    self.model = model
    self.labels = labels
  }

  /// - Throws: what opening the checkpoint and the tokenizer throw; `.unsupported` for a network that gives something else;
  ///   `.malformed` for a line that is no example.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> LabelReport {
    let start = ContinuousClock.now
    let opened = try Model(opening: model, options: readingOptions)
    let network = opened.network
    guard network.task == .sequenceClassification, network.outputWidth > 1 else {
      throw Refusal(
        .unsupported, file: model,
        "\(opened.architecture.className) gives \(network.task.outputName), and no logits of several labels of a text",
        advice: "give a model that labels texts")
    }
    try opened.checkpoint.checkIntegrity()
    let names = opened.labelNames(count: network.outputWidth)
    let examples = try LabelledTexts(file: labels, names: names)
    let encoder = try SequenceEncoder(
      Tokenizer(for: opened, at: model), contextLength: network.contextLength, vocabularySize: network.vocabularySize)
    let (scores, inIntegers) =
      switch precision {
      case .single: try scores(of: examples, network, encoder, as: Float.self, progress)
      case .double: try scores(of: examples, network, encoder, as: Double.self, progress)
      }
    try opened.checkpoint.requireIntact()
    return LabelReport(
      model: model, labels: labels, precision: precision, names: names,
      scores: integers == nil ? scores : inIntegers.scores,
      integers: integers.map {
        IntegerLabels(arithmetic: $0, float: scores, integers: inIntegers.scores, inIntegers.overflows)
      },
      warnings: opened.warnings, seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  private func scores<Scalar: ArithmeticScalar>(
    of examples: LabelledTexts, _ network: Network, _ encoder: SequenceEncoder, as scalar: Scalar.Type,
    _ progress: MeasurementInput.Progress
  ) throws(Refusal) -> ([LabelScore], inIntegers: (scores: [LabelScore], overflows: [IntegerOverflow])) {
    var (scores, inIntegers): ([LabelScore], [LabelScore]) = ([], [])
    let overflows = try encoder.run(
      network, as: scalar, on: examples.items.map { ($0.text, $0.second) }, options: readingOptions,
      integers: integers, workers: workers, progress: progress
    ) { outputs in
      func score(_ logits: ArraySlice<Double>) -> LabelScore {
        LabelScore(
          logits: logits.prefix(outputs.width), label: examples.items[scores.count].label, isCut: outputs.isCut)
      }
      if let found = outputs.inIntegers { inIntegers.append(score(found)) }
      scores.append(score(outputs.values))
    }
    return (scores, (inIntegers, overflows))
  }
}

/// A report of how a classifier labelled texts whose labels are known.
///
///     for label in report.byLabel { print(label.name, label.correctCount, "of", label.count) }
public struct LabelReport: Encodable, Sendable {
  public struct Label: Encodable, Sendable {
    public var name: String
    /// Examples that have it.
    public var count: Int
    /// The number of them that the model labels so.
    public var correctCount: Int
  }

  public var model: String
  /// The file, as the user named it.
  public var labels: String
  package var precision: Precision
  public var count: Int
  /// The share of examples whose label has the largest logit, the first one among equals.
  public var accuracy: Double
  /// Mean cross-entropy of the labels, in nats.
  public var loss: Double
  public var byLabel: [Label]
  /// Examples that were longer than the context and were cut to it.
  public var cutCount: Int
  /// Examples with logits that are not finite: they count as wrong, and are in no loss.
  public var nonFiniteCount: Int
  /// The difference from floating point, where the model was computed in integers: all else is about these then.
  public var integers: IntegerLabels?
  public var warnings: [Message]
  public var seconds: Double

  fileprivate init(
    model: String, labels: String, precision: Precision, names: [String], scores: [LabelScore],
    integers: IntegerLabels?, warnings: [Message], seconds: Double
  ) {
    (self.model, self.labels, self.precision, self.integers) = (model, labels, precision, integers)
    (self.warnings, self.seconds) = (warnings, seconds)
    count = scores.count
    let losses = scores.compactMap(\.loss)
    accuracy = Double(scores.count(where: \.isCorrect)) / Double(max(1, count))
    loss = losses.isEmpty ? .nan : losses.reduce(0, +) / Double(losses.count)
    byLabel = names.enumerated().map { number, name in
      let own = scores.filter { $0.label == number }
      return Label(name: name, count: own.count, correctCount: own.count(where: \.isCorrect))
    }
    cutCount = scores.count(where: \.isCut)
    nonFiniteCount = scores.count - losses.count
  }
}

/// A classifier in integers, held against itself in floating point.
///
///     if let integers = report.integers { print(integers.divergence, integers.labelAgreement) }
public struct IntegerLabels: Encodable, Sendable {
  public var arithmetic: IntegerArithmetic
  /// The accuracy and the loss in floating point.
  public var floatAccuracy: Double
  public var floatLoss: Double
  /// Mean over the examples of KL(floating point ‖ integers), in nats.
  public var divergence: Double
  /// The share of examples whose label with the largest logit is the same.
  public var labelAgreement: Double
  /// Numbers that did not fit into the ring, the worst operation first.
  public var overflows: [IntegerOverflow]

  fileprivate init(
    arithmetic: IntegerArithmetic, float: [LabelScore], integers: [LabelScore], _ overflows: [IntegerOverflow]
  ) {
    self.arithmetic = arithmetic
    let count = Double(max(1, float.count))
    let losses = float.compactMap(\.loss)
    floatAccuracy = Double(float.count(where: \.isCorrect)) / count
    floatLoss = losses.isEmpty ? .nan : losses.reduce(0, +) / Double(losses.count)
    let pairs = zip(float, integers).filter { $0.0.loss != nil && $0.1.loss != nil }
    let divergences = pairs.map { $0.0.divergence(from: $0.1) }
    divergence = divergences.isEmpty ? .nan : divergences.reduce(0, +) / Double(divergences.count)
    labelAgreement = Double(zip(float, integers).count { $0.0.found != nil && $0.0.found == $0.1.found }) / count
    self.overflows = overflows.summedUp
  }
}

/// One example under a model.
private struct LabelScore {
  let label: Int
  let isCut: Bool
  let isCorrect: Bool
  /// Nil where the logits are not finite.
  let loss: Double?
  let found: Int?
  let logProbabilities: [Double]

  /// KL(self ‖ other), in nats.
  func divergence(from other: LabelScore) -> Double {
    var sum = 0.0
    for (own, others) in zip(logProbabilities, other.logProbabilities) { sum += exp(own) * (own - others) }
    return sum
  }

  init(logits: ArraySlice<Double>, label: Int, isCut: Bool) {
    let values = Array(logits)
    (self.label, self.isCut) = (label, isCut)
    guard values.allSatisfy(\.isFinite), let largest = values.max() else {
      (isCorrect, loss, found, logProbabilities) = (false, nil, nil, [])
      return
    }
    found = values.firstIndex(of: largest)
    isCorrect = found == label
    let logSum = log(values.reduce(0) { $0 + exp($1 - largest) })
    loss = logSum + largest - values[label]
    logProbabilities = values.map { $0 - largest - logSum }
  }
}

extension Model {
  /// The names that the config has for labels; numbers where it has none.
  fileprivate func labelNames(count: Int) -> [String] {
    (0..<count).map { configuration?["id2label"]?["\($0)"]?.string ?? "\($0)" }
  }
}
