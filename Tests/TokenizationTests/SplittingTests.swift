import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

/// Small tokenizers in the form of Llama 3's and Qwen2's, held against the tokenizers library
/// (`fixtures/generate/split_tokenizers.py`).
@Suite("Text that Llama 3's and Qwen2's patterns split")
struct SplittingTests {
  private struct Expected: Decodable {
    let texts: [Golden.Text]
    let generated: Golden.Generated
  }

  static let forms = ["llama-3", "qwen2"]

  private static func read(_ form: String) throws -> (Tokenizer, Expected) {
    let place = Fixtures.path("tokenizer/" + form)
    return (try Tokenizer(opening: place), try Fixtures.decode("tokenizer/\(form)/golden.json"))
  }

  @Test("has the library's ids, and is text again", arguments: forms)
  func texts(_ form: String) throws {
    let (tokenizer, expected) = try Self.read(form)
    #expect(expected.texts.count > 200)
    for text in expected.texts {
      #expect(tokenizer.encode(text.text) == text.ids, "\(text.text.debugDescription)")
      if form == "llama-3" { #expect(try Array(tokenizer.text(of: text.ids).utf8) == Array(text.text.utf8)) }
    }
  }

  @Test("has them at any length, whole or cut", arguments: forms)
  func generated(_ form: String) throws {
    let (tokenizer, expected) = try Self.read(form)
    try expected.generated.expectIds(of: tokenizer, as: .uint16)
  }

  @Test("needs the pieces that are tokens as they are")
  func wholePieces() throws {
    var vocabulary = try #require(try Vocabulary(directory: Fixtures.path("tokenizer/llama-3")))
    var kind = try #require(vocabulary.kind as? ByteLevelKind)
    #expect(kind.takesWholePieces && kind.pattern == .llama3 && vocabulary.addsBeginOfText)
    kind.takesWholePieces = false
    vocabulary.kind = kind
    #expect(try Tokenizer(vocabulary).encode("wxyz").count > 1)
    let (tokenizer, _) = try Self.read("llama-3")
    #expect(tokenizer.encode("wxyz").count == 1)
  }

  @Test("is llama.cpp's by name, and a tokenizer.json again", arguments: zip(forms, ["llama-bpe", "qwen2"]))
  func files(_ form: String, _ name: String) throws {
    let vocabulary = try #require(try Vocabulary(directory: Fixtures.path("tokenizer/" + form)))
    var kind = try #require(vocabulary.kind as? ByteLevelKind)
    #expect(kind.ggufSplitting == name)
    let (tokenizer, expected) = try Self.read(form)
    let place = try TemporaryDirectory()
    for file in vocabulary.files { try place.write(file.bytes, to: file.name) }
    let again = try Tokenizer(opening: place.path)
    for text in expected.texts { #expect(again.encode(text.text) == tokenizer.encode(text.text)) }
    #expect(try Vocabulary(directory: place.path)?.addsBeginOfText == (form == "llama-3"))
    (kind.pattern, kind.takesWholePieces) = (.gpt2, true)
    #expect(kind.ggufSplitting == nil)
  }
}
