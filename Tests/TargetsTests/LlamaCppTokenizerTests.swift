import Foundation
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization
import Testing
import TestSupport

@testable import NormFoldTargets

@Suite("Tokenizer of a GGUF file")
struct LlamaCppTokenizerTests {
  private let directory = Fixtures.path("tiny-2x32/tokenizer")

  /// The keys for the tiny network (512 tokens).
  private func tokenizer(_ choice: ReadingOptions.Tokenizer) throws -> LlamaCppTokenizer {
    var options = ReadingOptions()
    options.tokenizer = choice
    return try LlamaCppTokenizer(
      of: try TargetSource(try Model(opening: Fixtures.path("tiny-2x32/lnfree"), options: options)))
  }

  private func value(_ tokenizer: LlamaCppTokenizer, _ key: String) -> GGUFValue? {
    tokenizer.keys.first { $0.key == "tokenizer.ggml.\(key)" }?.value
  }

  private func text(_ name: String) throws -> String {
    try String(contentsOf: URL(filePath: directory + "/" + name), encoding: .utf8)
  }

  @Test("reads tokenizer.json: tokens by id, merges in order, the end of text as a control token")
  func whole() throws {
    let found = try tokenizer(.directory(directory))
    let vocabulary = try JSONDecoder().decode([String: Int].self, from: Data(text("vocab.json").utf8))
    let expected = vocabulary.sorted { $0.value < $1.value }.map(\.key)
    #expect(value(found, "tokens") == .strings(expected))
    #expect(expected[0] == "<|endoftext|>" && expected.count == 512)
    #expect(value(found, "token_type") == .i32s([3] + [Int32](repeating: 1, count: 511)))
    let lines = try text("merges.txt").split(separator: "\n").dropFirst().map(String.init)
    #expect(value(found, "merges") == .strings(lines))
    #expect(found.notes.isEmpty)
  }

  @Test("reads vocab.json and merges.txt to the same keys")
  func parts() throws {
    let place = try TemporaryDirectory()
    for name in ["vocab.json", "merges.txt"] { try place.write(Array(text(name).utf8), to: name) }
    let (found, expected) = (try tokenizer(.directory(place.path)), try tokenizer(.directory(directory)))
    #expect(found.keys.map(\.key) == expected.keys.map(\.key))
    for (mine, theirs) in zip(found.keys, expected.keys) { #expect(mine.value == theirs.value, "\(mine.key)") }
  }

  @Test("reads the tokenizer of GPT-2")
  func gpt2() throws {
    let tokenizer = try #require(try Vocabulary(directory: Fixtures.path("found/gpt2-tokenizer")))
    #expect(tokenizer.tokens.count == 50_257 && (tokenizer.kind as? ByteLevelKind)?.merges.count == 50_000)
    #expect(tokenizer.tokens[50_256] == .init(text: "<|endoftext|>", kind: .control, matching: .init()))
    #expect(tokenizer.tokens[220] == .init(text: "Ġ", kind: .normal))
    let keys = try tokenizer.ggufKeys(vocabularySize: 50_257)
    #expect(keys.map(\.key).count == 6)
  }

  // MARK: Small tokenizers of our own

  private func small(_ files: [String: String]) throws -> TemporaryDirectory {
    let place = try TemporaryDirectory()
    for (name, text) in files { try place.write(Array(text.utf8), to: name) }
    return place
  }

  private func json(
    added: String = "", preTokenizer: String = #"{"type": "ByteLevel", "add_prefix_space": false}"#,
    model: String = #""vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]"#, normalizer: String = "null"
  ) -> String {
    #"{"added_tokens": [\#(added)], "normalizer": \#(normalizer), "pre_tokenizer": \#(preTokenizer), "model": {"type": "BPE", \#(model)}}"#
  }

  @Test("tells control tokens from added ones, and pads what has no token")
  func added() throws {
    let added = #"""
      {"id": 3, "content": "<s>", "special": true}, {"id": 4, "content": "<|im_start|>", "special": false},
      {"id": 5, "content": "a word", "special": false}
      """#
    let place = try small([
      "tokenizer.json": json(added: added),
      "tokenizer_config.json": #"{"bos_token": "<s>", "eos_token": {"content": "<s>"}, "add_bos_token": true}"#,
    ])
    let tokenizer = try #require(try Vocabulary(directory: place.path))
    let keys = Dictionary(uniqueKeysWithValues: try tokenizer.ggufKeys(vocabularySize: 8))
    #expect(
      keys["tokenizer.ggml.tokens"] == .strings(["a", "b", "ab", "<s>", "<|im_start|>", "a word", "[PAD6]", "[PAD7]"]))
    #expect(keys["tokenizer.ggml.token_type"] == .i32s([1, 1, 1, 3, 3, 4, 5, 5]))
    #expect(keys["tokenizer.ggml.bos_token_id"] == .u32(3))
    #expect(keys["tokenizer.ggml.eos_token_id"] == .u32(3))
    #expect(keys["tokenizer.ggml.add_bos_token"] == .bool(true))
    #expect(
      tokenizer.notes(vocabularySize: 8) == [
        "2 rows of the embedding have no token in \(place.path)/tokenizer.json; they are written as unused tokens"
      ])
  }

  @Test("reads merges in both spellings, with a space inside a part as the byte that it is")
  func merges() throws {
    let place = try small([
      "tokenizer.json": json(model: #""vocab": {"a": 0}, "merges": ["a b", ["c", "d"], ["e f", "g"]]"#)
    ])
    let kind = try #require(try Vocabulary(directory: place.path)?.kind as? ByteLevelKind)
    #expect(kind.merges == ["a b", "c d", "eĠf g"])
  }

  @Test("says which token llama.cpp takes for the end of text where none is named")
  func noEndOfText() throws {
    let place = try small(["tokenizer.json": json()])
    let tokenizer = try #require(try Vocabulary(directory: place.path))
    #expect(
      tokenizer.notes(vocabularySize: 3) == [
        "\(place.path)/tokenizer.json names no end-of-text token, and llama.cpp will take token 11 for it"
      ])
  }

  @Test("says that llama.cpp does not normalise, and keeps the rest")
  func normalizer() throws {
    let added = #"{"id": 3, "content": "<s>", "special": true}, {"id": 4, "content": "   ", "normalized": true}"#
    let settings = #"{"eos_token": "<s>"}"#
    let found = try ["null", #"{"type": "NFC"}"#].map { normalizer in
      let place = try small([
        "tokenizer.json": json(added: added, normalizer: normalizer), "tokenizer_config.json": settings,
      ])
      let tokenizer = try #require(try Vocabulary(directory: place.path))
      let notes = tokenizer.notes(vocabularySize: 5).map { $0.description.replacing(place.path + "/", with: "") }
      return (keys: try tokenizer.ggufKeys(vocabularySize: 5), notes: notes)
    }
    #expect(found[0].notes.isEmpty)
    #expect(
      found[1].notes == [
        "tokenizer.json brings text to NFC before it is split, and llama.cpp does not: letters that are written apart from their marks become other tokens there"
      ])
    for (plain, normalizing) in zip(found[0].keys, found[1].keys) { #expect(plain == normalizing) }
    let keys = Dictionary(uniqueKeysWithValues: found[1].keys)
    #expect(keys["tokenizer.ggml.pre"] == .string("gpt-2"))
    #expect(keys["tokenizer.ggml.tokens"] == .strings(["a", "b", "ab", "<s>", "   "]))
    #expect(keys["tokenizer.ggml.token_type"] == .i32s([1, 1, 1, 3, 4]))
  }

  @Test("goes without where there is none, with a clear line")
  func absent() throws {
    let choices: [(ReadingOptions.Tokenizer, reason: Message)] = [
      (.ofCheckpoint, "there is none beside the source; \(.tokenizer) names a directory that holds one"),
      (.absent, "none was to be written (\(.tokenizer, "absent"))"),
    ]
    for (choice, reason) in choices {
      let found = try tokenizer(choice)
      #expect(found.keys.map(\.key) == ["tokenizer.ggml.model"])
      #expect(value(found, "model") == .string("none"))
      #expect(
        found.notes == [
          "the file has no tokenizer, so that llama.cpp's library runs it on token ids, and its server and command line do not: "
            + reason
        ])
    }
  }

  // MARK: SentencePiece

  private static let pieces = Fixtures.path("tokenizer/sentencepiece")

  /// A directory with one of the models of the fixture.
  private func sentencePiece(_ name: String) throws -> TemporaryDirectory {
    let place = try TemporaryDirectory()
    for file in name == "llama" ? ["tokenizer.json", "tokenizer_config.json"] : [name] {
      let bytes = try Fixtures.bytes("tokenizer/sentencepiece/" + (name == "llama" ? "llama/" : "") + file)
      try place.write(bytes, to: name == "llama" ? file : "tokenizer.model")
    }
    return place
  }

  @Test("has the scores of tokenizer.model, and such as merge in the order of tokenizer.json")
  func scores() throws {
    let places = try ["llama.model", "llama"].map { try sentencePiece($0) }
    let model = try #require(try Vocabulary(directory: places[0].path))
    let json = try #require(try Vocabulary(directory: places[1].path))
    let found = try [model, json].map { Dictionary(uniqueKeysWithValues: try $0.ggufKeys(vocabularySize: 1_203)) }
    for key in [
      "tokens", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token", "add_space_prefix",
    ] {
      #expect(found[0]["tokenizer.ggml." + key] == found[1]["tokenizer.ggml." + key], "\(key)")
    }
    #expect(
      found[0]["tokenizer.ggml.model"] == .string("llama") && found[0]["tokenizer.ggml.pre"] == .string("default"))
    #expect(
      found[0]["tokenizer.ggml.eos_token_id"] == .u32(2) && found[0]["tokenizer.ggml.add_bos_token"] == .bool(true))
    guard case .i32s(let types) = found[0]["tokenizer.ggml.token_type"],
      case .strings(let tokens) = found[0]["tokenizer.ggml.tokens"]
    else { return #expect(Bool(false)) }
    #expect(types.prefix(4) == [2, 3, 3, 6] && types[258] == 6 && types[259] == 1 && types.suffix(3) == [5, 5, 5])
    #expect(tokens[13] == "<0x0A>" && tokens[1_202] == "[PAD1202]")
    // Whatever the numbers are, longer tokens have them in one order.
    let orders = try found.map { keys in
      guard case .f32s(let scores) = keys["tokenizer.ggml.scores"] else { throw CocoaError(.coderInvalidValue) }
      return (259..<1_200).filter { tokens[$0].unicodeScalars.count > 1 }.sorted { scores[$0] > scores[$1] }
    }
    #expect(orders[0] == orders[1] && orders[0].count > 700)
    #expect(model.notes(vocabularySize: 1_200) == [] && json.notes(vocabularySize: 1_200) == [])
  }

  @Test("says what llama.cpp does in another way")
  func differences() throws {
    let home = try sentencePiece("home.model")
    let notes = try #require(try Vocabulary(directory: home.path)).notes(vocabularySize: 1_200).map {
      $0.description.replacing(home.path + "/", with: "")
    }
    #expect(
      notes == [
        "tokenizer.model replaces characters before text is taken apart (nmt_nfkc), and llama.cpp does not",
        "tokenizer.model makes one space of several and drops those around a text, and llama.cpp does not",
      ])
  }

  @Test("goes to GGUF and back to a tokenizer.json with the same ids", arguments: ["llama.model", "llama"])
  func sentencePieceRoundTrip(_ name: String) throws {
    let place = try sentencePiece(name)
    var options = ReadingOptions()
    options.tokenizer = .directory(place.path)
    let vocabulary = try #require(try Vocabulary(directory: place.path))
    let keys = try vocabulary.ggufKeys(vocabularySize: 1_200)
    let gguf = place / "model.gguf"
    try TensorWriter(gguf: gguf, metadata: [("general.architecture", .string("llama"))] + keys, tensors: []).finish()
    let (own, written) = (try Tokenizer(opening: place.path), try Tokenizer(opening: gguf))
    let back = try TemporaryDirectory()
    let header = try GGUFHeader(of: MappedFile(path: gguf))
    for file in try #require(try Vocabulary(gguf: header, path: gguf)).files {
      try back.write(file.bytes, to: file.name)
    }
    let again = try Tokenizer(opening: back.path)
    for tokenizer in [written, again] {
      #expect(tokenizer.beginOfText == 1 && tokenizer.endOfText == 2)
      for text in [
        "Hello  world\n", " two", "naïve 東京 🙂", "", "aaaa" + String(repeating: " ", count: 40) + "b",
        "the end of the world",
      ] {
        #expect(tokenizer.encode(text) == own.encode(text), "\(text)")
        #expect(try tokenizer.text(of: own.encode(text)) == text)
      }
    }
  }

  @Test(
    "refuses merges that no scores put in order",
    arguments: [
      (
        #"["a b", "b c", "ab c"]"#,
        "tokenizer.json, 'abc': 'a' and 'bc' are not merged, and llama.cpp, which merges by a score for each token, would make other tokens of text"
      ),
      (
        #"["ab c", "a b", "a bc", "b c"]"#,
        "tokenizer.json, 'abc': its merges do not follow each other, and llama.cpp, which merges by a score for each token, would make other tokens of text"
      ),
    ])
  func unordered(merges: String, message: String) throws {
    let place = try small([
      "tokenizer.json":
        #"{"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}, "model": {"type": "BPE", "unk_token": "?", "vocab": {"?": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "abc": 6}, "merges": \#(merges)}}"#
    ])
    let refusal = #expect(throws: Refusal.self) { try tokenizer(.directory(place.path)) }
    #expect(
      refusal?.description.replacing(place.path + "/", with: "").hasPrefix(message) == true,
      "\(refusal?.description ?? "")")
    #expect(refusal?.category == .unsupported)
  }

  // MARK: Chat templates

  @Test("carries the template of a conversation, the file before the one in tokenizer_config.json")
  func chatTemplates() throws {
    func keys(_ files: [String: String]) throws -> [String: GGUFValue] {
      let place = try small(files.merging(["tokenizer.json": json()]) { $1 })
      let tokenizer = try #require(try Vocabulary(directory: place.path))
      return Dictionary(uniqueKeysWithValues: try tokenizer.ggufKeys(vocabularySize: 3))
    }
    let template = #"{% for m in messages %}{{ "é" + m }}{% endfor %}"#
    let settings = #"{"chat_template": "{% for m in messages %}{{ \"é\" + m }}{% endfor %}"}"#
    #expect(try keys([:])["tokenizer.chat_template"] == nil)
    #expect(try keys(["tokenizer_config.json": settings])["tokenizer.chat_template"] == .string(template))
    #expect(
      try keys(["tokenizer_config.json": settings, "chat_template.jinja": "{{ x }}\n"])["tokenizer.chat_template"]
        == .string("{{ x }}\n"))
    let several = try keys([
      "tokenizer_config.json":
        #"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#
    ])
    #expect(several["tokenizer.chat_template"] == .string("D"))
    #expect(several["tokenizer.chat_templates"] == .strings(["tool_use"]))
    #expect(several["tokenizer.chat_template.tool_use"] == .string("T"))
  }

  @Test("refuses a template that is no text")
  func badTemplate() throws {
    let place = try small(["tokenizer.json": json()])
    try place.write([0x7B, 0xFF], to: "chat_template.jinja")
    let refusal = #expect(throws: Refusal.self) { try Vocabulary(directory: place.path) }
    #expect(
      refusal?.description
        == "\(place.path)/chat_template.jinja: is not UTF-8; save it as UTF-8, or take it away")
  }

  @Test(
    "A template goes from a directory to every target, and from GGUF back to a directory", arguments: ["jinja", "json"])
  func templateRoundTrip(_ form: String) throws {
    let source = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { _ in }
    for name in ["vocab.json", "merges.txt"] { try source.directory.write(Array(text(name).utf8), to: "model/" + name) }
    let template = "{{ messages[0].content }}"
    try source.directory.write(
      Array((form == "jinja" ? template : #"{"chat_template": "\#(template)"}"#).utf8),
      to: "model/" + (form == "jinja" ? "chat_template.jinja" : "tokenizer_config.json"))
    for target in ["transformers", "gpt2", "onnxruntime", "transformer-lens"] {
      let written = try Converted(source.path, to: target)
      #expect(try #require(try Vocabulary(directory: written.path)).chatTemplates == ["default": template])
    }
    let gguf = try Converted(source.path)
    #expect(try gguf.header().value("tokenizer.chat_template") == .string(template))
    let back = try Converted(gguf.path, to: "gpt2")
    #expect(try #require(try Vocabulary(directory: back.path)).chatTemplates == ["default": template])
  }

  // MARK: Refusals

  struct Defect: CustomTestStringConvertible {
    let name: String
    let files: [String: String]
    let message: String
    var testDescription: String { name }
  }

  @Test(
    "refuses",
    arguments: [
      Defect(
        name: "another kind of model",
        files: [
          "tokenizer.json":
            #"{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "model": {"type": "Unigram", "vocab": {}, "merges": []}}"#
        ],
        message:
          "tokenizer.json, 'model.type': expected BPE or WordPiece, found \"Unigram\"; pass tokenizer = absent to write token ids only"
      ),
      Defect(
        name: "another way to split",
        files: [
          "tokenizer.json":
            #"{"pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#
        ],
        message:
          "tokenizer.json, 'pre_tokenizer.type': expected ByteLevel, as GPT-2's tokenizer has it, found \"Whitespace\"; pass tokenizer = absent to write token ids only"
      ),
      Defect(
        name: "a merge of one part", files: ["vocab.json": #"{"a": 0}"#, "merges.txt": "#version: 0.2\na b\nab\n"],
        message: "merges.txt, 'line 3': expected two parts with a space between, found 'ab'"),
      Defect(
        name: "two tokens with one id", files: ["vocab.json": #"{"a": 0, "b": 0}"#, "merges.txt": ""],
        message: "vocab.json, 'b': has the id 0, as 'a' has"),
      Defect(
        name: "an id that is none", files: ["vocab.json": #"{"a": -1}"#, "merges.txt": ""],
        message: "vocab.json, 'a': expected an id, found -1"),
      Defect(
        name: "two ids with one text",
        files: ["vocab.json": #"{"a": 0, "b": 1}"#, "merges.txt": "", "added_tokens.json": #"{"a": 2}"#],
        message: "vocab.json, 'a': is the text of the tokens 0 and 2; llama.cpp needs another text for each token"),
      Defect(
        name: "more tokens than rows", files: ["vocab.json": #"{"a": 512}"#, "merges.txt": ""],
        message:
          "vocab.json, 'a': the token has id 512, but the embedding has 512 rows; the tokenizer belongs to another model; name the right one with tokenizer, or pass tokenizer = absent"
      ),
      Defect(
        name: "a directory without one", files: [:],
        message:
          "holds neither tokenizer.json nor tokenizer.model nor vocab.json and merges.txt; name the directory of the tokenizer with tokenizer, or pass tokenizer = absent"
      ),
    ])
  func refuses(_ defect: Defect) throws {
    let place = try small(defect.files)
    let refusal = #expect(throws: Refusal.self) { try tokenizer(.directory(place.path)) }
    let short = refusal?.description.replacing(place.path + "/", with: "").replacing(place.path + ": ", with: "")
    #expect(short == defect.message)
  }
}
