import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

/// Small tokenizers of LLaMA's kind, held against sentencepiece and the tokenizers library
/// (`fixtures/generate/sentencepiece_tokenizers.py`).
@Suite("Text of which SentencePiece's models make tokens")
struct SentencePieceTests {
  struct Case: Decodable, CustomTestStringConvertible {
    let name: String
    /// Parts of tokenizer.json in place of those of the fixture's.
    let parts: [String: String]
    let texts: [Golden.Text]
    let generated: Golden.Generated
    var testDescription: String { name }
  }

  private struct File: Decodable {
    let cases: [Case]
  }

  static let folder = Fixtures.path("tokenizer/sentencepiece")
  static let cases: [Case] = {
    do {
      let file: File = try Fixtures.decode("tokenizer/sentencepiece/golden.json")
      return file.cases
    } catch { fatalError("\(error)") }
  }()

  static func tokenizer(_ form: Case) throws -> Tokenizer {
    if form.name.hasSuffix(".model") { return try Tokenizer(opening: "\(folder)/\(form.name)") }
    let place = try TemporaryDirectory()
    return try Tokenizer(opening: place.write(json(replacing: form.parts), to: "tokenizer.json"))
  }

  /// The fixture's `tokenizer.json` with other values for some members.
  static func json(replacing values: [String: String]) throws -> [UInt8] {
    let file = try MappedFile(path: folder + "/llama/tokenizer.json")
    let original = try file.withBytes { try JSONValue(parsing: $0, file: file.path) }
    let members = (original.members ?? []).map { "\"\($0.key)\": " + (values[$0.key] ?? $0.value.text) }
    return Array("{\(members.joined(separator: ", "))}".utf8)
  }

  @Test("has the library's ids", arguments: cases)
  func texts(_ form: Case) throws {
    let tokenizer = try Self.tokenizer(form)
    #expect(form.texts.count > 150)
    for text in form.texts { #expect(tokenizer.encode(text.text) == text.ids, "\(text.text.debugDescription)") }
  }

  @Test("has them at any length, whole or cut", arguments: cases)
  func generated(_ form: Case) throws {
    try form.generated.expectIds(of: Self.tokenizer(form), as: .uint16)
  }

  @Test("is text again, whatever stands in front of it")
  func decoded() throws {
    let form = try #require(Self.cases.first { $0.name == "llama.model" })
    let tokenizer = try Self.tokenizer(form)
    for text in form.texts where !text.text.contains("\u{2581}") {
      #expect(try tokenizer.decode(text.ids) == Array(text.text.utf8), "\(text.text.debugDescription)")
    }
    let word = tokenizer.encode("the")
    #expect(try tokenizer.text(of: word) == "the" && tokenizer.text(of: word, isContinuation: true) == " the")
  }

  @Test("says what begins and ends a text")
  func specialTokens() throws {
    for path in [Self.folder + "/llama.model", Self.folder + "/llama"] {
      let tokenizer = try Tokenizer(opening: path)
      #expect(tokenizer.beginOfText == 1 && tokenizer.endOfText == 2 && tokenizer.vocabularySize == 1_200)
    }
  }

  @Test("finds tokens of Hugging Face's files in text beside a tokenizer.model")
  func besideModel() throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("tokenizer/sentencepiece/llama.model"), to: "tokenizer.model")
    #expect(try !Tokenizer(opening: place.path).encode("a</s>b").contains(2))
    let added = #""added_tokens_decoder": {"2": {"content": "</s>", "special": true}}"#
    for (legacy, second) in [("true", "\u{2581}b"), ("false", "b")] {
      try place.write(Array(#"{"legacy": \#(legacy), \#(added)}"#.utf8), to: "tokenizer_config.json")
      let ids = try Tokenizer(opening: place.path).encode("a</s>b")
      let vocabulary = try #require(try Vocabulary(directory: place.path))
      #expect(ids.map { vocabulary.tokens[$0]?.text } == ["\u{2581}a", "</s>", second])
    }
  }

  // MARK: Refusals

  struct Defect: CustomTestStringConvertible {
    let name: String
    let parts: [String: String]
    let message: String
    var testDescription: String { name }
  }

  private static let metaspace = #""type": "Metaspace", "replacement": "▁""#
  private static func model(_ members: String) -> [String: String] {
    [
      "model":
        #"{"type": "BPE", "vocab": {"<unk>": 0, "a": 1, "b": 2}, "merges": [], "unk_token": "<unk>", \#(members)}"#
    ]
  }

  @Test(
    "refuses",
    arguments: [
      Defect(
        name: "another mark",
        parts: ["normalizer": "null", "pre_tokenizer": #"{"type": "Metaspace", "replacement": "_"}"#],
        message: "'pre_tokenizer.replacement': expected '▁', as LLaMA's tokenizer has it, found \"_\""),
      Defect(
        name: "another scheme",
        parts: ["normalizer": "null", "pre_tokenizer": #"{\#(metaspace), "prepend_scheme": "last"}"#],
        message:
          "'pre_tokenizer.prepend_scheme': expected never, first or always, as LLaMA's tokenizer has it, found \"last\""
      ),
      Defect(
        name: "two schemes",
        parts: [
          "normalizer": "null",
          "pre_tokenizer": #"{\#(metaspace), "prepend_scheme": "first", "add_prefix_space": false}"#,
        ],
        message:
          "'pre_tokenizer.add_prefix_space': expected true, as the prepend_scheme 'first' says, as LLaMA's tokenizer has it, found false"
      ),
      Defect(
        name: "more than spaces",
        parts: [
          "normalizer":
            #"{"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}"#
        ],
        message:
          "'normalizer.normalizers[0]': expected one Prepend and one Replace, as LLaMA's tokenizer has it, found \"NFKC\""
      ),
      Defect(
        name: "whole pieces", parts: model(#""ignore_merges": true"#),
        message: "'model.ignore_merges': expected false, as LLaMA's tokenizer has it, found true"),
      Defect(
        name: "no unknown token",
        parts: [
          "added_tokens": "[]", "post_processor": "null", "model": #"{"type": "BPE", "vocab": {"a": 1}, "merges": []}"#,
        ],
        message: "'unk_token': names no token for characters that have none, so that text would lose them"),
      Defect(
        name: "an unknown token that does not exist",
        parts: ["model": #"{"type": "BPE", "vocab": {"a": 1}, "merges": [], "unk_token": "<none>"}"#],
        message: "'model.unk_token': is not in the vocabulary: <none>"),
      Defect(
        name: "some bytes",
        parts: [
          "post_processor": "null",
          "model":
            #"{"type": "BPE", "vocab": {"<unk>": 0, "<0x0A>": 3}, "merges": [], "unk_token": "<unk>", "byte_fallback": true}"#,
        ],
        message: "'byte_fallback': expected tokens for all 256 bytes, or for none, found 1"),
      Defect(
        name: "a merge of nothing",
        parts: [
          "post_processor": "null",
          "model": #"{"type": "BPE", "vocab": {"<unk>": 0, "a": 3}, "merges": ["a a"], "unk_token": "<unk>"}"#,
        ],
        message: "'a a': the merge is of a token that the vocabulary does not have"),
      Defect(
        name: "a merge of three",
        parts: [
          "post_processor": "null",
          "model": #"{"type": "BPE", "vocab": {"<unk>": 0, "a": 3}, "merges": [["a", "a a"]], "unk_token": "<unk>"}"#,
        ],
        message: "'a a a': expected a merge of two parts without spaces"),
      Defect(
        name: "a template of nothing", parts: ["post_processor": #"{"type": "TemplateProcessing", "single": 1}"#],
        message: "'post_processor.single': expected an array, found 1"),
      Defect(
        name: "an unknown post-processor", parts: ["post_processor": #"{"type": "Magic"}"#],
        message:
          "'post_processor.type': expected TemplateProcessing, BertProcessing, RobertaProcessing or ByteLevel, found \"Magic\""
      ),
    ])
  func refuses(_ defect: Defect) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(Self.json(replacing: defect.parts), to: "tokenizer.json")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
    let message = refusal?.description.replacing(path + ", ", with: "") ?? ""
    #expect(message == defect.message || message.hasPrefix(defect.message + ";"), "\(message)")
  }

  /// A field of a message: bytes.
  private static func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
    varint(number << 3 | 2) + varint(bytes.count) + bytes
  }

  private static func field(_ number: Int, _ value: Int) -> [UInt8] { varint(number << 3) + varint(value) }

  private static func varint(_ value: Int) -> [UInt8] {
    value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + varint(value >> 7)
  }

  private static func piece(_ text: String, _ type: Int = 1, score: Float? = -1) -> [UInt8] {
    var bytes = field(1, Array(text.utf8)) + field(3, type)
    if let score {
      bytes += varint(2 << 3 | 5) + (0..<4).map { UInt8(truncatingIfNeeded: score.bitPattern >> (8 * $0)) }
    }
    return field(1, bytes)
  }

  /// The least that is a BPE model.
  private static func model(_ more: [UInt8] = [], type: Int = 2, trainer: [UInt8] = [], normalizer: [UInt8] = [])
    -> [UInt8]
  {
    piece("<unk>", 2, score: 0) + piece("a") + piece("b") + piece("ab", score: 0) + more
      + field(2, field(3, type) + trainer) + field(3, normalizer)
  }

  /// A trie of one text, "a", and a node of it.
  private static func node(_ unit: UInt32) -> [UInt32] { [UInt32](repeating: 0, count: 0x61) + [unit] }

  private static func trie(_ units: [UInt32], _ texts: String = "x\0") -> [UInt8] {
    let bytes = ([UInt32(4 * units.count)] + units).flatMap { unit in
      (0..<4).map { UInt8(truncatingIfNeeded: unit >> (8 * UInt32($0))) }
    }
    return field(3, field(2, bytes + Array(texts.utf8)))
  }

  @Test(
    "refuses a tokenizer.model",
    arguments: [
      ("that is cut off", Array(model().dropLast(1)), "a number is cut off"),
      ("of another type", model(type: 1), "trainer_spec.model_type: expected BPE, found UNIGRAM"),
      (
        "with spaces behind words", model(trainer: field(24, 1)),
        "trainer_spec.treat_whitespace_as_suffix: expected false, found true"
      ),
      (
        "with spaces as they are", model(normalizer: field(5, 0)),
        "normalizer_spec.escape_whitespaces: expected true, found false"
      ),
      ("with unused pieces", model(piece("c", 5)), "pieces: expected none that is unused, found 'c'"),
      ("with a piece of no type", model(piece("c", 9)), "has the unknown type 9"),
      ("with a piece twice", model(piece("ab")), "is the text of the tokens 3 and 4"),
      ("with a score that is none", model(piece("ba", score: .nan)), "has no score that is a number"),
      ("with a piece that is no text", model(field(1, field(1, [0xFF]))), "a text is not UTF-8"),
      ("with nothing in it", [], "has no pieces"),
      ("that is text", Array("IQ== 0\n".utf8), "a field needs 8 bytes, 6 left"),
      ("with an endless number", [0x08] + [UInt8](repeating: 0xFF, count: 11), "a number has more than ten bytes"),
      (
        "with some bytes", model(piece("<0x00>", 6), trainer: field(35, 1)),
        "expected tokens for all 256 bytes, or for none, found 1"
      ),
      ("with a map that is too short", model(trie([])), "expected a trie, found 6 bytes"),
      ("with a map in a circle", model(trie(node(0x61 | 0x61 << 10))), "its trie leads out of itself, or in a circle"),
      (
        "with a map that leads out", model(trie(node(0x161 | 0x3FFF << 10))),
        "its trie leads out of itself, or in a circle"
      ),
    ])
  func damaged(_ name: String, _ bytes: [UInt8], _ problem: String) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(bytes, to: "tokenizer.model")
    let refusal = #expect(throws: Refusal.self, "\(name)") { try Tokenizer(opening: path) }
    #expect(refusal?.problem.contains(problem) == true, "\(name): \(refusal?.description ?? "")")
    #expect(refusal?.file == path)
  }

  @Test("takes the least that is a model")
  func least() throws {
    let place = try TemporaryDirectory()
    let tokenizer = try Tokenizer(opening: place.write(Self.model(), to: "tokenizer.model"))
    #expect(tokenizer.encode("abba") == [0, 3, 2, 1] && tokenizer.encode("a") == [0, 1] && tokenizer.encode("") == [])
  }
}
