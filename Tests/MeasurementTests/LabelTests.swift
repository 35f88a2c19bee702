import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import Testing
import TestSupport

/// A classifier on labelled texts, held against transformers (`fixtures/generate/labels.py`).
@Suite struct LabelTests {
  private struct Expected: Decodable {
    let count: Int
    let accuracy: Double
    let loss: Double
    let cutCount: Int
  }

  private static let folder = Fixtures.path("encoders/labelled")

  private static func evaluation(_ labels: String, of model: String = folder) -> LabelEvaluation {
    var evaluation = LabelEvaluation(model: model, labels: labels)
    evaluation.precision = .double
    evaluation.readingOptions.tokenizer = .directory(Fixtures.path("found/paraphrase-minilm-l3"))
    return evaluation
  }

  @Test(
    "Accuracy and loss are transformers', of texts and of pairs, cut to the context", arguments: ["texts", "pairs"])
  func accuracy(_ name: String) throws {
    let all: [String: Expected] = try Fixtures.decode("encoders/labelled/reference.json")
    let expected = try #require(all[name])
    var evaluation = Self.evaluation("\(Self.folder)/\(name).tsv")
    let report = try evaluation.run()
    #expect(report.count == expected.count && report.cutCount == expected.cutCount && expected.cutCount > 3)
    #expect(report.accuracy == expected.accuracy)
    #expect(abs(report.loss - expected.loss) < 1e-12)
    #expect(report.byLabel.map(\.name) == ["bad", "fair", "good"] && report.nonFiniteCount == 0)
    #expect(report.byLabel.reduce(0) { $0 + $1.count } == report.count)
    #expect(Double(report.byLabel.reduce(0) { $0 + $1.correctCount }) == report.accuracy * Double(report.count))
    evaluation.precision = .single
    #expect(abs(try evaluation.run().loss - expected.loss) < 1e-5)
  }

  @Test("In integers a classifier is held against itself: KL divergence rises from width to width")
  func integers() throws {
    let float = try Self.evaluation("\(Self.folder)/texts.tsv").run()
    let reports = try ["int:20,20", "int:12,12", "int:8,8", "int:2,2"].map { arithmetic in
      var evaluation = Self.evaluation("\(Self.folder)/texts.tsv")
      evaluation.integers = try IntegerArithmetic(parsing: arithmetic)
      return try evaluation.run()
    }
    let all = try reports.map { try #require($0.integers) }
    for integers in all {
      #expect(integers.floatLoss == float.loss && integers.floatAccuracy == float.accuracy)
      #expect(integers.overflows.isEmpty)
    }
    #expect(all.map(\.divergence) == all.map(\.divergence).sorted())
    #expect(all[0].divergence > 0 && all[0].divergence < 1e-8 && all[0].labelAgreement == 1)
    #expect(abs(reports[0].loss - float.loss) < 1e-4 && reports[0].accuracy == float.accuracy)
    #expect(all[3].divergence > 1e-3 && reports[3].loss != float.loss)
    #expect(all[3].labelAgreement < 1)
    #expect(float.integers == nil)
  }

  @Test("Numbers that do not fit into the ring are counted")
  func overflows() throws {
    var evaluation = Self.evaluation("\(Self.folder)/texts.tsv")
    evaluation.integers = try IntegerArithmetic(parsing: "fixed:16,7")
    let integers = try #require(try evaluation.run().integers)
    #expect(!integers.overflows.isEmpty)
    // One for each operation, the worst first.
    #expect(Set(integers.overflows.map(\.path)).count == integers.overflows.count)
    #expect(integers.overflows.map(\.count) == integers.overflows.map(\.count).sorted(by: >))
  }

  @Test(
    "Lines that are no examples are refused",
    arguments: [
      (
        "a text\n",
        "'line 1': expected 2 or 3 columns with tabs between, found 1; give a text, for pairs a second one, and the label"
      ),
      (
        "a\tbad\nb\tc\tgood\n",
        "'line 2': expected 2 columns with tabs between, found 3; give a text, for pairs a second one, and the label"
      ),
      ("a\tbad\n\nb\t3\n", "'line 3': expected a label of the model, bad, fair or good, or its number, found '3'"),
      ("\n\r\n", "has no examples"),
    ])
  func malformed(content: String, message: String) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(Array(content.utf8), to: "labels.tsv")
    let refusal = #expect(throws: Refusal.self) { try Self.evaluation(path).run() }
    #expect(refusal?.description.replacing(path, with: "").drop { $0 == "," || $0 == ":" || $0 == " " } == message[...])
  }

  @Test("Other networks, and tokenizers that put nothing around a text, are refused")
  func others() throws {
    let labels = Self.folder + "/texts.tsv"
    let hidden = #expect(throws: Refusal.self) {
      try Self.evaluation(labels, of: Fixtures.path("encoders/bert-model")).run()
    }
    #expect(hidden?.problem == "BertModel gives hidden states, and no logits of several labels of a text")
    var evaluation = Self.evaluation(labels)
    evaluation.readingOptions.tokenizer = .directory(Fixtures.path("shakespeare-4x128/tokenizer"))
    let bare = #expect(throws: Refusal.self) { try evaluation.run() }
    #expect(bare?.problem == "says nothing of the tokens around a text that an encoder reads")
  }
}
