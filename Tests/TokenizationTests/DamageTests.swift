import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldTokenization

/// Tokenizers with some of their bytes changed.
@Suite("A damaged tokenizer")
struct DamageTests {
  /// How often each file is damaged.
  private static let count = 200

  @Test(
    "reads damaged files or refuses them, and cuts text where it may",
    arguments: [
      "seeds/tokenizer/map.model", "seeds/tokenizer/metaspace.json",
      "tokenizer/encoders/roberta/tokenizer.json", "found/paraphrase-minilm-l3/vocab.txt",
      "found/paraphrase-minilm-l3/tokenizer.json",
    ])
  func damage(_ name: String) throws {
    let original = try Fixtures.bytes(name)
    // Most other bytes would only show that the file is no JSON.
    let isText = !name.hasSuffix(".model")
    var generator = SeededGenerator(seed: 3)
    let place = try TemporaryDirectory()
    let fileName = URL(filePath: name).lastPathComponent
    let text = "the A \u{300}cat  A\u{300} <user> ab\u{A0}abcd\u{2581}\n\u{6771}é"
    let file = try place.write(Array(text.utf8), to: "text")
    var count = (read: 0, refused: 0)
    for _ in 0..<Self.count {
      var bytes = original
      for _ in 0..<Int.random(in: 1...(isText ? 1 : 4), using: &generator) {
        bytes[Int.random(in: bytes.indices, using: &generator)] =
          isText ? UInt8.random(in: 0x20...0x7E, using: &generator) : UInt8(truncatingIfNeeded: generator.next())
      }
      do throws(Refusal) {
        let tokenizer = try Tokenizer(
          opening: (try? place.write(bytes, to: fileName)) ?? "")
        let tokens = tokenizer.encode(text)
        _ = try tokenizer.decode(tokens)
        var pieces: [Int] = []
        try tokenizer.encodeFile(at: file, windowByteCount: 8) { pieces += $0 }
        #expect(pieces == tokens)
        count.read += 1
      } catch {
        #expect(!error.problem.isEmpty)
        count.refused += 1
      }
    }
    #expect(count.read > 10 && (count.refused > 10 || fileName == "vocab.txt"), "\(count)")
  }
}
