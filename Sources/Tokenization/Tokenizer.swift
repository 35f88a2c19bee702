import NormFoldFormats

/// A tokenizer of any kind (``TokenizerKind``), for text in UTF-8.
///
/// Its tokens are those of Hugging Face's `tokenizers`, or of SentencePiece, for the same files: added tokens
/// (`<|endoftext|>`) are found in the text, which is then normalised and taken apart. Nothing is put around it; what a
/// tokenizer would put there is its ``template``.
package struct Tokenizer: Sendable {
  /// Those that are found in the text as it is.
  private(set) var addedTokens = AddedTokens()
  /// Those that are found in what is left, once it is normalised.
  private(set) var normalizedTokens = AddedTokens()
  let normalizer: (any TextNormalizer)?
  let model: any TokenModel
  private let putsSpaceFirst: Bool
  /// The place where the bytes of each id end in ``bytes``; they start where those of the id before end.
  private var ends: [Int] = []
  private var bytes: [UInt8] = []
  /// True for each id that has a token.
  private var isUsed: [Bool] = []

  /// The path that it was read from.
  package let path: String
  /// One more than the largest id.
  package var vocabularySize: Int { ends.count }
  /// The token that separates texts.
  package let endOfText: Int?
  /// The token that stands before a text; nil where none does.
  package let beginOfText: Int?
  /// The tokens that are put around a text, or around two; nil where there is no template.
  package let template: TokenTemplate?

  /// No vocabulary comes near it; it bounds what a file of a few bytes can cost in memory.
  private static let maximumVocabularySize = 1 << 22

  /// - Throws: `.malformed` for merges or ids that contradict each other; `.unsupported` for a vocabulary that would lose
  ///   text.
  package init(_ vocabulary: Vocabulary) throws(Refusal) {
    path = vocabulary.path
    endOfText = vocabulary.specialTokens[.endOfText]
    beginOfText = vocabulary.addsBeginOfText ? vocabulary.specialTokens[.beginOfText] : nil
    template = vocabulary.template
    putsSpaceFirst = vocabulary.kind.putsSpaceFirst
    let size = (vocabulary.tokens.keys.max() ?? -1) + 1
    guard size <= Self.maximumVocabularySize else {
      throw Refusal(
        .unsupported, file: path, subject: vocabulary.tokens[size - 1]?.text,
        "has the id \(size - 1); expected ids below \(Self.maximumVocabularySize)")
    }
    normalizer = try vocabulary.kind.normalizer(of: vocabulary)
    model = try vocabulary.kind.model(of: vocabulary)
    ends.reserveCapacity(size)
    for id in 0..<size {
      if let token = vocabulary.tokens[id], token.kind != .unused {
        bytes += vocabulary.kind.bytes(of: token)
        if let matching = token.matching { add(token.text, id: id, matching) }
      }
      isUsed.append(vocabulary.tokens[id].map { $0.kind != .unused } ?? false)
      ends.append(bytes.count)
    }
  }

  private mutating func add(_ text: String, id: Int, _ matching: Vocabulary.Matching) {
    let content = Array(text.utf8)
    guard matching.isSecond || matching.isPiece else {
      if !content.isEmpty { addedTokens.insert(content, id: id, matching: matching) }
      return
    }
    let normal = matching.isPiece ? nil : normalizer?.normalized(content.span, content.indices, at: .start)
    if !(normal ?? content).isEmpty { normalizedTokens.insert(normal ?? content, id: id, matching: matching) }
  }

  // MARK: Encoding

  /// The tokens of a text; nothing is put before or after them.
  package func encode(_ text: String) -> [Int] {
    var encoder = Encoder(self, expecting: text.utf8.count)
    encoder.encode(text.utf8.span)
    return encoder.tokens
  }

  // MARK: Decoding

  /// The bytes that the tokens stand for: of ids in any order, perhaps no UTF-8.
  ///
  /// - Parameter isContinuation: says that other text stands before them, so that a space in front is one.
  /// - Throws: `.malformed` for an id without a token.
  package func decode(_ tokens: some Sequence<Int>, isContinuation: Bool = false) throws(Refusal) -> [UInt8] {
    var result: [UInt8] = []
    for (index, id) in tokens.enumerated() {
      guard isUsed.indices.contains(id), isUsed[id] else {
        throw Refusal(
          .malformed, "token \(index): expected an id below \(vocabularySize) that has a token, found \(id)",
          advice: "the tokens belong to another tokenizer than \(path)")
      }
      result += bytes[(id > 0 ? ends[id - 1] : 0)..<ends[id]]
    }
    if putsSpaceFirst, !isContinuation, result.first == UInt8(ascii: " ") { result.removeFirst() }
    return result
  }

  /// The text of the tokens; U+FFFD where they end within a character.
  ///
  /// - Throws: `.malformed` for an id without a token.
  package func text(of tokens: some Sequence<Int>, isContinuation: Bool = false) throws(Refusal) -> String {
    String(decoding: try decode(tokens, isContinuation: isContinuation), as: UTF8.self)
  }
}

extension Span<UInt8> {
  /// - Throws: `.malformed` with the offset of the first byte that is not UTF-8.
  func requireUTF8(file: String, baseOffset: Int) throws(Refusal) {
    do throws(Unicode.UTF8.ValidationError) {
      _ = try UTF8Span(validating: self)
    } catch {
      throw Refusal(
        .malformed, file: file, at: baseOffset + error.byteOffsets.lowerBound,
        "the text is not UTF-8: byte 0x\(String(self[error.byteOffsets.lowerBound], radix: 16))",
        advice: "convert it to UTF-8 first, for example with iconv")
    }
  }
}
