import NormFoldFormats

/// BPE over characters, with bytes or one unknown token for those that have no token.
///
/// A text is not split by a pattern. But what stands side by side in no token is never merged, so that text is cut there,
/// and each piece is merged alone.
struct CharacterModel: TokenModel {
  /// The token of each character. Numbers from ``tokenCount`` on are characters that only occur in longer tokens.
  private var symbols = ScalarTable()
  private let merges: MergeTable
  /// Two characters that stand side by side in a token.
  private let neighbours: MergeTable
  /// The token of each byte; empty where bytes have none.
  private let byteTokens: [UInt32]
  /// Stands for a character without a token, where bytes have none.
  private let unknown: UInt32
  private let fusesUnknown: Bool
  private let tokenCount: UInt32
  /// The characters of the numbers from ``tokenCount`` on.
  private let extraCharacters: [Unicode.Scalar]
  private let lateSpaces: Metaspace?
  private let splitsAtSpaces: Bool

  /// Tokens in use are shorter by far. It bounds the time that a file of a few bytes can cost.
  private static let longestToken = 1 << 10

  /// - Throws: `.malformed` for merges, scores or ids that contradict each other; `.unsupported` for a vocabulary that would
  ///   lose text.
  init(_ vocabulary: Vocabulary, _ kind: SentencePieceKind) throws(Refusal) {
    byteTokens = try Self.byteTokens(of: vocabulary, kind)
    let unknown = vocabulary.specialTokens[.unknown]
    guard let number = unknown ?? byteTokens.first.map({ Int($0) }) else {
      throw Refusal(
        .unsupported, file: vocabulary.path, subject: "unk_token",
        "names no token for characters that have none, so that text would lose them",
        advice: "name a tokenizer with an unknown token, or with a token for every byte")
    }
    self.unknown = UInt32(number)
    fusesUnknown = kind.fusesUnknown
    lateSpaces = kind.replacesLate ? kind.spaces : nil
    splitsAtSpaces = kind.replacesLate && kind.spaces.splits
    let builder = try Builder(vocabulary, kind)
    tokenCount = builder.tokenCount
    extraCharacters = builder.extraCharacters
    symbols = builder.symbols
    merges = try builder.table(path: vocabulary.path)
    neighbours = builder.neighbours
  }

  private static func byteTokens(
    of vocabulary: Vocabulary, _ kind: SentencePieceKind
  ) throws(Refusal) -> [UInt32] {
    guard kind.hasBytes else { return [] }
    var ids: [String: Int] = [:]
    for (id, token) in vocabulary.tokens where token.kind == .byte { ids[token.text] = id }
    let tokens = (0..<256).compactMap { ids[SentencePieceKind.name(ofByte: $0)].map { UInt32($0) } }
    guard tokens.isEmpty || tokens.count == 256 else {
      throw Refusal(
        .unsupported, file: vocabulary.path, subject: "byte_fallback",
        "expected tokens for all 256 bytes, or for none, found \(tokens.count)")
    }
    return tokens
  }

  // MARK: Encoding

  func encode(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, into work: inout EncodingWork) {
    guard let lateSpaces else { return encode(text, range, into: &work) }
    let changed = lateSpaces.applied(to: text, range, at: place)
    encode(changed.span, changed.indices, into: &work)
  }

  private func encode(_ text: Span<UInt8>, _ range: Range<Int>, into work: inout EncodingWork) {
    var start = range.lowerBound
    while start < range.upperBound {
      var (last, end) = text.scalar(at: start)
      while end < range.upperBound {
        let (next, after) = text.scalar(at: end)
        if isBoundary(between: last, next) { break }
        (last, end) = (next, after)
      }
      let key = PieceCache.Key(text, start..<end)
      if let key, work.cache.append(key, to: &work.tokens) {
        start = end
        continue
      }
      let count = work.tokens.count
      merge(text, start..<end, into: &work)
      if let key { work.cache.insert(key, work.tokens[count...]) }
      start = end
    }
  }

  private func merge(_ text: Span<UInt8>, _ range: Range<Int>, into work: inout EncodingWork) {
    work.merging.removeParts()
    var index = range.lowerBound
    while index < range.upperBound {
      let (scalar, next) = text.scalar(at: index)
      let symbol = symbols[scalar]
      if symbol != ScalarTable.none {
        work.merging.append(symbol)
      } else if byteTokens.isEmpty {
        work.merging.append(unknown)
      } else {
        for place in index..<next { work.merging.append(byteTokens[Int(text[place])]) }
      }
      index = next
    }
    work.merging.merge(by: merges)
    let isFused = fusesUnknown && byteTokens.isEmpty
    var isUnknown = false
    for part in work.merging.parts {
      if part >= tokenCount, !byteTokens.isEmpty {
        for byte in extraCharacters[Int(part - tokenCount)].utf8 { work.tokens.append(Int(byteTokens[Int(byte)])) }
        continue
      }
      let token = part < tokenCount ? part : unknown
      if token == unknown, isFused, isUnknown { continue }
      isUnknown = token == unknown
      work.tokens.append(Int(token))
    }
  }

  // MARK: Boundaries

  @inline(__always)
  private func isBoundary(between left: Unicode.Scalar, _ right: Unicode.Scalar) -> Bool {
    if splitsAtSpaces, right == SentencePieceKind.mark { return true }
    if neighbours[left.value, right.value] < .none { return false }
    // Two without a token may be one unknown token together.
    guard byteTokens.isEmpty, fusesUnknown else { return true }
    return symbols[left] < tokenCount || symbols[right] < tokenCount
  }

  func isBoundary(_ index: Int, in text: Span<UInt8>) -> Bool {
    var (left, right) = (text.scalar(before: index).scalar, text.scalar(at: index).scalar)
    if lateSpaces != nil {
      if left == " " { left = SentencePieceKind.mark }
      if right == " " { right = SentencePieceKind.mark }
    }
    return isBoundary(between: left, right)
  }
}

extension CharacterModel {
  /// A collection of what the model's tables are made of.
  fileprivate struct Builder {
    private var ids: [ExactText: Int] = [:]
    private var found: [(left: UInt32, right: UInt32, merge: MergeTable.Merge, name: String)] = []
    private var pairs: Set<UInt64> = []
    let tokenCount: UInt32
    private(set) var extraCharacters: [Unicode.Scalar] = []
    private(set) var symbols = ScalarTable()

    init(_ vocabulary: Vocabulary, _ kind: SentencePieceKind) throws(Refusal) {
      tokenCount = UInt32((vocabulary.tokens.keys.max() ?? -1) + 1)
      switch kind.order {
      case .merges(let merges):
        try readTokens(of: vocabulary) { $0.isInModel }
        try read(merges, path: vocabulary.path)
      case .scores(let scores):
        try readTokens(of: vocabulary) { $0.isInModel && [.normal, .userDefined].contains($0.kind) }
        try read(scores, of: vocabulary)
      }
    }

    private mutating func readTokens(
      of vocabulary: Vocabulary, where isRead: (Vocabulary.Token) -> Bool
    ) throws(Refusal) {
      for (id, token) in vocabulary.tokens.sorted(by: { $0.key < $1.key }) where isRead(token) {
        guard token.text.utf8.count <= CharacterModel.longestToken else {
          throw Refusal(
            .unsupported, file: vocabulary.path, subject: String(token.text.prefix(40)),
            "expected tokens of at most \(CharacterModel.longestToken) bytes, found \(token.text.utf8.count)")
        }
        let scalars = token.text.unicodeScalars
        if let other = ids.updateValue(id, forKey: ExactText(token.text)) {
          throw Refusal(
            .malformed, file: vocabulary.path, subject: token.text, "is the text of the tokens \(other) and \(id)")
        }
        if scalars.count == 1, let scalar = scalars.first { symbols[scalar] = UInt32(id) }
      }
    }

    private mutating func read(_ merges: [SentencePieceKind.Pair], path: String) throws(Refusal) {
      for (rank, pair) in merges.enumerated() {
        let name = "\(pair.left.text) \(pair.right.text)"
        guard let left = ids[pair.left], let right = ids[pair.right], let result = ids[pair.whole] else {
          throw Refusal(
            .malformed, file: path, subject: name, "the merge is of a token that the vocabulary does not have")
        }
        add(UInt32(left), UInt32(right), rank: rank, result, of: pair.whole.text, name: name)
      }
    }

    /// Every way to make a token of two others, or of characters that only occur in longer ones, by the token's score.
    private mutating func read(_ scores: [Int: Float], of vocabulary: Vocabulary) throws(Refusal) {
      var ranks: [Float: Int] = [:]
      for (rank, score) in Set(scores.values).sorted(by: >).enumerated() { ranks[score] = rank }
      for (key, id) in ids.sorted(by: { $0.value < $1.value }) {
        let scalars = key.text.unicodeScalars
        guard scalars.count > 1 else { continue }
        guard let score = scores[id], score.isFinite, let rank = ranks[score] else {
          throw Refusal(.malformed, file: vocabulary.path, subject: key.text, "has no score that is a number")
        }
        for cut in scalars.indices.dropFirst() {
          guard let left = symbol(of: scalars[..<cut]), let right = symbol(of: scalars[cut...]) else { continue }
          add(left, right, rank: rank, id, of: key.text, name: "")
        }
      }
    }

    private mutating func symbol(of scalars: Substring.UnicodeScalarView) -> UInt32? {
      if let id = ids[ExactText(scalars)] { return UInt32(id) }
      guard let scalar = scalars.first, scalars.dropFirst().isEmpty else { return nil }
      if symbols[scalar] == ScalarTable.none {
        symbols[scalar] = tokenCount + UInt32(extraCharacters.count)
        extraCharacters.append(scalar)
      }
      return symbols[scalar]
    }

    private mutating func add(
      _ left: UInt32, _ right: UInt32, rank: Int, _ result: Int, of text: String, name: String
    ) {
      found.append((left, right, .init(rank: rank, result: UInt32(result)), name))
      var last: Unicode.Scalar?
      for scalar in text.unicodeScalars {
        if let last { pairs.insert(UInt64(last.value) << 32 | UInt64(scalar.value)) }
        last = scalar
      }
    }

    /// - Throws: `.malformed` for a merge that occurs twice.
    func table(path: String) throws(Refusal) -> MergeTable {
      var table = MergeTable(capacity: found.count)
      for item in found where !table.insert(item.left, item.right, item.merge) {
        throw Refusal(.malformed, file: path, subject: item.name, "the merge occurs twice")
      }
      return table
    }

    var neighbours: MergeTable {
      var table = MergeTable(capacity: pairs.count)
      for pair in pairs {
        _ = table.insert(UInt32(pair >> 32), UInt32(truncatingIfNeeded: pair), .init(rank: 0, result: 0))
      }
      return table
    }
  }
}
