import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldTokenization
import Testing
import TestSupport

/// Predictions of numbers of words, held against what torch computed (`fixtures/generate/eye_tracking.py`).
@Suite struct WordTests {
  private static let model = Fixtures.path("eye-tracking/model.pth")
  private static let features = (1...12).map { "f\($0)" }
  private static let targets = ["nFix", "FFD", "GPT", "TRT", "fixProp"]

  private static func numbers(_ name: String) throws -> [Double] {
    try #require(try Checkpoint(safetensors: Fixtures.path("eye-tracking/reference.safetensors"))[name]).decoded()
  }

  private static func table() throws -> String {
    String(decoding: try Fixtures.bytes("eye-tracking/words.csv"), as: UTF8.self)
  }

  private static func evaluation(_ text: String, in place: TemporaryDirectory) throws -> WordEvaluation {
    var evaluation = WordEvaluation(model: model, table: try place.write(Array(text.utf8), to: "words.csv"))
    evaluation.precision = .double
    return evaluation
  }

  @Test("Errors and R² are those that torch worked out")
  func errors() throws {
    var evaluation = WordEvaluation(model: Self.model, table: Fixtures.path("eye-tracking/words.csv"))
    evaluation.precision = .double
    let report = try evaluation.run()
    #expect(report.sentenceCount == 3 && report.wordCount == 9 && report.nonFiniteCount == 0)
    #expect(report.targets.map(\.name) == Self.targets)
    let (errors, determinations) = (try Self.numbers("table.mae"), try Self.numbers("table.r2"))
    for (index, target) in report.targets.enumerated() {
      #expect(abs(target.meanAbsoluteError - errors[index]) < 1e-13)
      #expect(abs(target.determination - determinations[index]) < 1e-12)
    }
    #expect(abs(report.meanAbsoluteError - errors.reduce(0, +) / 5) < 1e-13)
    evaluation.precision = .single
    #expect(abs(try evaluation.run().meanAbsoluteError - report.meanAbsoluteError) < 1e-5)
  }

  @Test("Columns are found by their names, and words may stand in quotes")
  func columns() throws {
    let place = try TemporaryDirectory()
    let text = try Self.table()
    let report = try Self.evaluation(text, in: place).run()
    // The targets last, the words quoted, an empty line between, lines that end as on Windows.
    let lines = text.split(separator: "\n").map { line in
      let fields = line.split(separator: ",")
      return ([Substring("\"\(fields[2])\"")] + fields[8...] + fields[..<2] + fields[3..<8]).joined(separator: ",")
    }
    let other = try Self.evaluation(lines.joined(separator: "\r\n\r\n"), in: place).run()
    #expect(other.targets.map(\.determination) == report.targets.map(\.determination))
  }

  @Test("Words become the tokens that their tokenizer makes of them behind a space")
  func words() throws {
    let tokenizer = Fixtures.path("tokenizer/encoders/roberta")
    let count = try Tokenizer(opening: tokenizer).vocabularySize
    let altered = try AlteredCheckpoint(ofCheckpointAt: Self.model) { content in
      content.config["vocab_size"] = .number(count)
      content.config["max_position_embeddings"] = .number(66)
      let name = "base_model.roberta.embeddings."
      func table(_ rows: Int) -> EditableTensors.Entry {
        .init((0..<rows * 24).map { Double($0 * 7_919 % 1_009) / 1_009 - 0.5 }, shape: [rows, 24])
      }
      content.tensors[name + "word_embeddings.weight"] = table(count)
      content.tensors[name + "position_embeddings.weight"] = table(66)
    }
    let place = try TemporaryDirectory()
    let texts = ["He", "said", "\"no, thanks\"", "twice."]
    let encoder = try Tokenizer(opening: tokenizer)
    func text(_ column: String, _ word: (String) -> String) -> String {
      let header = (["sentence_id", column] + Self.targets + Self.features).joined(separator: ",")
      let rows = texts.enumerated().map { number, text in
        (["7", word(text)] + (0..<17).map { "\(Double(($0 * 5 + number) % 11) / 7)" }).joined(separator: ",")
      }
      return ([header] + rows).joined(separator: "\n")
    }
    func report(_ text: String) throws -> WordReport {
      var evaluation = WordEvaluation(
        model: altered.path, table: try place.write(Array(text.utf8), to: "words.csv"))
      evaluation.readingOptions.tokenizer = .directory(tokenizer)
      return try evaluation.run()
    }
    let found = try report(text("word") { "\"\($0.replacing("\"", with: "\"\""))\"" })
    let expected = try report(text("tokens") { encoder.encode(" " + $0).map { "\($0)" }.joined(separator: " ") })
    #expect(found.wordCount == 4)
    #expect(found.targets.map(\.meanAbsoluteError) == expected.targets.map(\.meanAbsoluteError))
  }

  /// What is wrong with a table, as a change of the sound one.
  private static let refusals: [(change: @Sendable (String) -> String, message: String)] = [
    (
      { $0.replacing("sentence_id", with: "sentence") },
      "has no column sentence_id; its columns are sentence, word_id, tokens"
    ),
    (
      { $0.replacing("tokens", with: "text") },
      "has neither a column word nor a column tokens; its columns are sentence_id, word_id, text"
    ),
    (
      { $0.replacing("nFix", with: "n") },
      "expected 5 of the columns nFix, FFD, GPT, TRT and fixProp, as many as the network predicts, found 4"
    ),
    (
      { $0.replacing("f12", with: "word") },
      "expected 12 columns of numbers of each word, as many as the network reads, found 11"
    ),
    ({ _ in "" }, "has no header"),
    ({ String($0.prefix { $0 != "\n" }) }, "has no words"),
    ({ $0 + "1,2,3\n" }, "expected 20 fields, as many as the header has, found 3"),
    ({ $0.replacing("sentence_id", with: "\"sentence_id") }, "'line 1': a quote is not closed"),
    ({ $0.replacing("\n0,0,", with: "\n0,0,99 ") }, "has a token that is not in the model's vocabulary of 60"),
  ]

  @Test("Tables that do not fit the network are refused", arguments: 0..<9)
  func refused(number: Int) throws {
    let place = try TemporaryDirectory()
    let (change, message) = Self.refusals[number]
    let text = change(try Self.table())
    let refusal = #expect(throws: Refusal.self) { try Self.evaluation(text, in: place).run() }
    #expect(refusal?.category == .malformed)
    #expect(refusal?.description.contains(message) ?? false, "\(refusal as Any)")
  }

  @Test("Networks that give something else are refused")
  func others() throws {
    let evaluation = WordEvaluation(model: Fixtures.path("encoders/bert-model"), table: "words.csv")
    let refusal = #expect(throws: Refusal.self) { try evaluation.run() }
    #expect(refusal?.problem == "BertModel gives hidden states, and no numbers of words")
  }
}
