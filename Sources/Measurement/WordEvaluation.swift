import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// A measurement of how well a network predicts numbers of words, such as how long eyes rest on them.
///
///     var evaluation = WordEvaluation(model: "eye-tracking/model.pth", table: "words.csv")
///     evaluation.precision = .double
///     for target in try evaluation.run().targets { print(target.name, target.meanAbsoluteError, target.determination) }
public struct WordEvaluation: Sendable, Encodable, ModelMeasurement {
  /// A directory or file, as the user named it.
  public var model: String
  /// A CSV file in UTF-8 with a word a line and the columns `sentence_id`; `word`, or `tokens` with ids and spaces between; one for
  /// each prediction (`nFix`, `FFD`, `GPT`, `TRT`, `fixProp`), in the unit of the network's training; and one for each number of a word
  /// that the network reads, in its order. A column `word_id` is not read.
  public var table: String
  public var precision = Precision.single
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, table: String) {
    self.model = model
    self.table = table
  }

  /// - Throws: what opening the checkpoint and the tokenizer throw; `.unsupported` for a network that gives something else, and for a
  ///   sentence that is longer than the context; `.malformed` for a table that does not fit the network.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> WordReport {
    let start = ContinuousClock.now
    let opened = try Model(opening: model, options: readingOptions)
    let network = opened.network
    guard network.task == .wordRegression, let featureCount = network.wordFeatureCount else {
      throw Refusal(
        .unsupported, file: model,
        "\(opened.architecture.className) gives \(network.task.outputName), and no numbers of words",
        advice: "give a model that predicts them")
    }
    try opened.checkpoint.checkIntegrity()
    let table = try WordTable(file: table, featureCount: featureCount, targetCount: network.outputWidth)
    let probes = try probes(of: table, for: opened)
    let predictions =
      switch precision {
      case .single: try predictions(of: network, for: probes, as: Float.self, progress)
      case .double: try predictions(of: network, for: probes, as: Double.self, progress)
      }
    try opened.checkpoint.requireIntact()
    return WordReport(
      model: model, tableName: self.table, precision: precision, table: table, predictions: predictions,
      warnings: opened.warnings, seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// Sentences as the network reads them, with the tokens that stand around a text.
  private func probes(of table: WordTable, for model: Model) throws(Refusal) -> [Probe] {
    let network = model.network
    let tokenizer = table.isOfTokens ? nil : try Tokenizer(for: model, at: self.model)
    let (before, behind) = try tokensAround(tokenizer, model)
    var probes: [Probe] = []
    for sentence in table.sentences {
      var (tokens, words) = (before, before.map { _ in -1 })
      for (number, word) in sentence.enumerated() {
        func refusal(_ problem: String) -> Refusal {
          Refusal(.malformed, file: self.table, subject: "line \(word.line)", problem)
        }
        // A word is one behind a space, also at the start of a sentence.
        let ids = tokenizer?.encode(" " + word.text) ?? word.text.split(separator: " ").map { Int($0) ?? -1 }
        guard !ids.isEmpty else { throw refusal("the word has no tokens") }
        for id in ids where !(0..<network.vocabularySize).contains(id) {
          throw refusal("'\(word.text)' has a token that is not in the model's vocabulary of \(network.vocabularySize)")
        }
        tokens += ids
        words += ids.map { _ in number }
      }
      tokens += behind
      words += behind.map { _ in -1 }
      guard tokens.count <= network.contextLength else {
        throw Refusal(
          .unsupported, file: self.table, subject: "line \(sentence[0].line)",
          "the sentence has \(tokens.count) tokens, and the context of the network \(network.contextLength)",
          advice: "leave it out")
      }
      probes.append(
        Probe(name: "sentence", tokens: tokens, words: words, features: sentence.map(\.features)))
    }
    return probes
  }

  /// The tokens that the tokenizer puts around a text; without one the tokens that the config names.
  private func tokensAround(_ tokenizer: Tokenizer?, _ model: Model) throws(Refusal) -> ([Int], [Int]) {
    guard let tokenizer else {
      func token(_ key: String) -> [Int] { model.configuration?[key]?.count.map { [$0] } ?? [] }
      return (token("bos_token_id"), token("eos_token_id"))
    }
    guard let template = tokenizer.template else {
      throw Refusal(
        .unsupported, file: tokenizer.path, "says nothing of the tokens around a text that an encoder reads",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    // A token that no vocabulary has stands for the text.
    let ids = template.applied(to: [-1], nil).ids
    let parts = ids.split(separator: -1, omittingEmptySubsequences: false)
    return (Array(parts[0]), Array(parts[1]))
  }

  /// The number of tokens that go through each weight together.
  private static let tokensPerGroup = 4_096

  /// The predictions of each word, sentence by sentence.
  private func predictions<Scalar: ArithmeticScalar>(
    of network: Network, for probes: [Probe], as scalar: Scalar.Type, _ progress: MeasurementInput.Progress
  ) throws(Refusal) -> [[Double]] {
    let network = try network.materialised(for: scalar, in: readingOptions.temporaryDirectory)
    var predictions: [[Double]] = []
    var rest = probes[...]
    while !rest.isEmpty {
      var count = 0
      let group = Array(
        rest.prefix { probe in
          defer { count += probe.tokens.count }
          return count == 0 || count + probe.tokens.count <= Self.tokensPerGroup
        })
      let rows = try network.logits(on: FastBackend<Scalar>(probes: group, workers: workers)).all()
      let (values, width) = (rows.doubles(), rows.columnCount)
      var start = 0
      for probe in group {
        for word in probe.features.indices {
          // Every token of a word has its predictions.
          let row = start + (probe.words.firstIndex(of: word) ?? 0)
          predictions.append(Array(values[row * width..<(row + 1) * width]))
        }
        start += probe.tokens.count
      }
      rest = rest.dropFirst(group.count)
      progress(probes.count - rest.count, probes.count)
    }
    return predictions
  }
}

/// A report of how far predicted numbers of words are from those that were measured.
///
///     for target in report.targets { print(target.name, target.meanAbsoluteError, target.determination) }
public struct WordReport: Encodable, Sendable {
  /// One of the numbers that are predicted of a word.
  public struct Target: Encodable, Sendable {
    public var name: String
    public var meanAbsoluteError: Double
    /// R², one minus the sum of squared errors over that of squared differences from the mean; not a number where all words have the same.
    public var determination: Double
  }

  public var model: String
  /// The file, as the user named it.
  public var table: String
  package var precision: Precision
  public var sentenceCount: Int
  public var wordCount: Int
  public var targets: [Target]
  /// The mean over the targets.
  public var meanAbsoluteError: Double
  /// Words with predictions that are not finite: they are in no number.
  public var nonFiniteCount: Int
  public var warnings: [Message]
  public var seconds: Double

  fileprivate init(
    model: String, tableName: String, precision: Precision, table: WordTable, predictions: [[Double]],
    warnings: [Message], seconds: Double
  ) {
    (self.model, self.table, self.precision) = (model, tableName, precision)
    (self.warnings, self.seconds) = (warnings, seconds)
    let words = table.sentences.flatMap(\.self)
    (sentenceCount, wordCount) = (table.sentences.count, words.count)
    let pairs = zip(words, predictions).filter { $0.1.allSatisfy(\.isFinite) }
    nonFiniteCount = words.count - pairs.count
    targets = table.targetNames.enumerated().map { index, name in
      let count = Double(pairs.count)
      let mean = pairs.reduce(0) { $0 + $1.0.targets[index] } / count
      func sum(_ value: (_ measured: Double, _ predicted: Double) -> Double) -> Double {
        pairs.reduce(0) { $0 + value($1.0.targets[index], $1.1[index]) }
      }
      let errors = sum { ($0 - $1) * ($0 - $1) }
      let variation = sum { measured, _ in (measured - mean) * (measured - mean) }
      return Target(
        name: name, meanAbsoluteError: sum { abs($0 - $1) } / count,
        determination: variation > 0 ? 1 - errors / variation : .nan)
    }
    meanAbsoluteError = targets.reduce(0) { $0 + $1.meanAbsoluteError } / Double(max(1, targets.count))
  }
}
