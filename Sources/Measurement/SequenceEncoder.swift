import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// Texts as a network reads them: with what the tokenizer puts around them, and cut to the context.
struct SequenceEncoder {
  private let tokenizer: Tokenizer
  private let template: TokenTemplate
  private let contextLength: Int
  private let vocabularySize: Int

  /// - Throws: `.unsupported` for a tokenizer that puts nothing around a text.
  init(_ tokenizer: Tokenizer, contextLength: Int, vocabularySize: Int) throws(Refusal) {
    guard let template = tokenizer.template else {
      throw Refusal(
        .unsupported, file: tokenizer.path, "says nothing of the tokens around a text that an encoder reads",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    (self.tokenizer, self.template) = (tokenizer, template)
    (self.contextLength, self.vocabularySize) = (contextLength, vocabularySize)
  }

  /// - Returns: what the network reads, and whether tokens were cut off: of two texts those of the longer one, until both fit,
  ///   as the strategy `longest_first` of `tokenizers` has it.
  /// - Throws: `.malformed` for a token beyond the vocabulary; `.unsupported` where the context holds no token of a text.
  func probe(_ text: String, _ second: String?) throws(Refusal) -> (Probe, isCut: Bool) {
    var (first, other) = (tokenizer.encode(text), second.map { tokenizer.encode($0) })
    let around = template.applied(to: [], second == nil ? nil : []).ids.count
    var excess = first.count + (other?.count ?? 0) + around - contextLength
    let isCut = excess > 0
    guard contextLength > around else {
      throw Refusal(
        .unsupported, file: tokenizer.path, "puts \(around) tokens around a text, and the context has \(contextLength)")
    }
    let isSecondKeptLonger = first.count <= other?.count ?? 0
    while excess > 0 {
      let count = other?.count ?? 0
      if first.count > count || first.count == count && isSecondKeptLonger {
        first.removeLast()
      } else {
        other?.removeLast()
      }
      excess -= 1
    }
    let (ids, types) = template.applied(to: first, other)
    for id in ids where id >= vocabularySize {
      throw Refusal(
        .malformed, file: tokenizer.path, "token \(id) is not in the model's vocabulary of \(vocabularySize)",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    return (Probe(name: "text", tokens: ids, types: types), isCut)
  }

  /// The number of tokens that go through each weight together.
  private static let tokensPerGroup = 4_096

  /// Runs a network on texts, or pairs of texts.
  ///
  /// - Parameters:
  ///   - integers: what the network is computed in besides floating point.
  ///   - workers: share the work.
  ///   - progress: is told how many texts are done, and of how many.
  ///   - body: is given what the network gives for each token of a text.
  /// - Returns: numbers that did not fit into the integers.
  /// - Throws: what ``probe(_:_:)`` throws; `.unsupported` for integers that the network cannot be computed in.
  func run<Scalar: ArithmeticScalar>(
    _ network: Network, as scalar: Scalar.Type, on texts: [(first: String, second: String?)], options: ReadingOptions,
    integers: IntegerArithmetic? = nil, workers: Workers, progress: MeasurementInput.Progress,
    _ body: (Outputs) -> Void
  ) throws(Refusal) -> [IntegerOverflow] {
    try integers?.requireForm(of: network)
    let known = IntegerWeights()
    var overflows: [IntegerOverflow] = []
    let network = try network.materialised(for: scalar, in: options.temporaryDirectory)
    var (group, tokenCount, done) = ([(probe: Probe, isCut: Bool)](), 0, 0)
    func finish() throws(Refusal) {
      guard !group.isEmpty else { return }
      let rows = try network.logits(on: FastBackend<Scalar>(probes: group.map(\.probe), workers: workers)).all()
      let (values, width) = (rows.doubles(), rows.columnCount)
      var inIntegers: [Double]?
      if let integers {
        let run = integers.run(network, probes: group.map(\.probe), precision: Scalar.precision, known: known)
        inIntegers = try run.outputs(width: width, rows: rows.rowCount)
        overflows += run.overflows
      }
      var row = 0
      for (probe, isCut) in group {
        let range = row * width..<(row + probe.tokens.count) * width
        body(Outputs(values: values[range], inIntegers: inIntegers?[range], width: width, isCut: isCut))
        row += probe.tokens.count
      }
      done += group.count
      (group, tokenCount) = ([], 0)
      progress(done, texts.count)
    }
    for text in texts {
      let (probe, isCut) = try probe(text.first, text.second)
      if tokenCount + probe.tokens.count > Self.tokensPerGroup { try finish() }
      group.append((probe, isCut))
      tokenCount += probe.tokens.count
    }
    try finish()
    return overflows
  }

  /// The numbers that a network gives for each token of a text: [tokens, width].
  struct Outputs {
    let values: ArraySlice<Double>
    /// The same, computed in integers.
    let inIntegers: ArraySlice<Double>?
    let width: Int
    /// Is true if the text was cut.
    let isCut: Bool
  }
}

extension IntegerNetworkRun {
  /// Runs the whole network.
  fileprivate func outputs(width: Int, rows: Int) throws(Refusal) -> [Double] {
    try embed()
    for block in 0..<blockCount { try run(block: block) }
    try finish()
    let outputs = logits(of: 0..<width)
    return unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: width) { room in
      (0..<rows).flatMap { row in unsafe Array(outputs.row(row, room: room)) }
    }
  }
}

extension ArithmeticScalar {
  fileprivate static var precision: Precision { Self.self == Double.self ? .double : .single }
}
