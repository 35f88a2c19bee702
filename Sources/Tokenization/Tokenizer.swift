import Formats

/// A byte-level BPE tokenizer as GPT-2 defines it, for text in UTF-8, which may be brought to normalisation form C first.
///
/// Its tokens are those of Hugging Face's `tokenizers` for the same files, with added tokens (`<|endoftext|>`) found in
/// text and nothing put around it: what a `post_processor` would add is left to the caller.
package struct Tokenizer: Sendable {
  let preTokenizer: PreTokenizer
  /// Those that are found in the text as it is.
  private(set) var addedTokens = AddedTokens()
  /// Those that are found in what is left, once it is normalised.
  private(set) var normalizedTokens = AddedTokens()
  /// Is true if text is brought to normalisation form C before it is split.
  let normalizesToNFC: Bool
  private(set) var merges: MergeTable
  /// The tokens that pieces are whole, by their bytes; empty where merges make all of them.
  private(set) var wholePieces: [[UInt8]: Int] = [:]
  /// The token of each byte, or ``noToken`` of one that does not occur in text.
  private(set) var byteTokens: [UInt32] = []
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

  /// No token has this id.
  private static let noToken = UInt32.max

  /// No vocabulary comes near it; it bounds what a file of a few bytes can cost in memory.
  private static let maximumVocabularySize = 1 << 22

  /// - Throws: `.malformed` for merges or ids that contradict each other; `.unsupported` for a vocabulary in which not
  ///   every byte that UTF-8 uses has a token.
  package init(_ vocabulary: BytePairVocabulary) throws(Refusal) {
    preTokenizer = PreTokenizer(vocabulary.pattern)
    path = vocabulary.path
    normalizesToNFC = vocabulary.normalizesToNFC
    endOfText = vocabulary.specialTokens[.endOfText]
    merges = MergeTable(capacity: vocabulary.merges.count)
    let size = (vocabulary.tokens.keys.max() ?? -1) + 1
    guard size <= Self.maximumVocabularySize else {
      throw Refusal(
        .unsupported, file: path, subject: vocabulary.tokens[size - 1]?.text,
        "has the id \(size - 1); expected ids below \(Self.maximumVocabularySize)")
    }
    var ids: [[UInt8]: Int] = [:]
    ids.reserveCapacity(size)
    ends.reserveCapacity(size)
    for id in 0..<size {
      if let token = vocabulary.tokens[id], token.kind != .unused {
        // A token of characters that stand for no bytes is reached by no merge; it is what it says.
        var content = Array(token.text.utf8)
        if token.kind == .normal, let spelt = ByteAlphabet.bytes(of: token.text) {
          content = spelt
          if let other = ids.updateValue(id, forKey: content) {
            throw Refusal(.malformed, file: path, subject: token.text, "is the text of the tokens \(other) and \(id)")
          }
        } else if token.kind != .normal, !content.isEmpty {
          if token.matching.isSecond {
            let text = normalizesToNFC ? CanonicalComposition.normalized(content) : content
            normalizedTokens.insert(text, id: id, matching: token.matching)
          } else {
            addedTokens.insert(content, id: id, matching: token.matching)
          }
          // Merges may lead to a control token, too: a vocabulary of <|endoftext|> is spelt like any other.
          if let spelt = ByteAlphabet.bytes(of: token.text), ids[spelt] == nil { ids[spelt] = id }
        }
        bytes += content
      }
      isUsed.append(vocabulary.tokens[id].map { $0.kind != .unused } ?? false)
      ends.append(bytes.count)
    }
    if vocabulary.takesWholePieces { wholePieces = ids }
    for byte in UInt8.min ... .max {
      let id = ids[[byte]]
      guard id != nil || !ByteAlphabet.occursInText(byte) else {
        throw Refusal(
          .unsupported, file: path, subject: String(ByteAlphabet.scalars[Int(byte)]),
          "byte \(byte) has no token, so that text would lose it",
          advice: "name a tokenizer with every byte that UTF-8 uses")
      }
      byteTokens.append(id.map { UInt32($0) } ?? Self.noToken)
    }
    for (rank, text) in vocabulary.merges.enumerated() { try insert(text, rank: rank, ids: ids) }
  }

  private mutating func insert(_ merge: String, rank: Int, ids: [[UInt8]: Int]) throws(Refusal) {
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
    guard merges.insert(UInt32(one), UInt32(other), .init(rank: rank, result: result)) else {
      throw Refusal(.malformed, file: path, subject: merge, "the merge occurs twice")
    }
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
  /// - Throws: `.malformed` for an id without a token.
  package func decode(_ tokens: some Sequence<Int>) throws(Refusal) -> [UInt8] {
    var result: [UInt8] = []
    for (index, id) in tokens.enumerated() {
      guard isUsed.indices.contains(id), isUsed[id] else {
        throw Refusal(
          .malformed, "token \(index): expected an id below \(vocabularySize) that has a token, found \(id)",
          advice: "the tokens belong to another tokenizer than \(path)")
      }
      result += bytes[(id > 0 ? ends[id - 1] : 0)..<ends[id]]
    }
    return result
  }

  /// The text of the tokens; U+FFFD where they end within a character.
  ///
  /// - Throws: `.malformed` for an id without a token.
  package func text(of tokens: some Sequence<Int>) throws(Refusal) -> String {
    String(decoding: try decode(tokens), as: UTF8.self)
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
