import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

/// BERT's and RoBERTa's tokenizers, held against the tokenizers library (`fixtures/generate/encoder_tokenizers.py`).
@Suite("Text of which encoders' tokenizers make tokens")
struct EncoderTokenizerTests {
  struct Case: Decodable, CustomTestStringConvertible {
    struct Text: Decodable {
      let text: String
      let ids: [Int]
      /// With what is put around it.
      let whole: [Int]
      let decoded: String
    }
    struct Pair: Decodable {
      let first: String
      let second: String
      let ids: [Int]
      let types: [Int]
    }

    let name: String
    let parts: [String: String]
    let texts: [Text]
    let pairs: [Pair]
    let generated: Golden.Generated
    var testDescription: String { name }
    var isBERT: Bool { name != "roberta" && name != "prefix" }
  }

  private struct File: Decodable {
    struct Characters: Decodable {
      let forms: [String: [String]]
      let classes: [[UInt32]]
    }

    let bert: [Case]
    let roberta: [Case]
    let characters: Characters
  }

  private static let file: File = {
    do { return try Fixtures.decode("tokenizer/encoders/golden.json") } catch { fatalError("\(error)") }
  }()

  static let bert = Fixtures.path("found/paraphrase-minilm-l3")
  static let roberta = Fixtures.path("tokenizer/encoders/roberta")

  static func json(of form: Case) throws -> [UInt8] {
    let file = try MappedFile(path: (form.isBERT ? bert : roberta) + "/tokenizer.json")
    let original = try file.withBytes { try JSONValue(parsing: $0, file: file.path) }
    let members = (original.members ?? []).map { "\"\($0.key)\": " + (form.parts[$0.key] ?? $0.value.text) }
    return Array("{\(members.joined(separator: ", "))}".utf8)
  }

  static func tokenizer(_ form: Case) throws -> Tokenizer {
    let place = try TemporaryDirectory()
    return try Tokenizer(opening: place.write(json(of: form), to: "tokenizer.json"))
  }

  @Test("has the library's ids, alone, with what is put around it, and in pairs", arguments: file.bert + file.roberta)
  func texts(_ form: Case) throws {
    let tokenizer = try Self.tokenizer(form)
    let template = try #require(tokenizer.template)
    #expect(form.texts.count > 150 && form.pairs.count == 40)
    for text in form.texts {
      let ids = tokenizer.encode(text.text)
      #expect(ids == text.ids, "\(text.text.debugDescription)")
      #expect(template.applied(to: ids, nil).ids == text.whole, "\(text.text.debugDescription)")
    }
    for pair in form.pairs {
      let found = template.applied(to: tokenizer.encode(pair.first), tokenizer.encode(pair.second))
      #expect(found.ids == pair.ids && found.types == pair.types, "\(pair.first.debugDescription)")
    }
  }

  @Test("has them at any length, whole or cut", arguments: file.bert + file.roberta)
  func generated(_ form: Case) throws {
    try form.generated.expectIds(of: Self.tokenizer(form), as: .uint32)
  }

  @Test("is text again, as far as the library makes it", arguments: file.bert)
  func decoded(_ form: Case) throws {
    let tokenizer = try Self.tokenizer(form)
    // A piece that goes on with a word keeps its marks there where it stands first, and text that is no text is dropped.
    for text in form.texts where !text.decoded.hasPrefix("##") {
      #expect(try tokenizer.text(of: text.ids) == text.decoded, "\(text.text.debugDescription)")
    }
  }

  @Test("every character has the library's normal form, and is or is no punctuation")
  func characters() throws {
    let normalizers: [String: BERTNormalizer] = [
      "all": BERTNormalizer(), "cased": BERTNormalizer(lowercases: false),
      "accents": BERTNormalizer(stripsAccents: false),
      "raw": BERTNormalizer(cleansText: false, separatesChinese: false),
      "nothing": BERTNormalizer(cleansText: false, separatesChinese: false, stripsAccents: false, lowercases: false),
    ]
    let expected = Self.file.characters
    #expect(expected.forms.count == normalizers.count)
    for (name, digests) in expected.forms {
      let normalizer = try #require(normalizers[name])
      var wrong: [String] = []
      for (block, digest) in digests.enumerated() {
        var text = String.UnicodeScalarView()
        for case let scalar? in (UInt32(block * 0x1000)..<UInt32((block + 1) * 0x1000)).map({ Unicode.Scalar($0) }) {
          text.append(contentsOf: ["q", scalar, "q", "\u{345}", scalar, "\u{301}", "q"])
        }
        let found = Array(normalizer.normalizedWhole(String(text)).utf8).digest
        if found.prefix(12) != digest { wrong.append(String(block, radix: 16)) }
      }
      #expect(wrong.isEmpty, "\(name)")
    }
    var (changes, kind, wrong) = (expected.classes[...], UInt32(0), [String]())
    for value in UInt32(0)..<0x110000 {
      if let first = changes.first, first[0] == value {
        kind = first[1]
        changes = changes.dropFirst()
      }
      guard let scalar = Unicode.Scalar(value) else { continue }
      let found: UInt32 = scalar.properties.isWhitespace ? 1 : BERTCharacter.isPunctuation(scalar) ? 2 : 0
      if found != kind { wrong.append(String(value, radix: 16)) }
    }
    #expect(wrong.isEmpty)
  }

  // MARK: Files

  @Test("has the ids of published texts, from tokenizer.json and from vocab.txt")
  func published() throws {
    struct Text: Decodable {
      let text: String
      let pair: String?
      let ids: [Int]
      let types: [Int]?

      enum CodingKeys: String, CodingKey {
        case text, pair, ids
        case types = "type_ids"
      }
    }
    let texts: [Text] = try Fixtures.decode("found/paraphrase-minilm-l3/tokenized.json")
    let place = try TemporaryDirectory()
    let list = try place.write(Fixtures.bytes("found/paraphrase-minilm-l3/vocab.txt"), to: "vocab.txt")
    for path in [Self.bert, place.path, list] {
      let tokenizer = try Tokenizer(opening: path)
      let template = try #require(tokenizer.template)
      for text in texts {
        let found = template.applied(to: tokenizer.encode(text.text), text.pair.map { tokenizer.encode($0) })
        #expect(found.ids == text.ids, "\(text.text)")
        if let types = text.types { #expect(found.types == types) }
      }
      #expect(tokenizer.beginOfText == nil && tokenizer.vocabularySize == 1_500)
    }
  }

  @Test("vocab.txt is read by what tokenizer_config.json says")
  func settings() throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("found/paraphrase-minilm-l3/vocab.txt"), to: "vocab.txt")
    try place.write(
      Array(#"{"do_lower_case": false, "tokenize_chinese_chars": false}"#.utf8), to: "tokenizer_config.json")
    let kind = try #require(try Vocabulary(directory: place.path)?.kind as? WordPieceKind)
    #expect(kind.normalizer == BERTNormalizer(separatesChinese: false, lowercases: false))
  }

  @Test("vocab.json and merges.txt are RoBERTa's where its class is named")
  func robertaFiles() throws {
    let place = try TemporaryDirectory()
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
      try place.write(Fixtures.bytes("tokenizer/encoders/roberta/" + name), to: name)
    }
    let tokenizer = try Tokenizer(opening: place.path)
    let template = try #require(tokenizer.template)
    let form = try #require(Self.file.roberta.first)
    for text in form.texts {
      #expect(template.applied(to: tokenizer.encode(text.text), nil).ids == text.whole, "\(text.text.debugDescription)")
    }
    for pair in form.pairs {
      #expect(template.applied(to: tokenizer.encode(pair.first), tokenizer.encode(pair.second)).ids == pair.ids)
    }
  }

  // MARK: GGUF

  @Test("goes to GGUF in llama.cpp's spelling, and back to a tokenizer.json with the same ids")
  func gguf() throws {
    let vocabulary = try #require(try Vocabulary(directory: Self.bert))
    let keys = try vocabulary.ggufKeys(vocabularySize: 1_500)
    let values = Dictionary(uniqueKeysWithValues: keys)
    guard case .strings(let tokens) = values["tokenizer.ggml.tokens"] else { return #expect(Bool(false)) }
    #expect(tokens[2] == "[CLS]" && tokens[114] == "\u{2581}the" && tokens[7] == "\u{2581}#")
    #expect(values["tokenizer.ggml.model"] == .string("bert") && values["tokenizer.ggml.seperator_token_id"] == .u32(3))
    #expect(values["tokenizer.ggml.unknown_token_id"] == .u32(1) && values["tokenizer.ggml.cls_token_id"] == .u32(2))
    let place = try TemporaryDirectory()
    let path = place / "model.gguf"
    try TensorWriter(gguf: path, metadata: [("general.architecture", .string("bert"))] + keys, tensors: []).finish()
    let own = try Tokenizer(opening: Self.bert)
    let header = try GGUFHeader(of: MappedFile(path: path))
    for file in try #require(try Vocabulary(gguf: header, path: path)).files {
      try place.write(file.bytes, to: file.name)
    }
    for tokenizer in [try Tokenizer(opening: path), try Tokenizer(opening: place / "tokenizer.json")] {
      for text in try #require(Self.file.bert.first).texts {
        #expect(tokenizer.encode(text.text) == own.encode(text.text))
      }
      #expect(tokenizer.template == own.template)
    }
  }

  @Test("is refused for llama.cpp where it keeps capitals or accents")
  func cased() throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("found/paraphrase-minilm-l3/vocab.txt"), to: "vocab.txt")
    for settings in [#"{"do_lower_case": false}"#, #"{"strip_accents": false}"#] {
      try place.write(Array(settings.utf8), to: "tokenizer_config.json")
      let vocabulary = try #require(try Vocabulary(directory: place.path))
      let refusal = #expect(throws: Refusal.self) { try vocabulary.ggufKeys(vocabularySize: 1_500) }
      #expect(
        refusal?.problem
          == "keeps capitals or accents, and llama.cpp takes both off, so that other tokens would be made of text")
    }
  }

  // MARK: Refusals

  @Test(
    "refuses",
    arguments: [
      (
        "normalizer", #"{"type": "Lowercase"}"#,
        "'normalizer.type': expected BertNormalizer, as BERT's tokenizer has it, found \"Lowercase\"; name a tokenizer of BERT's kind"
      ),
      (
        "pre_tokenizer", #"{"type": "Whitespace"}"#,
        "'pre_tokenizer.type': expected BertPreTokenizer, as BERT's tokenizer has it, found \"Whitespace\"; name a tokenizer of BERT's kind"
      ),
      (
        "model", #"{"type": "WordPiece", "vocab": []}"#,
        "'model.vocab': expected an object of tokens and their ids, found an array"
      ),
      (
        "post_processor", #"{"type": "BertProcessing", "sep": ["x", 1600], "cls": ["y", 2]}"#,
        "'post_processor': puts the token 1600 beside text, which does not exist"
      ),
      (
        "post_processor", #"{"type": "BertProcessing", "sep": "x"}"#,
        "'post_processor': expected cls and sep, a text and an id each, found nothing"
      ),
      (
        "post_processor",
        #"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "?", "type_id": 0}}], "pair": []}"#,
        "'post_processor.single': expected sequences and special tokens, found an object"
      ),
    ])
  func refuses(key: String, value: String, message: String) throws {
    let form = try #require(Self.file.bert.first)
    let place = try TemporaryDirectory()
    let changed = Case(
      name: form.name, parts: [key: value], texts: [], pairs: [], generated: form.generated)
    let path = try place.write(Self.json(of: changed), to: "tokenizer.json")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
    #expect(refusal?.description.replacing(path + ", ", with: "") == message)
  }

  @Test("refuses a vocab.txt that is none")
  func list() throws {
    let place = try TemporaryDirectory()
    for (bytes, message) in [
      (Array("a\nb\n".utf8), "'unk_token': names no token for words that have none, so that text would lose them"),
      (Array("[UNK]\n".utf8) + [0xFF], "'line 2': is not UTF-8"),
    ] {
      let path = try place.write(bytes, to: "vocab.txt")
      let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
      #expect(refusal?.description == "\(path), \(message)")
    }
  }
}
