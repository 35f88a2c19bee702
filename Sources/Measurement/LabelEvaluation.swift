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
    let scores =
      switch precision {
      case .single: try scores(of: examples, network, encoder, as: Float.self, progress)
      case .double: try scores(of: examples, network, encoder, as: Double.self, progress)
      }
    try opened.checkpoint.requireIntact()
    return LabelReport(
      model: model, labels: labels, precision: precision, names: names, scores: scores, warnings: opened.warnings,
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  private func scores<Scalar: ArithmeticScalar>(
    of examples: LabelledTexts, _ network: Network, _ encoder: SequenceEncoder, as scalar: Scalar.Type,
    _ progress: MeasurementInput.Progress
  ) throws(Refusal) -> [LabelScore] {
    var scores: [LabelScore] = []
    try encoder.run(
      network, as: scalar, on: examples.items.map { ($0.text, $0.second) }, options: readingOptions, workers: workers,
      progress: progress
    ) { logits, width, isCut in
      scores.append(
        LabelScore(logits: logits.prefix(width), label: examples.items[scores.count].label, isCut: isCut))
    }
    return scores
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
  public var warnings: [Message]
  public var seconds: Double

  fileprivate init(
    model: String, labels: String, precision: Precision, names: [String], scores: [LabelScore], warnings: [Message],
    seconds: Double
  ) {
    (self.model, self.labels, self.precision) = (model, labels, precision)
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

/// One example under a model.
private struct LabelScore {
  let label: Int
  let isCut: Bool
  let isCorrect: Bool
  /// Nil where the logits are not finite.
  let loss: Double?

  init(logits: ArraySlice<Double>, label: Int, isCut: Bool) {
    let values = Array(logits)
    (self.label, self.isCut) = (label, isCut)
    guard values.allSatisfy(\.isFinite), let largest = values.max() else {
      (isCorrect, loss) = (false, nil)
      return
    }
    isCorrect = values.firstIndex(of: largest) == label
    loss = log(values.reduce(0) { $0 + exp($1 - largest) }) + largest - values[label]
  }
}

extension Model {
  /// The names that the config has for labels; numbers where it has none.
  fileprivate func labelNames(count: Int) -> [String] {
    (0..<count).map { configuration?["id2label"]?["\($0)"]?.string ?? "\($0)" }
  }
}
