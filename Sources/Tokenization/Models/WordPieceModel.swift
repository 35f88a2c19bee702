import NormFoldFormats

/// WordPiece: text is taken apart at white space and around punctuation, and each word is cut, from the left, into the longest
/// pieces that are tokens. A word of which a part is none is unknown as a whole.
///
/// Source: Devlin et al., "BERT" (2018), and Hugging Face's `tokenizers`, `BertPreTokenizer` and `WordPiece`.
struct WordPieceModel: TokenModel {
  private var starts = ByteTrie()
  private var continuations = ByteTrie()
  private let unknown: Int
  private let maximumWordLength: Int

  /// - Throws: `.unsupported` for a vocabulary without an unknown token.
  init(_ vocabulary: Vocabulary, _ kind: WordPieceKind) throws(Refusal) {
    guard let unknown = vocabulary.specialTokens[.unknown] else {
      throw Refusal(
        .unsupported, file: vocabulary.path, subject: "unk_token",
        "names no token for words that have none, so that text would lose them")
    }
    self.unknown = unknown
    maximumWordLength = kind.maximumWordLength
    let prefix = Array(kind.continuationPrefix.utf8)
    for (id, token) in vocabulary.tokens.sorted(by: { $0.key < $1.key }) where token.isInModel && token.kind != .unused
    {
      let text = Array(token.text.utf8)
      if !text.isEmpty { starts.insert(text, number: id) }
      if text.count > prefix.count, text.starts(with: prefix) {
        continuations.insert(Array(text.dropFirst(prefix.count)), number: id)
      }
    }
  }

  func encode(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, into work: inout EncodingWork) {
    var index = range.lowerBound
    while index < range.upperBound {
      let (scalar, next) = text.scalar(at: index)
      if scalar.properties.isWhitespace {
        index = next
        continue
      }
      var end = next
      if !BERTCharacter.isPunctuation(scalar) {
        while end < range.upperBound {
          let (scalar, next) = text.scalar(at: end)
          if scalar.properties.isWhitespace || BERTCharacter.isPunctuation(scalar) { break }
          end = next
        }
      }
      encodeWord(text, index..<end, into: &work)
      index = end
    }
  }

  private func encodeWord(_ text: Span<UInt8>, _ range: Range<Int>, into work: inout EncodingWork) {
    let key = PieceCache.Key(text, range)
    if let key, work.cache.append(key, to: &work.tokens) { return }
    let count = work.tokens.count
    var index = range.lowerBound
    if range.count(where: { text.isStartOfScalar($0) }) > maximumWordLength {
      work.tokens.append(unknown)
      index = range.upperBound
    }
    while index < range.upperBound {
      let trie = index == range.lowerBound ? starts : continuations
      guard let match = trie.match(at: index, in: text, upTo: range.upperBound) else {
        work.tokens.removeLast(work.tokens.count - count)
        work.tokens.append(unknown)
        break
      }
      work.tokens.append(match.number)
      index = match.end
    }
    if let key { work.cache.insert(key, work.tokens[count...]) }
  }

  func isBoundary(_ index: Int, in text: Span<UInt8>) -> Bool {
    [text.scalar(before: index).scalar, text.scalar(at: index).scalar].contains {
      $0.properties.isWhitespace || BERTCharacter.isPunctuation($0)
    }
  }
}
