import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

@Suite("Tokens of text, as Hugging Face's tokenizers have them")
struct TokenizerTests {
  static let gpt2: Tokenizer = {
    do { return try Tokenizer(opening: Fixtures.path("found/gpt2-tokenizer")) } catch { fatalError("\(error)") }
  }()

  @Test("of hard texts, and back")
  func texts() throws {
    let texts = try Golden.read().texts
    #expect(texts.count > 170)
    for expected in texts {
      let tokens = Self.gpt2.encode(expected.text)
      #expect(tokens == expected.ids, "\(expected.text.debugDescription)")
      #expect(try Self.gpt2.decode(tokens) == Array(expected.text.utf8))
    }
  }

  @Test("of a long text of all scripts")
  func generated() throws {
    let expected = try Golden.read().generated
    let text = GeneratedText.bytes(seed: expected.seed, count: expected.byteCount)
    #expect(digest(text) == expected.text, "the two generators disagree")
    let tokens = Self.gpt2.encode(String(decoding: text, as: UTF8.self))
    #expect(tokens.count == expected.count)
    #expect(digest(TokenFormat.uint16.bytes(of: tokens)) == expected.ids)
    #expect(try Self.gpt2.decode(tokens) == text)
  }

  private func digest(_ bytes: [UInt8]) -> String {
    let context = DigestContext()
    bytes.withUnsafeBytes { context.update($0) }
    return context.finish().description
  }

  @Test("every character is letter, number, white space or none of them")
  func classes() throws {
    var changes = try Golden.read().classes[...]
    var kind = CharacterClass.other
    var count = 0
    var wrong: [String] = []
    for value in UInt32(0)..<0x110000 {
      if let first = changes.first, first[0] == value {
        kind = CharacterClass(rawValue: UInt8(first[1])) ?? .other
        changes = changes.dropFirst()
      }
      guard let scalar = Unicode.Scalar(value) else { continue }
      count += 1
      let isClassified = value < CharacterClass.classifiedCount || kind == .other
      if CharacterClass(of: scalar) != kind || !isClassified { wrong.append("U+\(String(value, radix: 16))") }
    }
    #expect(wrong.isEmpty)
    #expect(changes.isEmpty && count == 1_112_064)
  }

  @Test("added tokens, with the flags of each")
  func added() throws {
    let place = try TemporaryDirectory()
    for (index, expected) in try Golden.read().added.enumerated() {
      let tokens = String(decoding: try JSONEncoder().encode(expected.tokens), as: UTF8.self)
      let path = try place.write(SmallTokenizer.json(replacing: "added_tokens", by: tokens), to: "\(index).json")
      let tokenizer = try Tokenizer(opening: path)
      for text in expected.texts {
        #expect(tokenizer.encode(text.text) == text.ids, "\(text.text.debugDescription) with \(expected.tokens)")
      }
    }
  }

  @Test("white space that is a token is found where the token before has taken it, whatever its flags")
  func addedSpace() throws {
    let place = try TemporaryDirectory()
    let found = try ["false", "true"].map { flag in
      let added = #"[{"id": 1024, "content": "<a>", "rstrip": true}, {"id": 1025, "content": " ", "lstrip": \#(flag)}]"#
      let path = try place.write(SmallTokenizer.json(replacing: "added_tokens", by: added), to: "\(flag).json")
      return try Tokenizer(opening: path).encode("x<a>  y")
    }
    #expect(found[0].contains(1_024) && found[0].contains(1_025))
    #expect(found[0] == found[1])
  }

  @Test(
    "white space that is a token is none where the token before has taken all of it, if it takes what stands before")
  func takenSpace() throws {
    let place = try TemporaryDirectory()
    for (added, text, expected) in [
      (#"[{"id": 1024, "content": " ", "lstrip": true, "rstrip": true}]"#, "x  y   z", [88, 1_024, 89, 1_024, 90]),
      (#"[{"id": 1024, "content": " ", "rstrip": true}]"#, "   x", [1_024, 1_024, 1_024, 88]),
      (#"[{"id": 1024, "content": " ", "lstrip": true}]"#, "   x", [1_024, 1_024, 1_024, 88]),
      (
        #"[{"id": 1024, "content": "<a>", "rstrip": true}, {"id": 1025, "content": " ", "lstrip": true}]"#, "x<a> y",
        [88, 1_024, 89]
      ),
      (
        #"[{"id": 1024, "content": "<a>", "rstrip": true}, {"id": 1025, "content": " "}]"#, "x<a> y",
        [88, 1_024, 1_025, 89]
      ),
    ] {
      let path = try place.write(SmallTokenizer.json(replacing: "added_tokens", by: added), to: "tokenizer.json")
      #expect(try Tokenizer(opening: path).encode(text) == expected, "\(text.debugDescription) with \(added)")
    }
  }

  // MARK: Files in pieces

  @Test("of a file in pieces are those of the whole", arguments: [64, 97, 256, 1_000, 4_096, 1 << 20])
  func pieces(windowByteCount: Int) throws {
    let text = GeneratedText.bytes(seed: 11, count: 60_000)
    let place = try TemporaryDirectory()
    let path = try place.write(text, to: "text")
    var tokens: [Int] = []
    var batchCount = 0
    try Self.gpt2.encodeFile(at: path, windowByteCount: windowByteCount) { (batch) in
      tokens += batch
      batchCount += 1
    }
    #expect(tokens == Self.gpt2.encode(String(decoding: text, as: UTF8.self)))
    #expect(windowByteCount > text.count || batchCount > text.count / windowByteCount / 8)
  }

  @Test("of a file in pieces hold an added token whole, wherever the pieces end")
  func addedAtTheCut() throws {
    let place = try TemporaryDirectory()
    for length in 30..<110 {
      let text =
        String(repeating: "word ", count: 30).prefix(length) + "<|endoftext|>" + String(repeating: " x", count: 60)
      let path = try place.write(Array(text.utf8), to: "text")
      var tokens: [Int] = []
      try Self.gpt2.encodeFile(at: path, windowByteCount: 64) { tokens += $0 }
      #expect(tokens == Self.gpt2.encode(String(text)), "\(length)")
    }
  }

  @Test("of the beginning of a file are those of the whole, and no more of it is read than they need")
  func beginning() throws {
    let place = try TemporaryDirectory()
    // What is not wanted may be anything.
    let path = try place.write(Array(String(repeating: "one two\n", count: 100).utf8) + [0xFF], to: "text")
    var tokens: [Int] = []
    try Self.gpt2.encodeFile(at: path, upTo: 20, windowByteCount: 64) { tokens += $0 }
    #expect((20..<60).contains(tokens.count))
    #expect(Self.gpt2.encode(String(repeating: "one two\n", count: 100)).starts(with: tokens))
  }

  @Test("of an empty file are none")
  func emptyFile() throws {
    let place = try TemporaryDirectory()
    try Self.gpt2.encodeFile(at: place.write([], to: "text")) { #expect($0.isEmpty) }
  }

  struct Invalid: CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let offset: Int
    var testDescription: String { name }
  }

  @Test("A byte that belongs to no character is refused at its own place, wherever a window ends")
  func strayByte() throws {
    let directory = try TemporaryDirectory()
    let text = Array("a text with words 🙂".utf8) + [0x9F] + Array("<s and more words behind it".utf8)
    let path = try directory.write(text, to: "text")
    for width in 16...64 {
      let refusal = #expect(throws: Refusal.self) {
        try Self.gpt2.encodeFile(at: path, windowByteCount: width) { _ in }
      }
      #expect(
        refusal?.description
          == "\(path) at byte 22: the text is not UTF-8: byte 0x9f; convert it to UTF-8 first, for example with iconv",
        "a window of \(width) bytes")
    }
  }

  @Test("What broke the fuzzer of texts is refused at one place")
  func regressions() throws {
    let directory = Fixtures.path("regressions/text")
    let names = try FileManager.default.contentsOfDirectory(atPath: directory)
    #expect(!names.isEmpty)
    for name in names {
      let refusals = [1 << 20, 48].map { width in
        #expect(throws: Refusal.self) {
          try Self.gpt2.encodeFile(at: directory + "/" + name, windowByteCount: width) { _ in }
        }?.description
      }
      #expect(refusals[0] == refusals[1])
    }
  }

  @Test(
    "are refused where the text is not UTF-8, with the offset",
    arguments: [
      Invalid(name: "a byte of Latin-1", bytes: Array("caf".utf8) + [0xE9] + Array(" x".utf8), offset: 3),
      Invalid(name: "a character cut off at the end", bytes: Array("ab".utf8) + [0xE2, 0x82], offset: 2),
      Invalid(name: "a continuation without a start", bytes: [0x80], offset: 0),
      Invalid(name: "a surrogate", bytes: [0x61, 0xED, 0xA0, 0x80], offset: 1),
      Invalid(name: "an overlong form", bytes: [0x61, 0x62, 0xC0, 0xAF], offset: 2),
      Invalid(name: "beyond U+10FFFF", bytes: [0xF4, 0x90, 0x80, 0x80], offset: 0),
      Invalid(name: "a byte that UTF-8 has not", bytes: [0x20, 0xFF, 0x20], offset: 1),
      Invalid(name: "four continuations", bytes: [0x20, 0x80, 0x80, 0x80, 0x80], offset: 1),
    ])
  func invalid(_ text: Invalid) throws {
    let place = try TemporaryDirectory()
    // Wherever the pieces end.
    for count in [0, 1, 40, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 127, 128, 1_000] {
      let before = (0..<count).map { $0 % 6 == 5 ? UInt8(0x20) : 0x61 }
      let path = try place.write(before + text.bytes + before, to: "text")
      let refusal = #expect(throws: Refusal.self) {
        try Self.gpt2.encodeFile(at: path, windowByteCount: 64) { _ in }
      }
      // What follows may complete nothing, so that the offset is the same.
      #expect(refusal?.byteOffset == count + text.offset, "\(count)")
      #expect(refusal?.category == .malformed && refusal?.file == path)
    }
  }

  @Test("are refused for a file of one endless word, with the offset")
  func endlessWord() throws {
    let place = try TemporaryDirectory()
    let path = try place.write(Array("a b".utf8) + [UInt8](repeating: 0x62, count: 4 << 20), to: "text")
    let refusal = #expect(throws: Refusal.self) { try Self.gpt2.encodeFile(at: path) { _ in } }
    #expect(refusal?.category == .unsupported && refusal?.byteOffset == 1)
  }

  // MARK: Decoding

  @Test("of any ids are bytes: those of each, one after the other")
  func arbitraryIDs() throws {
    var generator = SeededGenerator(seed: 5)
    let tokens = (0..<20_000).map { _ in Int.random(in: 0..<50_257, using: &generator) }
    let whole = try Self.gpt2.decode(tokens)
    #expect(try whole == tokens.flatMap { try Self.gpt2.decode([$0]) })
    #expect(try Self.gpt2.decode(0..<50_257).count > 300_000)
    // Every byte is there, and is what its own token stands for.
    let model = try #require(Self.gpt2.model as? ByteLevelModel)
    for byte in UInt8.min ... .max {
      #expect(try Self.gpt2.decode([Int(model.byteTokens[Int(byte)])]) == [byte])
    }
    #expect(try Self.gpt2.text(of: [8_582, 248, 222]) == "🚀")
    #expect(try Self.gpt2.text(of: [8_582]) == "\u{FFFD}")
  }

  @Test("of random characters come back", arguments: 1...8)
  func randomCharacters(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    var text = String.UnicodeScalarView()
    while text.count < 3_000 {
      let limit: UInt32 = [0x80, 0x800, 0x10000, 0x110000][Int.random(in: 0..<4, using: &generator)]
      if let scalar = Unicode.Scalar(UInt32.random(in: 0..<limit, using: &generator)) { text.append(scalar) }
    }
    let string = String(text)
    #expect(try Self.gpt2.decode(Self.gpt2.encode(string)) == Array(string.utf8))
  }

  @Test("that are none are refused", arguments: [-1, 50_257, .max])
  func unknownID(_ id: Int) {
    let refusal = #expect(throws: Refusal.self) { try Self.gpt2.decode([0, id]) }
    #expect(refusal?.problem == "token 1: expected an id below 50257 that has a token, found \(id)")
  }
}
