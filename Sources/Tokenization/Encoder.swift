/// Text in, tokens out: what a tokenizer needs while it works.
struct Encoder: ~Copyable {
  private let tokenizer: Tokenizer
  private var work: EncodingWork

  var tokens: [Int] {
    get { work.tokens }
    set { work.tokens = newValue }
  }

  /// - Parameter byteCount: how much text is to be expected.
  init(_ tokenizer: Tokenizer, expecting byteCount: Int) {
    self.tokenizer = tokenizer
    work = EncodingWork(expecting: byteCount)
  }

  mutating func removeTokens() { work.tokens.removeAll(keepingCapacity: true) }

  /// A stage says what is still to be done with a part of a text.
  private enum Stage {
    /// Added tokens are found in the text as it is.
    case asWritten
    /// The text is in the tokenizer's normal form. The other added tokens are found in it.
    case normalized
  }

  /// Appends the tokens of valid UTF-8.
  ///
  /// - Parameter place: is in the middle for what follows a cut (``Tokenizer/encodeFile(at:upTo:windowByteCount:_:)``).
  mutating func encode(_ text: Span<UInt8>, at place: TextPlace = .start) {
    encode(text, 0..<text.count, at: place, .asWritten)
  }

  private mutating func encode(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, _ stage: Stage) {
    let added = stage == .asWritten ? tokenizer.addedTokens : tokenizer.normalizedTokens
    var (start, position) = (range.lowerBound, range.lowerBound)
    func placeOfStart() -> TextPlace { start == range.lowerBound ? place : .behindToken }
    while let token = added.next(from: &position, after: start, in: text, range) {
      if start < token.range.lowerBound {
        encodeStretch(text, start..<token.range.lowerBound, at: placeOfStart(), after: stage)
      }
      work.tokens.append(token.id)
      start = token.range.upperBound
    }
    if start < range.upperBound { encodeStretch(text, start..<range.upperBound, at: placeOfStart(), after: stage) }
  }

  /// Appends the tokens of what is left between added tokens.
  private mutating func encodeStretch(
    _ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, after stage: Stage
  ) {
    switch stage {
    case .asWritten:
      if let normalizer = tokenizer.normalizer, let changed = normalizer.normalized(text, range, at: place) {
        encode(changed.span, changed.indices, at: place, .normalized)
      } else {
        encode(text, range, at: place, .normalized)
      }
    case .normalized: tokenizer.model.encode(text, range, at: place, into: &work)
    }
  }
}
