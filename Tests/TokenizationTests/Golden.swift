import TestSupport

/// What Hugging Face's `tokenizers` make of hard texts (`Tests/Interop/tokenizer_golden.py`).
struct Golden: Decodable {
  struct Text: Decodable {
    let text: String
    let ids: [Int]
  }

  struct Generated: Decodable {
    let seed: UInt64
    let byteCount: Int
    /// SHA-256 of the text.
    let text: String
    let count: Int
    /// SHA-256 of the ids, two bytes each.
    let ids: String
  }

  /// Added tokens, as `tokenizer.json` has them, in place of those of the small tokenizer.
  struct Added: Decodable {
    struct Token: Codable {
      let id: Int
      let content: String
      let isSingleWord: Bool
      let lstrip: Bool
      let rstrip: Bool
      let normalized: Bool
      let special: Bool

      enum CodingKeys: String, CodingKey {
        case id, content, lstrip, rstrip, normalized, special
        case isSingleWord = "single_word"
      }
    }

    let tokens: [Token]
    let texts: [Text]
  }

  let texts: [Text]
  /// Scalars at which the class changes, and the class from there on.
  let classes: [[Int]]
  let generated: Generated
  let added: [Added]

  static func read() throws -> Golden { try Fixtures.decode("tokenizer/golden.json") }
}

/// What they make of texts that they normalise (`Tests/Interop/tokenizer_nfc_golden.py`).
struct NormalizingGolden: Decodable {
  /// The tokens of the first are a run of spaces each, mostly.
  let cases: [Golden.Added]
  let generated: Golden.Generated
  /// SHA-256 of the normal form of every character between others.
  let everyCharacter: String

  static func read() throws -> NormalizingGolden { try Fixtures.decode("tokenizer/nfc.json") }
}
