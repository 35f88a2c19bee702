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
  ///   - workers: share the work.
  ///   - progress: is told how many texts are done, and of how many.
  ///   - body: is given what the network gives for each token of a text, [tokens, width], the width, and whether the text was cut.
  /// - Throws: what ``probe(_:_:)`` throws.
  func run<Scalar: ArithmeticScalar>(
    _ network: Network, as scalar: Scalar.Type, on texts: [(first: String, second: String?)], options: ReadingOptions,
    workers: Workers, progress: MeasurementInput.Progress,
    _ body: (_ values: ArraySlice<Double>, _ width: Int, _ isCut: Bool) -> Void
  ) throws(Refusal) {
    let network = try network.materialised(for: scalar, in: options.temporaryDirectory)
    var (group, tokenCount, done) = ([(probe: Probe, isCut: Bool)](), 0, 0)
    func finish() throws(Refusal) {
      guard !group.isEmpty else { return }
      let rows = try network.logits(on: FastBackend<Scalar>(probes: group.map(\.probe), workers: workers)).all()
      let (values, width) = (rows.doubles(), rows.columnCount)
      var row = 0
      for (probe, isCut) in group {
        body(values[row * width..<(row + probe.tokens.count) * width], width, isCut)
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
  }
}
