import Testing
import TestSupport

@testable import NormFoldTokenization

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

extension Golden.Generated {
  /// Holds a tokenizer to the library's ids of the generated text, and to the same ids where the text is read from a file
  /// in small windows.
  func expectIds(of tokenizer: Tokenizer, as format: TokenFormat) throws {
    let bytes = GeneratedText.bytes(seed: seed, count: byteCount)
    #expect(bytes.digest == text, "the two generators disagree")
    let tokens = tokenizer.encode(String(decoding: bytes, as: UTF8.self))
    #expect(tokens.count == count)
    #expect(format.bytes(of: tokens).digest == ids)
    let place = try TemporaryDirectory()
    let path = try place.write(bytes, to: "text")
    for window in [777, 4_096] {
      var (cut, batchCount) = ([Int](), 0)
      try tokenizer.encodeFile(at: path, windowByteCount: window) {
        cut += $0
        batchCount += 1
      }
      #expect(cut == tokens, "windows of \(window) bytes")
      #expect(batchCount > bytes.count / window / 8, "windows of \(window) bytes")
    }
  }
}
