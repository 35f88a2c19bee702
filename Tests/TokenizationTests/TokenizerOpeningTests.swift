import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

@Suite("Opening a tokenizer")
struct TokenizerOpeningTests {
  private static let text = "To be, or not to be:\n\n  that's  the question<|endoftext|> — naïve 東京 🙂 "

  private func expectSmall(_ tokenizer: Tokenizer, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let expected = try Tokenizer(opening: SmallTokenizer.path + "/tokenizer.json").encode(Self.text)
    #expect(tokenizer.encode(Self.text) == expected, sourceLocation: sourceLocation)
    #expect(tokenizer.endOfText == 0 && tokenizer.vocabularySize == 1_024, sourceLocation: sourceLocation)
  }

  @Test("from vocab.json and merges.txt, or tokenizer.json, or the directory of either")
  func files() throws {
    try expectSmall(Tokenizer(opening: SmallTokenizer.path))
    let place = try TemporaryDirectory()
    for name in ["vocab.json", "merges.txt"] {
      try place.write(Fixtures.bytes("shakespeare-4x128/tokenizer/\(name)"), to: name)
    }
    try expectSmall(Tokenizer(opening: place.path))
  }

  @Test("beside a checkpoint, or none")
  func besideCheckpoint() throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("tiny-2x32/lnfree/model.safetensors"), to: "model.safetensors")
    #expect(try Tokenizer(besideCheckpointAt: place.path) == nil)
    try place.write(Fixtures.bytes("shakespeare-4x128/tokenizer/tokenizer.json"), to: "tokenizer.json")
    for path in [place.path, place / "model.safetensors"] {
      try expectSmall(try #require(try Tokenizer(besideCheckpointAt: path)))
      try expectSmall(Tokenizer(opening: path))
    }
  }

  @Test("not through a link beside a checkpoint that leads elsewhere, unless the user names it")
  func links() throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("tiny-2x32/lnfree/model.safetensors"), to: "model.safetensors")
    try FileManager.default.createSymbolicLink(
      atPath: place / "tokenizer.json", withDestinationPath: SmallTokenizer.path + "/tokenizer.json")
    let refusal = #expect(throws: Refusal.self) { _ = try Tokenizer(besideCheckpointAt: place.path) }
    #expect(
      refusal?.description
        == "\(place / "tokenizer.json"): is a link that leaves the directory of the checkpoint; "
        + "copy the file itself there, or remove the link")
    try expectSmall(Tokenizer(opening: place / "tokenizer.json"))
  }

  @Test("with ids between that have no token, which decoding refuses")
  func holes() throws {
    let place = try TemporaryDirectory()
    for name in ["vocab.json", "merges.txt"] {
      try place.write(Fixtures.bytes("shakespeare-4x128/tokenizer/\(name)"), to: name)
    }
    try place.write(Array(#"{"<x>": 1030}"#.utf8), to: "added_tokens.json")
    let tokenizer = try Tokenizer(opening: place.path)
    #expect(tokenizer.vocabularySize == 1_031 && tokenizer.encode("<x>") == [1_030])
    #expect(try tokenizer.decode([1_030]) == Array("<x>".utf8))
    let refusal = #expect(throws: Refusal.self) { try tokenizer.decode([1_029]) }
    #expect(refusal?.category == .malformed)
  }

  @Test("without tokens for the bytes that UTF-8 never uses")
  func bytesOfText() throws {
    let place = try TemporaryDirectory()
    let original: [String: Int] = try Fixtures.decode("shakespeare-4x128/tokenizer/vocab.json")
    for absent in [0xC0, 0xC1] + Array(0xF5...0xFF) + [0xC2, 0xF4] {
      var vocabulary = original
      vocabulary[String(ByteAlphabet.scalars[absent])] = nil
      try place.write(Array(JSONEncoder().encode(vocabulary)), to: "vocab.json")
      try place.write(Array("#version: 0.2\n".utf8), to: "merges.txt")
      if [0xC2, 0xF4].contains(absent) {
        let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: place.path) }
        #expect(refusal?.problem == "byte \(absent) has no token, so that text would lose it")
      } else {
        let tokenizer = try Tokenizer(opening: place.path)
        #expect(try tokenizer.decode(tokenizer.encode(Self.text)) == Array(Self.text.utf8))
      }
    }
  }

  // MARK: GGUF

  /// The small tokenizer as llama.cpp's converter lays it out.
  private func gguf(
    model: String = "gpt2", splitting: String? = "gpt-2", changeTokens: (inout [String]) -> Void = { _ in }
  ) throws -> GGUFBytes {
    let vocabulary: [String: Int] = try Fixtures.decode("shakespeare-4x128/tokenizer/vocab.json")
    var tokens = vocabulary.sorted { $0.value < $1.value }.map(\.key)
    changeTokens(&tokens)
    let merges = String(decoding: try Fixtures.bytes("shakespeare-4x128/tokenizer/merges.txt"), as: UTF8.self)
      .split(separator: "\n").dropFirst().map(String.init)
    var file = GGUFBytes(pairs: splitting == nil ? 5 : 6)
    func strings(_ key: String, _ texts: [String]) {
      file = file.text(key).number(Int32(9)).number(Int32(8)).number(UInt64(texts.count))
      for text in texts { file = file.text(text) }
    }
    file = file.text("tokenizer.ggml.model").number(Int32(8)).text(model)
    if let splitting { file = file.text("tokenizer.ggml.pre").number(Int32(8)).text(splitting) }
    strings("tokenizer.ggml.tokens", tokens)
    strings("tokenizer.ggml.merges", merges)
    file = file.text("tokenizer.ggml.token_type").number(Int32(9)).number(Int32(5)).number(UInt64(tokens.count))
    for id in tokens.indices { file = file.number(Int32(id == 0 ? 3 : 1)) }
    return file.pair("tokenizer.ggml.eos_token_id", type: 4, UInt32(0)).data(0)
  }

  @Test("from the keys of a GGUF file, with or without a name for the way to split", arguments: ["gpt-2", nil])
  func gguf(splitting: String?) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(gguf(splitting: splitting).bytes, to: "model.gguf")
    try expectSmall(Tokenizer(opening: path))
    try expectSmall(try #require(try Tokenizer(besideCheckpointAt: place.path)))
  }

  @Test(
    "refuses another kind of GGUF tokenizer by name",
    arguments: [
      ("t5", "default", "'t5' with 'default'"), ("gpt2", "tekken", "'gpt2' with 'tekken'"),
      ("rwkv", nil, "'rwkv' with none"),
    ])
  func otherGGUF(model: String, splitting: String?, found: String) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(gguf(model: model, splitting: splitting).bytes, to: "model.gguf")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
    #expect(refusal?.category == .unsupported)
    #expect(
      refusal?.problem
        == "expected 'bert', 'llama', or 'gpt2' with the pre-tokenizer 'gpt-2', 'llama-bpe', 'dbrx' or 'qwen2', found \(found)"
    )
  }

  @Test("refuses a GGUF file in which two ids have one text")
  func twice() throws {
    let place = try TemporaryDirectory()
    let path = try place.write(gguf { $0[1_000] = $0[999] }.bytes, to: "model.gguf")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
    #expect(refusal?.problem == "is the text of the tokens 999 and 1000")
  }

  // MARK: Refusals

  struct Defect: CustomTestStringConvertible {
    let name: String
    /// In place of the member of tokenizer.json.
    let key: String
    let value: String
    let message: String
    var testDescription: String { name }
  }

  @Test(
    "refuses",
    arguments: [
      Defect(
        name: "another normalizer", key: "normalizer", value: #"{"type": "Lowercase"}"#,
        message:
          "tokenizer.json, 'normalizer.type': expected NFC or no normalizer, found \"Lowercase\"; name a tokenizer that changes text by NFC alone"
      ),
      Defect(
        name: "another normalizer behind NFC", key: "normalizer",
        value: #"{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}"#,
        message:
          "tokenizer.json, 'normalizer.normalizers[1].type': expected NFC or no normalizer, found \"NFKC\"; name a tokenizer that changes text by NFC alone"
      ),
      Defect(
        name: "a sequence of nothing", key: "normalizer", value: #"{"type": "Sequence"}"#,
        message: "tokenizer.json, 'normalizer.normalizers': expected an array, found nothing"
      ),
      Defect(
        name: "a normalizer without a type", key: "normalizer", value: "[]",
        message:
          "tokenizer.json, 'normalizer.type': expected NFC or no normalizer, found nothing; name a tokenizer that changes text by NFC alone"
      ),
      Defect(
        name: "another way to split", key: "pre_tokenizer", value: #"{"type": "Sequence", "pretokenizers": []}"#,
        message:
          "tokenizer.json, 'pre_tokenizer.pretokenizers': expected a Split and then ByteLevel, found 0 pre-tokenizers; name a tokenizer of the kind of GPT-2's, Llama 3's or Qwen2's"
      ),
      Defect(
        name: "another pattern", key: "pre_tokenizer",
        value:
          #"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated"}, {}]}"#,
        message:
          "tokenizer.json, 'pre_tokenizer.pretokenizers[0].pattern': expected the pattern of Llama 3 or of Qwen2, isolated, found \"x\"; name a tokenizer of the kind of GPT-2's, Llama 3's or Qwen2's"
      ),
      Defect(
        name: "dropout", key: "model", value: #"{"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}"#,
        message:
          "tokenizer.json, 'model.dropout': expected null, as GPT-2's tokenizer has it, found 0.1; name a tokenizer of GPT-2's kind"
      ),
      Defect(
        name: "bytes without a token", key: "model", value: #"{"type": "BPE", "vocab": {"a": 0}, "merges": []}"#,
        message:
          "tokenizer.json, 'Ā': byte 0 has no token, so that text would lose it; name a tokenizer with every byte that UTF-8 uses"
      ),
      Defect(
        name: "a huge id", key: "model", value: #"{"type": "BPE", "vocab": {"a": 99999999}, "merges": []}"#,
        message: "tokenizer.json, 'a': has the id 99999999; expected ids below 4194304"),
      Defect(
        name: "the largest id there is", key: "model",
        value: #"{"type": "BPE", "vocab": {"a": 9223372036854775807}, "merges": []}"#,
        message: "tokenizer.json, 'a': expected an id below 2^32, found 9223372036854775807"),
      Defect(
        name: "no object", key: "model", value: "[]",
        message: "tokenizer.json, 'model.vocab': expected an object, found nothing"),
    ])
  func refuses(_ defect: Defect) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(
      SmallTokenizer.json(replacing: defect.key, by: defect.value), to: "tokenizer.json")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: path) }
    #expect(refusal?.description.replacing(place.path + "/", with: "") == defect.message)
  }

  @Test(
    "refuses merges that mean nothing, or two things",
    arguments: [
      ("t h\nq q\n", "q q", "the merge is of a token that the vocabulary does not have: its result"),
      ("t h\nqz a\n", "qz a", "the merge is of a token that the vocabulary does not have: a part of it"),
      ("t h\nt h\n", "t h", "the merge occurs twice"),
    ])
  func merges(text: String, subject: String, problem: String) throws {
    let place = try TemporaryDirectory()
    try place.write(Fixtures.bytes("shakespeare-4x128/tokenizer/vocab.json"), to: "vocab.json")
    try place.write(Array(text.utf8), to: "merges.txt")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: place.path) }
    #expect(refusal?.subject == Message(subject) && refusal?.problem == problem)
  }

  @Test("refuses what is no tokenizer", arguments: ["", "nothing", "text.txt", "vocab.json"])
  func none(name: String) throws {
    let place = try TemporaryDirectory()
    try place.write(Array("text".utf8), to: "text.txt")
    try place.write(Array("{}".utf8), to: "vocab.json")
    let refusal = #expect(throws: Refusal.self) { try Tokenizer(opening: place / name) }
    #expect(refusal?.category == .malformed)
  }
}
