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

  /// Appends the tokens of valid UTF-8.
  mutating func encode(_ text: Span<UInt8>) { encode(text, 0..<text.count, searching: 0) }

  /// - Parameter pass: which group of added tokens is looked for first.
  private mutating func encode(_ text: Span<UInt8>, _ range: Range<Int>, searching pass: Int) {
    guard pass < tokenizer.addedTokens.count else { return split(text, range) }
    var start = range.lowerBound
    var position = start
    while let match = tokenizer.addedTokens[pass].firstMatch(from: position, in: text, upTo: range.upperBound) {
      position = match.range.upperBound
      if match.matching.isSingleWord, !text.isSingleWord(match.range, within: range) { continue }
      var (lower, upper) = (match.range.lowerBound, match.range.upperBound)
      if match.matching.takesSpaceAfter { upper = text.endOfSpace(after: upper, upTo: range.upperBound) }
      if match.matching.takesSpaceBefore {
        // Not beyond what the token before took; that may be all of this one, where white space is a token, too. Then
        // there is no token. (Where the one before took more, `tokenizers` ends with an error.)
        let place = max(start, text.startOfSpace(before: lower, from: range.lowerBound))
        if place == upper { continue }
        lower = min(place, lower)
      }
      if start < lower { encode(text, start..<lower, searching: pass + 1) }
      tokens.append(match.id)
      start = upper
    }
    if start < range.upperBound { encode(text, start..<range.upperBound, searching: pass + 1) }
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
      merging.merge(text, start..<end, of: tokenizer, into: &tokens)
      if let key { cache.insert(key, tokens[count...]) }
      start = end
    }
  }
}

extension Span<UInt8> {
  /// The scalar that ends before `index`, and where it starts.
  private func scalar(before index: Int) -> (scalar: Unicode.Scalar, start: Int) {
    var start = index - 1
    while self[start] & 0xC0 == 0x80 { start -= 1 }
    return (scalar(at: start).scalar, start)
  }

  private func scalar(at index: Int) -> (scalar: Unicode.Scalar, end: Int) {
    let first = UInt32(self[index])
    let count = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
    var value = count == 1 ? first : first & (0x7F >> UInt32(count))
    for offset in 1..<count { value = value << 6 | UInt32(self[index + offset] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", index + count)
  }

  fileprivate func startOfSpace(before index: Int, from start: Int) -> Int {
    var index = index
    while index > start {
      let (scalar, before) = scalar(before: index)
      guard scalar.properties.isWhitespace else { break }
      index = before
    }
    return index
  }

  fileprivate func endOfSpace(after index: Int, upTo end: Int) -> Int {
    var index = index
    while index < end {
      let (scalar, after) = scalar(at: index)
      guard scalar.properties.isWhitespace else { break }
      index = after
    }
    return index
  }

  fileprivate func isSingleWord(_ range: Range<Int>, within text: Range<Int>) -> Bool {
    (range.lowerBound == text.lowerBound || !scalar(before: range.lowerBound).scalar.isWordCharacter)
      && (range.upperBound == text.upperBound || !scalar(at: range.upperBound).scalar.isWordCharacter)
  }
}

extension Unicode.Scalar {
  /// `\w` of Unicode's technical standard 18, annex C.
  fileprivate var isWordCharacter: Bool {
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
    default: return false
    }
  }
}
