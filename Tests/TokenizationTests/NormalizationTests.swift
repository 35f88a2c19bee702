import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

@Suite("Tokens of text that is brought to NFC first, as Hugging Face's tokenizers have them")
struct NormalizationTests {
  private static func tokenizer(
    added tokens: [Golden.Added.Token], normalizer: String = #"{"type": "NFC"}"#
  ) throws -> Tokenizer {
    let place = try TemporaryDirectory()
    let added = String(decoding: try JSONEncoder().encode(tokens), as: UTF8.self)
    let content = try SmallTokenizer.json(replacing: ["normalizer": normalizer, "added_tokens": added])
    return try Tokenizer(opening: place.write(content, to: "tokenizer.json"))
  }

  /// The end of text, runs of spaces, and two words with marks.
  private static let usual: Tokenizer = {
    do { return try tokenizer(added: NormalizingGolden.read().cases[0].tokens) } catch { fatalError("\(error)") }
  }()

  @Test("with added tokens in the text as it is and in its normal form")
  func cases() throws {
    let cases = try NormalizingGolden.read().cases
    #expect(cases.count == 17 && cases[0].texts.count > 200)
    for expected in cases {
      let tokenizer = try Self.tokenizer(added: expected.tokens)
      for text in expected.texts {
        #expect(tokenizer.encode(text.text) == text.ids, "\(text.text.debugDescription) with \(expected.tokens)")
      }
    }
  }

  @Test("of a long text of all scripts")
  func generated() throws {
    let expected = try NormalizingGolden.read().generated
    let text = GeneratedText.bytes(seed: expected.seed, count: expected.byteCount)
    #expect(text.digest == expected.text, "the two generators disagree")
    let tokens = Self.usual.encode(String(decoding: text, as: UTF8.self))
    #expect(tokens.count == expected.count)
    #expect(TokenFormat.uint16.bytes(of: tokens).digest == expected.ids)
  }

  @Test("every character, before a mark and behind one, has the normal form of Unicode 9")
  func everyCharacter() throws {
    // All but most of Han and Hangul, planes 3 and above.
    let ranges: [Range<UInt32>] = [
      0..<0x3400, 0xA000..<0xAC40, 0xD780..<0xD800, 0xE000..<0x12000, 0x16000..<0x17000, 0x1BC00..<0x1F000,
      0x2F800..<0x2FA20,
    ]
    var bytes: [UInt8] = []
    for case let scalar? in ranges.joined().map({ Unicode.Scalar($0) }) {
      for part in ["q", scalar, "\u{334}", "q", "\u{345}", scalar, "\u{301}"] as [Unicode.Scalar] { bytes += part.utf8 }
    }
    #expect(CanonicalComposition.normalized(bytes).digest == (try NormalizingGolden.read().everyCharacter))
  }

  @Test(
    "a sequence of normalizers that holds only NFC is NFC, and an empty one is none",
    arguments: [
      (#"{"type": "Sequence", "normalizers": [{"type": "NFC"}]}"#, true),
      (#"{"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [{"type": "NFC"}]}]}"#, true),
      (#"{"type": "Sequence", "normalizers": []}"#, false), ("null", false),
    ])
  func sequence(normalizer: String, normalizes: Bool) throws {
    let tokenizer = try Self.tokenizer(added: [], normalizer: normalizer)
    let (decomposed, composed) = (tokenizer.encode("caf\u{65}\u{301}"), tokenizer.encode("caf\u{E9}"))
    #expect((decomposed == composed) == normalizes)
  }

  @Test("decoding gives the normal form of the text")
  func decoding() throws {
    let text = "To e\u{301}, o\u{308}<|endoftext|>   \u{1100}\u{1161}\u{11A8}"
    // An added token that is found in the text as it is stays as it is.
    #expect(
      try Self.usual.decode(Self.usual.encode(text))
        == Array("To \u{E9}, o\u{308}<|endoftext|>   \u{AC01}".utf8))
  }

  // MARK: Files in pieces

  private func encodeInPieces(
    _ path: String, with tokenizer: Tokenizer, windowByteCount: Int
  ) throws -> (tokens: [Int], batchCount: Int) {
    var (tokens, batchCount) = ([Int](), 0)
    try tokenizer.encodeFile(at: path, windowByteCount: windowByteCount) { (batch) in
      tokens += batch
      batchCount += 1
    }
    return (tokens, batchCount)
  }

  /// Texts of the golden file, again and again in another order, with few places to cut.
  private static func mixedText(seed: UInt64, byteCount: Int) throws -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    let texts = try NormalizingGolden.read().cases.flatMap { $0.texts.map(\.text) }
    var text: [UInt8] = []
    while text.count < byteCount {
      text += Array(texts[Int.random(in: 0..<texts.count, using: &generator)].utf8)
      if Int.random(in: 0..<20, using: &generator) == 0 {
        text += GeneratedText.bytes(seed: generator.next(), count: 200)
      }
    }
    return text
  }

  @Test("of a file in pieces are those of the whole", arguments: [64, 97, 256, 1_000, 4_096])
  func pieces(windowByteCount: Int) throws {
    let text = try Self.mixedText(seed: 3, byteCount: 60_000)
    let place = try TemporaryDirectory()
    let path = try place.write(text, to: "text")
    let (tokens, batchCount) = try encodeInPieces(path, with: Self.usual, windowByteCount: windowByteCount)
    #expect(tokens == Self.usual.encode(String(decoding: text, as: UTF8.self)))
    #expect(batchCount > min(text.count / windowByteCount / 8, 100))
  }

  @Test("of a file of three megabytes in pieces are those of the whole")
  func largeFile() throws {
    let text = try Self.mixedText(seed: 4, byteCount: 3 << 20)
    let place = try TemporaryDirectory()
    let path = try place.write(text, to: "text")
    let (tokens, batchCount) = try encodeInPieces(path, with: Self.usual, windowByteCount: 1 << 18)
    #expect(tokens == Self.usual.encode(String(decoding: text, as: UTF8.self)))
    #expect(batchCount >= 12)
  }

  @Test("of a file in pieces are those of the whole, whatever added tokens there are")
  func piecesOfCases() throws {
    let text = try Self.mixedText(seed: 5, byteCount: 4_000)
    let place = try TemporaryDirectory()
    let path = try place.write(text, to: "text")
    for expected in try NormalizingGolden.read().cases {
      let tokenizer = try Self.tokenizer(added: expected.tokens)
      let (tokens, _) = try encodeInPieces(path, with: tokenizer, windowByteCount: 64)
      #expect(tokens == tokenizer.encode(String(decoding: text, as: UTF8.self)), "\(expected.tokens)")
    }
  }

  @Test(
    "of a file in pieces are those of the whole, wherever the pieces end",
    arguments: [
      "e\u{301}", "=\u{338}", "\u{1100}\u{1161}\u{11A8}", "\u{AC00}\u{11A8}", "\u{915}\u{93C}!", "\u{958}!", " \u{301}",
      "<|endoftext|>\u{301}", "e<|endoftext|>\u{301}", "o\u{308}!", "o\u{308}\u{323}", "e\u{301}! e\u{301}!",
      "e\u{323}\u{301}!", "      ", "x                              y", "a\u{345}\u{1DF6}!",
      "7\u{301}\u{301}\u{323}\u{301}\u{301}\u{323}",
    ])
  func atTheCut(text: String) throws {
    let place = try TemporaryDirectory()
    for length in 100..<120 {
      let text = String(repeating: "word ", count: 40).prefix(length) + text + String(repeating: " x", count: 120)
      let path = try place.write(Array(text.utf8), to: "text")
      let (tokens, batchCount) = try encodeInPieces(path, with: Self.usual, windowByteCount: 128)
      #expect(tokens == Self.usual.encode(String(text)), "\(length)")
      #expect(batchCount > 1)
    }
  }

  /// Decomposed Hangul without any ASCII, and a line of Han characters.
  @Test("of a file without spaces are cut, too", arguments: ["\u{1112}\u{1161}\u{11AB}\u{3002}", "\u{6B63}\u{3002}"])
  func withoutSpaces(text: String) throws {
    let place = try TemporaryDirectory()
    let text = String(repeating: text, count: 20_000)
    let path = try place.write(Array(text.utf8), to: "text")
    let (tokens, batchCount) = try encodeInPieces(path, with: Self.usual, windowByteCount: 1_024)
    #expect(tokens == Self.usual.encode(text))
    #expect(batchCount > 50)
  }

  @Test("of a letter with very many marks are found in time, or refused as one word")
  func manyMarks() throws {
    let place = try TemporaryDirectory()
    for count in [50_000, 1_100_000] {
      let text = "a" + String(repeating: "\u{301}\u{323}", count: count) + " word word word"
      let path = try place.write(Array(text.utf8), to: "text")
      if text.utf8.count < Tokenizer.longestUncutByteCount {
        let (tokens, _) = try encodeInPieces(path, with: Self.usual, windowByteCount: 1 << 16)
        #expect(tokens == Self.usual.encode(text))
      } else {
        let refusal = #expect(throws: Refusal.self) {
          _ = try encodeInPieces(path, with: Self.usual, windowByteCount: 1 << 16)
        }
        #expect(refusal?.category == .unsupported && refusal?.byteOffset == 0)
      }
    }
  }
}

extension [UInt8] {
  var digest: String {
    let context = DigestContext()
    withUnsafeBytes { context.update($0) }
    return context.finish().description
  }
}
