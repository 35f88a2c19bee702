import Foundation
import Testing
import TestSupport

@Suite("normfold tokenize")
struct TokenizeTests {
  private static let tokenizer = Fixtures.path("found/gpt2-tokenizer")

  @Test("prints ids, one a line, and text again")
  func text() throws {
    let ids = try Command.run("tokenize", Self.tokenizer, "Hello<|endoftext|> world")
    #expect(ids.output == "15496\n50256\n995\n" && ids.error.isEmpty && ids.status == 0)
    let text = try Command.run("tokenize", Self.tokenizer, "15496 50256\n995", "--decode")
    #expect(text.output == "Hello<|endoftext|> world" && text.status == 0)
    #expect(try Command.run("tokenize", Self.tokenizer, "").output.isEmpty)
    let document = try Command.run("tokenize", Self.tokenizer, "Hello world", "--json").json()
    #expect(document["ids"] as? [Int] == [15_496, 995] && document["count"] as? Int == 2)
  }

  @Test("puts special tokens around one text and two, and says which token is of which")
  func specialTokens() throws {
    let bert = Fixtures.path("found/paraphrase-minilm-l3")
    #expect(try Command.run("tokenize", bert, "it's he").output == "127\n11\n61\n120\n")
    #expect(try Command.run("tokenize", bert, "it's he", "--add-special-tokens").output == "2\n127\n11\n61\n120\n3\n")
    let pair = try Command.run("tokenize", bert, "it's", "--pair", "he", "--json").json()
    #expect(pair["ids"] as? [Int] == [2, 127, 11, 61, 3, 120, 3] && pair["types"] as? [Int] == [0, 0, 0, 0, 0, 1, 1])
    let refused = try Command.run("tokenize", Self.tokenizer, "x", "--pair", "y")
    #expect(refused.status == 2 && refused.error.contains("says nothing of tokens around a text"))
    #expect(try Command.run("tokenize", bert, "1", "--decode", "--pair", "y").status == 2)
    #expect(try Command.run("tokenize", bert, "127 11 61 120 18", "--decode").output == "it ' s he.")
  }

  @Test("writes files of each format, and reads them again", arguments: ["text", "uint16", "uint32"])
  func files(format: String) throws {
    let place = try TemporaryDirectory()
    try place.write(Array("Hello <|endoftext|>\n".utf8), to: "in.txt")
    let written = try Command.run(
      "tokenize", Self.tokenizer, "--text", "in.txt", "-o", "ids", "--format", format, in: place.path)
    #expect(written.status == 0 && written.output.isEmpty)
    let expected: [String: [UInt8]] = [
      "text": Array("15496\n220\n50256\n198\n".utf8),
      "uint16": [0x88, 0x3C, 0xDC, 0, 0x50, 0xC4, 0xC6, 0],
      "uint32": [0x88, 0x3C, 0, 0, 0xDC, 0, 0, 0, 0x50, 0xC4, 0, 0, 0xC6, 0, 0, 0],
    ]
    #expect(try Data(contentsOf: URL(filePath: place / "ids")) == expected[format].map { Data($0) })
    let text = try Command.run(
      "tokenize", Self.tokenizer, "--decode", "--text", "ids", "--format", format, in: place.path)
    #expect(text.output == "Hello <|endoftext|>\n")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).sorted() == ["ids", "in.txt"])
  }

  struct Refused: CustomTestStringConvertible {
    let arguments: [String]
    let status: Int32
    let message: String
    var testDescription: String { arguments.joined(separator: " ") }
  }

  @Test(
    "refuses, and leaves what is there as it is",
    arguments: [
      Refused(
        arguments: ["--text", "in.txt", "-o", "old"], status: 8,
        message: "old: exists already; choose another destination, or replace it with --force"),
      Refused(
        arguments: ["--text", "in.txt", "-o", "in.txt", "--force"], status: 8,
        message: "in.txt: is a file of the input, and would be replaced; choose another destination"),
      Refused(
        arguments: ["--text", "bad.txt", "-o", "new"], status: 3,
        message:
          "bad.txt at byte 3: the text is not UTF-8: byte 0xe9; convert it to UTF-8 first, for example with iconv"),
      Refused(
        arguments: ["--text", "bad.txt", "-o", "old", "--force"], status: 3,
        message:
          "bad.txt at byte 3: the text is not UTF-8: byte 0xe9; convert it to UTF-8 first, for example with iconv"),
      Refused(
        arguments: ["--text", "none.txt", "-o", "new"], status: 3,
        message: "none.txt: cannot be opened: No such file or directory; check the path and its permissions"),
      Refused(
        arguments: ["1 two", "--decode"], status: 3,
        message: "IDS at byte 2: expected decimal ids, found byte 0x74; say with --format how the file holds its tokens"
      ),
      Refused(
        arguments: ["--text", "odd.bin", "--decode", "--format", "uint16", "-o", "new"], status: 3,
        message:
          "odd.bin: expected a multiple of 2 bytes, found 3; the file is cut off, or holds tokens in another format"),
    ])
  func refuses(_ row: Refused) throws {
    let place = try TemporaryDirectory()
    try place.write(Array("Hello".utf8), to: "in.txt")
    try place.write(Array("caf".utf8) + [0xE9], to: "bad.txt")
    try place.write([1, 2, 3], to: "odd.bin")
    try place.write(Array("old".utf8), to: "old")
    let before = try content(ofDirectory: place.path)
    let result = try Command.run(["tokenize", Self.tokenizer] + row.arguments, in: place.path)
    #expect(result.error == "error: \(row.message)\n")
    #expect(result.status == row.status)
    #expect(try content(ofDirectory: place.path) == before)
  }

  @Test("replaces a file where that is asked for")
  func force() throws {
    let place = try TemporaryDirectory()
    try place.write(Array("old".utf8), to: "ids")
    let result = try Command.run("tokenize", Self.tokenizer, "Hello", "-o", "ids", "--force", in: place.path)
    #expect(result.status == 0)
    #expect(try content(ofDirectory: place.path) == ["ids": Data("15496\n".utf8)])
  }
}
