/// Text in, tokens out: what a tokenizer needs while it works.
struct Encoder: ~Copyable {
  private let tokenizer: Tokenizer
  private var merging = Merging()
  private var cache: PieceCache
  var tokens: [Int] = []

  /// - Parameter byteCount: how much text is to be expected.
  init(_ tokenizer: Tokenizer, expecting byteCount: Int) {
    self.tokenizer = tokenizer
    cache = PieceCache(expecting: byteCount)
  }

  /// A stage says what is still to be done with a part of a text.
  private enum Stage {
    /// Added tokens are found in the text as it is.
    case asWritten
    /// The text is in the tokenizer's normalisation form. The other added tokens are found in it.
    case normalized
  }

  /// Appends the tokens of valid UTF-8.
  mutating func encode(_ text: Span<UInt8>) { encode(text, 0..<text.count, .asWritten) }

  private mutating func encode(_ text: Span<UInt8>, _ range: Range<Int>, _ stage: Stage) {
    let added = stage == .asWritten ? tokenizer.addedTokens : tokenizer.normalizedTokens
    var (start, position) = (range.lowerBound, range.lowerBound)
    while let token = added.next(from: &position, after: start, in: text, range) {
      if start < token.range.lowerBound { encodeStretch(text, start..<token.range.lowerBound, after: stage) }
      tokens.append(token.id)
      start = token.range.upperBound
    }
    if start < range.upperBound { encodeStretch(text, start..<range.upperBound, after: stage) }
  }

  /// Appends the tokens of what is left between added tokens.
  private mutating func encodeStretch(_ text: Span<UInt8>, _ range: Range<Int>, after stage: Stage) {
    switch stage {
    case .asWritten:
      if tokenizer.normalizesToNFC, let changed = CanonicalComposition.normalized(text, range) {
        encode(changed.span, changed.indices, .normalized)
      } else {
        encode(text, range, .normalized)
      }
    case .normalized: split(text, range)
    }
  }

  /// Text without added tokens.
  private mutating func split(_ text: Span<UInt8>, _ range: Range<Int>) {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = tokenizer.preTokenizer.end(ofPieceAt: start, in: text, upTo: range.upperBound)
      let key = PieceCache.Key(text, start..<end)
      if let key, cache.append(key, to: &tokens) {
        start = end
        continue
      }
      let count = tokens.count
      if let whole = tokenizer.wholeToken(text, start..<end) {
        tokens.append(whole)
      } else {
        merging.merge(text, start..<end, of: tokenizer, into: &tokens)
      }
      if let key { cache.insert(key, tokens[count...]) }
      start = end
    }
  }
}

extension Tokenizer {
  /// The token that a piece of text is as a whole, where the tokenizer looks for that before it merges.
  fileprivate func wholeToken(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
    guard !wholePieces.isEmpty else { return nil }
    return wholePieces[range.map { text[$0] }]
  }
}
