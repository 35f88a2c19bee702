import NormFoldFormats

/// Byte-level BPE: a pattern splits text into pieces, and the bytes of each piece are merged.
struct ByteLevelModel: TokenModel {
  private let preTokenizer: PreTokenizer
  private let merges: MergeTable
  /// The tokens that pieces are whole, by their bytes; empty where merges make all of them.
  private let wholePieces: [[UInt8]: Int]
  /// Is true if a space is put before text that does not start with one.
  private let addsPrefixSpace: Bool
  /// The token of each byte, or ``noToken`` of one that does not occur in text.
  let byteTokens: [UInt32]

  /// No token has this id.
  private static let noToken = UInt32.max

  /// - Throws: `.malformed` for merges or ids that contradict each other; `.unsupported` for a vocabulary in which not
  ///   every byte that UTF-8 uses has a token.
  init(_ vocabulary: Vocabulary, _ kind: ByteLevelKind) throws(Refusal) {
    preTokenizer = PreTokenizer(kind.pattern)
    addsPrefixSpace = kind.addsPrefixSpace
    let ids = try Self.ids(of: vocabulary)
    wholePieces = kind.takesWholePieces ? ids : [:]
    var byteTokens: [UInt32] = []
    for byte in UInt8.min ... .max {
      let id = ids[[byte]]
      guard id != nil || !ByteAlphabet.occursInText(byte) else {
        throw Refusal(
          .unsupported, file: vocabulary.path, subject: String(ByteAlphabet.scalars[Int(byte)]),
          "byte \(byte) has no token, so that text would lose it",
          advice: "name a tokenizer with every byte that UTF-8 uses")
      }
      byteTokens.append(id.map { UInt32($0) } ?? Self.noToken)
    }
    self.byteTokens = byteTokens
    var merges = MergeTable(capacity: kind.merges.count)
    for (rank, text) in kind.merges.enumerated() {
      try Self.insert(text, rank: rank, ids: ids, into: &merges, path: vocabulary.path)
    }
    self.merges = merges
  }

  /// The tokens by the bytes that they stand for.
  private static func ids(of vocabulary: Vocabulary) throws(Refusal) -> [[UInt8]: Int] {
    var ids: [[UInt8]: Int] = [:]
    ids.reserveCapacity(vocabulary.tokens.count)
    let byID = vocabulary.tokens.sorted { $0.key < $1.key }
    // A token of characters that stand for no bytes is reached by no merge.
    for (id, token) in byID where token.kind == .normal {
      guard let bytes = ByteAlphabet.bytes(of: token.text) else { continue }
      if let other = ids.updateValue(id, forKey: bytes) {
        throw Refusal(
          .malformed, file: vocabulary.path, subject: token.text, "is the text of the tokens \(other) and \(id)")
      }
    }
    // Merges may lead to a control token, too: a vocabulary of <|endoftext|> is spelt like any other.
    for (id, token) in byID where token.kind != .normal && token.kind != .unused {
      if let bytes = ByteAlphabet.bytes(of: token.text), ids[bytes] == nil { ids[bytes] = id }
    }
    return ids
  }

  private static func insert(
    _ merge: String, rank: Int, ids: [[UInt8]: Int], into merges: inout MergeTable, path: String
  ) throws(Refusal) {
    let parts = merge.utf8.split(separator: UInt8(ascii: " ")).map { ByteAlphabet.bytes(of: Substring($0)) }
    guard parts.count == 2, let left = parts[0], let right = parts[1] else {
      throw Refusal(
        .malformed, file: path, subject: merge, "expected a merge of two parts in GPT-2's alphabet of bytes")
    }
    for part in [left, right, left + right] where ids[part] == nil {
      throw Refusal(
        .malformed, file: path, subject: merge,
        "the merge is of a token that the vocabulary does not have: \(part == left + right ? "its result" : "a part of it")"
      )
    }
    guard let one = ids[left], let other = ids[right], let result = ids[left + right] else { return }
    guard merges.insert(UInt32(one), UInt32(other), .init(rank: rank, result: UInt32(result))) else {
      throw Refusal(.malformed, file: path, subject: merge, "the merge occurs twice")
    }
  }

  // MARK: Encoding

  func encode(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, into work: inout EncodingWork) {
    guard addsPrefixSpace, place != .middle, text[range.lowerBound] != UInt8(ascii: " ") else {
      return split(text, range, into: &work)
    }
    let longer = [UInt8(ascii: " ")] + range.map { text[$0] }
    split(longer.span, longer.indices, into: &work)
  }

  private func split(_ text: Span<UInt8>, _ range: Range<Int>, into work: inout EncodingWork) {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = preTokenizer.end(ofPieceAt: start, in: text, upTo: range.upperBound)
      let key = PieceCache.Key(text, start..<end)
      if let key, work.cache.append(key, to: &work.tokens) {
        start = end
        continue
      }
      let count = work.tokens.count
      if let whole = wholeToken(text, start..<end) {
        work.tokens.append(whole)
      } else {
        work.merging.removeParts()
        for index in start..<end { work.merging.append(byteTokens[Int(text[index])]) }
        work.merging.merge(by: merges)
        for part in work.merging.parts { work.tokens.append(Int(part)) }
      }
      if let key { work.cache.insert(key, work.tokens[count...]) }
      start = end
    }
  }

  /// The token that a piece of text is as a whole, where the tokenizer looks for that before it merges.
  private func wholeToken(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
    guard !wholePieces.isEmpty else { return nil }
    return wholePieces[range.map { text[$0] }]
  }

  func isBoundary(_ index: Int, in text: Span<UInt8>) -> Bool { preTokenizer.isBoundary(index, in: text) }
}
