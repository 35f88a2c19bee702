/// Tokens that are found in text before it is split: the end of text, and what a tokenizer's owner added.
///
/// At the first position where one matches, the longest counts; the search goes on where it ends.
struct AddedTokens: Sendable {
  private struct Match {
    let id: Int
    let range: Range<Int>
    let matching: Vocabulary.Matching
  }

  private var trie = ByteTrie()
  private var matchings: [Int: Vocabulary.Matching] = [:]

  /// In bytes.
  var longest: Int { trie.longest }
  var isEmpty: Bool { trie.isEmpty }

  /// - Precondition: `text` is not empty.
  mutating func insert(_ text: [UInt8], id: Int, matching: Vocabulary.Matching) {
    trie.insert(text, number: id)
    matchings[id] = matching
  }

  // MARK: Searching

  /// The longest token at `start`.
  private func match(at start: Int, in text: Span<UInt8>, upTo end: Int) -> Match? {
    trie.match(at: start, in: text, upTo: end).map { number, end in
      Match(id: number, range: start..<end, matching: matchings[number] ?? .init())
    }
  }

  /// Returns where the longest token at `start` ends; nil where there is none.
  func end(ofTokenAt start: Int, in text: Span<UInt8>, upTo end: Int) -> Int? {
    isEmpty ? nil : match(at: start, in: text, upTo: end)?.range.upperBound
  }

  private func firstMatch(from start: Int, in text: Span<UInt8>, upTo end: Int) -> Match? {
    guard !isEmpty else { return nil }
    for index in start..<end where trie.isFirst[Int(text[index])] {
      if let match = match(at: index, in: text, upTo: end) { return match }
    }
    return nil
  }

  /// Returns the next token in a part of a text, with the white space that it takes.
  ///
  /// - Parameters:
  ///   - position: where the search starts. It moves behind the token.
  ///   - end: where the token before ends, with the white space that it took.
  func next(
    from position: inout Int, after end: Int, in text: Span<UInt8>, _ range: Range<Int>
  ) -> (id: Int, range: Range<Int>)? {
    while let match = firstMatch(from: position, in: text, upTo: range.upperBound) {
      position = match.range.upperBound
      if match.matching.isSingleWord, !text.isSingleWord(match.range, within: range) { continue }
      var (lower, upper) = (match.range.lowerBound, match.range.upperBound)
      if match.matching.takesSpaceAfter { upper = text.endOfSpace(after: upper, upTo: range.upperBound) }
      if match.matching.takesSpaceBefore {
        // Not beyond what the token before took; that may be all of this one, where white space is a token, too. Then
        // there is no token. (Where the one before took more, `tokenizers` ends with an error.)
        let start = max(end, text.startOfSpace(before: lower, from: range.lowerBound))
        if start == upper { continue }
        lower = min(start, lower)
      }
      return (match.id, lower..<upper)
    }
    return nil
  }

  /// Returns what is left of a text between its tokens, in order.
  func stretches(of text: Span<UInt8>) -> [Range<Int>] {
    var stretches: [Range<Int>] = []
    var (start, position) = (0, 0)
    while let token = next(from: &position, after: start, in: text, 0..<text.count) {
      if start < token.range.lowerBound { stretches.append(start..<token.range.lowerBound) }
      start = token.range.upperBound
    }
    if start < text.count { stretches.append(start..<text.count) }
    return stretches
  }

  /// Returns whether no token holds the place before `index`, or stands next to it: text cut there has the same ones.
  func allowCut(before index: Int, in text: Span<UInt8>) -> Bool {
    guard !isEmpty else { return true }
    for start in max(0, index - longest)...index where start < text.count && trie.isFirst[Int(text[start])] {
      if let match = match(at: start, in: text, upTo: text.count), match.range.upperBound >= index { return false }
    }
    return true
  }
}

extension Span<UInt8> {
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
