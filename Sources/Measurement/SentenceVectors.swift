import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// A measurement of how similar texts are under an encoder: each becomes one vector, as sentence-transformers makes it.
///
///     let report = try SentenceVectors(model: "paraphrase-minilm-l3", sentences: "lines.txt").run()
///     for text in report.texts { print(text.line, text.nearest ?? 0, text.cosine ?? 0) }
public struct SentenceVectors: Sendable, Encodable, ModelMeasurement {
  /// A directory or file, as the user named it. How states become a vector stands in `modules.json` beside it; without one the vector
  /// is the mean.
  public var model: String
  /// A file in UTF-8 with a text a line; empty lines are left out.
  public var sentences: String
  public var precision = Precision.single
  /// Integers that the encoder is computed in. Its vectors are then held against those in floating point.
  public var integers: IntegerArithmetic?
  public var readingOptions = ReadingOptions()
  public var workers = Workers.all

  public init(model: String, sentences: String) {
    self.model = model
    self.sentences = sentences
  }

  /// - Throws: what opening the checkpoint and the tokenizer throw; `.unsupported` for a network that gives something else, and for
  ///   another way to make a vector; `.malformed` for a file without texts.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> SentenceReport {
    let start = ContinuousClock.now
    let opened = try Model(opening: model, options: readingOptions)
    let network = opened.network
    guard network.task == .features, network.image == nil else {
      throw Refusal(
        .unsupported, file: model,
        "\(opened.architecture.className) gives \(network.task.outputName), and no hidden states of texts",
        advice: "give an encoder without a head")
    }
    try opened.checkpoint.checkIntegrity()
    let pooling = try Pooling(besideCheckpointIn: opened.directory) ?? Pooling(.mean)
    let texts = try TextLines(file: sentences, unit: "text") { (text, _) throws(Refusal) in text }
    let encoder = try SequenceEncoder(
      Tokenizer(for: opened, at: model), contextLength: try lengthLimit(of: opened),
      vocabularySize: network.vocabularySize)
    let (vectors, inIntegers, overflows) =
      switch precision {
      case .single: try vectors(of: texts, pooling, network, encoder, as: Float.self, progress)
      case .double: try vectors(of: texts, pooling, network, encoder, as: Double.self, progress)
      }
    try opened.checkpoint.requireIntact()
    return SentenceReport(
      model: model, sentences: sentences, precision: precision, pooling: pooling, texts: texts,
      vectors: integers == nil ? vectors : inIntegers, float: vectors,
      integers: integers.map { ($0, overflows) }, warnings: opened.warnings,
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// The context, or less where sentence-transformers cuts before it.
  private func lengthLimit(of model: Model) throws(Refusal) -> Int {
    let path = model.directory + "/sentence_bert_config.json"
    guard FileIdentity(ofItemAt: path) != nil,
      let limit = try JSONValue(configurationAt: path)["max_seq_length"]?.count, limit > 0
    else { return model.network.contextLength }
    return min(limit, model.network.contextLength)
  }

  private func vectors<Scalar: ArithmeticScalar>(
    of texts: TextLines<String>, _ pooling: Pooling, _ network: Network, _ encoder: SequenceEncoder,
    as scalar: Scalar.Type, _ progress: MeasurementInput.Progress
  ) throws(Refusal) -> (vectors: [TextVector], inIntegers: [TextVector], overflows: [IntegerOverflow]) {
    var (vectors, inIntegers): ([TextVector], [TextVector]) = ([], [])
    let overflows = try encoder.run(
      network, as: scalar, on: texts.items.map { ($0.value, nil) }, options: readingOptions, integers: integers,
      workers: workers, progress: progress
    ) { outputs in
      func vector(_ states: ArraySlice<Double>) -> TextVector {
        TextVector(values: pooling.vector(of: states, width: outputs.width), isCut: outputs.isCut)
      }
      vectors.append(vector(outputs.values))
      if let states = outputs.inIntegers { inIntegers.append(vector(states)) }
    }
    return (vectors, inIntegers, overflows)
  }
}

/// A text's vector.
private struct TextVector {
  let values: [Double]
  /// Is true if the text was cut.
  let isCut: Bool

  /// The vector divided by its length; nil where that cannot be done.
  var direction: [Double]? {
    let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return length.isFinite && length > 0 ? values.map { $0 / length } : nil
  }

  static func nearest(to index: Int, among directions: [[Double]?]) -> (index: Int, cosine: Double)? {
    guard let own = directions[index] else { return nil }
    var result: (index: Int, cosine: Double)?
    for (other, direction) in directions.enumerated() where other != index {
      guard let direction else { continue }
      let found = zip(own, direction).reduce(0) { $0 + $1.0 * $1.1 }
      if found > result?.cosine ?? -.infinity { result = (other, found) }
    }
    return result
  }
}

extension Pooling {
  /// - Parameter states: of the tokens of one text, [tokens, width], none of them padding.
  fileprivate func vector(of states: ArraySlice<Double>, width: Int) -> [Double] {
    var vector: [Double]
    switch kind {
    case .classification: vector = Array(states.prefix(width))
    case .last: vector = Array(states.suffix(width))
    case .mean:
      vector = [Double](repeating: 0, count: width)
      for (index, state) in states.enumerated() { vector[index % width] += state }
      let count = Double(states.count / width)
      for index in vector.indices { vector[index] /= count }
    }
    guard isNormalised else { return vector }
    let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return length > 0 ? vector.map { $0 / length } : vector
  }
}

/// A report of the vectors of texts, and of which ones are near each other.
///
///     for text in report.texts { print(text.text, text.vector) }
public struct SentenceReport: Encodable, Sendable {
  public struct Text: Encodable, Sendable {
    /// The line of the file, from 1 on.
    public var line: Int
    public var text: String
    public var vector: [Double]
    /// The line of the other text whose vector has the largest cosine with this one, the first among equals; nil where there is none.
    public var nearest: Int?
    /// The cosine of the two.
    public var cosine: Double?
    /// Is true if the text was longer than the network reads, and was cut.
    public var isCut: Bool
  }

  public var model: String
  /// The file, as the user named it.
  public var sentences: String
  package var precision: Precision
  /// The way in which states become a vector: `mean`, `first token` or `last token`.
  public var pooling: String
  /// Is true if vectors are divided by their lengths.
  public var isNormalised: Bool
  public var texts: [Text]
  /// Texts with vectors that are not finite or have no direction: they are near to none.
  public var nonFiniteCount: Int
  /// The difference from floating point, where the vectors were computed in integers.
  public var integers: IntegerVectors?
  public var warnings: [Message]
  public var seconds: Double

  fileprivate init(
    model: String, sentences: String, precision: Precision, pooling: Pooling, texts: TextLines<String>,
    vectors: [TextVector], float: [TextVector], integers: (IntegerArithmetic, [IntegerOverflow])?, warnings: [Message],
    seconds: Double
  ) {
    (self.model, self.sentences, self.precision) = (model, sentences, precision)
    (self.warnings, self.seconds) = (warnings, seconds)
    isNormalised = pooling.isNormalised
    self.pooling =
      switch pooling.kind {
      case .mean: "mean"
      case .classification: "first token"
      case .last: "last token"
      }
    let directions = vectors.map(\.direction)
    nonFiniteCount = directions.count { $0 == nil }
    self.integers = integers.map { IntegerVectors(arithmetic: $0, float: float.map(\.direction), directions, $1) }
    self.texts = texts.items.indices.map { index in
      let nearest = TextVector.nearest(to: index, among: directions)
      return Text(
        line: texts.items[index].line, text: texts.items[index].value, vector: vectors[index].values,
        nearest: nearest.map { texts.items[$0.index].line }, cosine: nearest?.cosine, isCut: vectors[index].isCut)
    }
  }
}

/// Vectors of texts in integers, held against those in floating point.
///
///     if let integers = report.integers { print(integers.meanCosine, integers.nearestAgreement) }
public struct IntegerVectors: Encodable, Sendable {
  public var arithmetic: IntegerArithmetic
  /// The cosine of a text's two vectors: the mean over the texts, and the smallest.
  public var meanCosine: Double
  public var smallestCosine: Double
  /// The share of texts whose nearest text is the same.
  public var nearestAgreement: Double
  /// Numbers that did not fit into the ring, the worst operation first.
  public var overflows: [IntegerOverflow]

  fileprivate init(
    arithmetic: IntegerArithmetic, float: [[Double]?], _ integers: [[Double]?], _ overflows: [IntegerOverflow]
  ) {
    self.arithmetic = arithmetic
    let cosines = zip(float, integers).compactMap { pair -> Double? in
      guard let first = pair.0, let second = pair.1 else { return nil }
      return zip(first, second).reduce(0) { $0 + $1.0 * $1.1 }
    }
    meanCosine = cosines.isEmpty ? .nan : cosines.reduce(0, +) / Double(cosines.count)
    smallestCosine = cosines.min() ?? .nan
    let agreeing = float.indices.count { index in
      let other = TextVector.nearest(to: index, among: integers)
      return other != nil && TextVector.nearest(to: index, among: float)?.index == other?.index
    }
    nearestAgreement = Double(agreeing) / Double(max(1, float.count))
    self.overflows = overflows.summedUp
  }
}
