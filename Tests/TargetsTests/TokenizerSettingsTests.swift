import Foundation
import NormFold
import NormFoldFormats
import Testing
import TestSupport

/// `tokenizer_config.json`, which transformers 4 and onnxruntime-genai ask for.
@Suite struct TokenizerSettingsTests {
  private static let name = "tokenizer_config.json"

  private func convert(
    _ place: TemporaryDirectory, to target: String, tokenizer: ReadingOptions.Tokenizer
  ) throws -> String? {
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/lnfree"), destination: place / "out-\(target)", targets: [target])
    conversion.readingOptions.tokenizer = tokenizer
    #expect(try conversion.run().published)
    return try? String(contentsOfFile: place / "out-\(target)/\(Self.name)", encoding: .utf8)
  }

  @Test(
    "It is written where the source has none", arguments: ["transformers", "gpt2", "transformer-lens", "onnxruntime"])
  func made(target: String) throws {
    let place = try TemporaryDirectory()
    let source = Fixtures.path("tiny-2x32/tokenizer")
    #expect(!FileManager.default.fileExists(atPath: source + "/" + Self.name))
    let text = try #require(try convert(place, to: target, tokenizer: .directory(source)))
    let settings = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    #expect(settings?["tokenizer_class"] as? String == "GPT2Tokenizer")
    #expect(settings?["eos_token"] as? String == "<|endoftext|>")
    #expect(settings?["add_prefix_space"] as? Bool == false)
  }

  @Test("What the source has is carried along as it is, and without a tokenizer there is none")
  func carried() throws {
    let place = try TemporaryDirectory()
    try FileManager.default.copyItem(
      atPath: Fixtures.path("tiny-2x32/tokenizer"), toPath: place / "tokenizer")
    let own = #"{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}"#
    try place.write([UInt8](own.utf8), to: "tokenizer/" + Self.name)
    #expect(try convert(place, to: "gpt2", tokenizer: .directory(place / "tokenizer")) == own)
    #expect(try convert(place, to: "transformers", tokenizer: .absent) == nil)
  }

  @Test("A tokenizer that is damaged is carried along unread, and a note says what is missing")
  func damaged() throws {
    let place = try TemporaryDirectory()
    try place.write([UInt8]("{".utf8), to: "tokenizer.json")
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/lnfree"), destination: place / "out", targets: ["transformers"])
    conversion.readingOptions.tokenizer = .directory(place.path)
    let output = try conversion.run().outputs[0]
    #expect(output.files.map(\.name).contains("tokenizer.json"))
    #expect(!output.files.map(\.name).contains(Self.name))
    #expect(output.notes.contains { $0.description.hasPrefix("tokenizer_config.json, which some libraries ask for") })
  }
}
