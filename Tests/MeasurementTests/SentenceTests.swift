import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldTokenization
import TestSupport
import Testing

/// Vectors of texts by a published encoder, held against an independent forward pass in float64
/// (`fixtures/found/paraphrase-minilm-l3`).
@Suite struct SentenceTests {
  private static let model = Fixtures.path("found/paraphrase-minilm-l3")
  /// The texts of the reference, by their numbers in `tokenized.json`.
  private static let chosen = [0, 1, 2, 3, 5, 11, 12, 14]

  private struct Text: Decodable { let text: String }

  private static func lines() throws -> [String] {
    let all: [Text] = try Fixtures.decode("found/paraphrase-minilm-l3/tokenized.json")
    return chosen.map { all[$0].text }
  }

  private static func report(
    _ content: String, of model: String = model, _ change: (inout SentenceVectors) -> Void = { $0.precision = .double }
  ) throws -> SentenceReport {
    let place = try TemporaryDirectory()
    var vectors = SentenceVectors(model: model, sentences: try place.write(Array(content.utf8), to: "lines.txt"))
    change(&vectors)
    return try vectors.run()
  }

  @Test("Vectors are those of the reference to 1e-9, in single precision to 1e-5")
  func published() throws {
    let checkpoint = try Checkpoint(safetensors: Self.model + "/reference.safetensors")
    let expected = try #require(checkpoint["pooled_mean.f64"]).decoded(as: Double.self)
    let lines = try Self.lines()
    let usable = lines.indices.filter { !lines[$0].isEmpty && !lines[$0].contains("\n") && !lines[$0].contains("\r") }
    try #require(usable.count >= 6)
    let content = usable.map { lines[$0] }.joined(separator: "\n")
    let report = try Self.report(content)
    let width = expected.count / lines.count
    #expect(report.pooling == "mean" && !report.isNormalised && report.nonFiniteCount == 0)
    #expect(report.texts.count == usable.count)
    for (text, number) in zip(report.texts, usable) {
      let vector = expected[number * width..<(number + 1) * width]
      #expect(zip(text.vector, vector).allSatisfy { abs($0 - $1) < 1e-9 }, "\(text.text)")
    }
    let single = try Self.report(content) { _ in }
    for (one, other) in zip(single.texts, report.texts) {
      #expect(zip(one.vector, other.vector).allSatisfy { abs($0 - $1) < 1e-5 })
    }
    // Published: the first two texts have the largest cosine, 0.596.
    #expect(report.texts[0].nearest == 2 && abs((report.texts[0].cosine ?? 0) - 0.596) < 6e-4)
  }

  @Test("In integers the vectors of a published encoder are held against its own: cosines fall from width to width")
  func integers() throws {
    let content = try Self.lines().filter { !$0.isEmpty && !$0.contains("\n") && !$0.contains("\r") }
      .joined(separator: "\n")
    let float = try Self.report(content)
    let reports = try ["int:16,16", "int:12,12", "int:10,10", "int:8,8"].map { arithmetic in
      let integers = try IntegerArithmetic(parsing: arithmetic)
      return try Self.report(content) {
        $0.precision = .double
        $0.integers = integers
      }
    }
    let all = try reports.map { try #require($0.integers) }
    #expect(all.map(\.meanCosine) == all.map(\.meanCosine).sorted(by: >))
    for integers in all { #expect(integers.smallestCosine <= integers.meanCosine && integers.overflows.isEmpty) }
    #expect(all[0].smallestCosine > 0.9999 && all[0].nearestAgreement == 1 && all[3].smallestCosine < 0.99)
    // The mean is of the cosine of each vector with the one of floating point.
    let cosines = zip(reports[3].texts, float.texts).map { one, other -> Double in
      func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
      return product(one.vector, other.vector)
        / (product(one.vector, one.vector) * product(other.vector, other.vector)).squareRoot()
    }
    #expect(abs(cosines.reduce(0, +) / Double(cosines.count) - all[3].meanCosine) < 1e-12)
    #expect(abs((cosines.min() ?? 0) - all[3].smallestCosine) < 1e-12)
    #expect(float.integers == nil)
  }

  @Test(
    "modules.json says how states become a vector",
    arguments: ["pooling_mode_cls_token", "pooling_mode_lasttoken", "pooling_mode_mean_tokens"])
  func pooled(mode: String) throws {
    let place = try TemporaryDirectory()
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
      try FileManager.default.copyItem(atPath: Self.model + "/" + name, toPath: place / name)
    }
    let modules = #"""
      [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}, {"type": "x.Normalize", "path": "2"}]
      """#
    try place.write(Array(modules.utf8), to: "modules.json")
    try FileManager.default.createDirectory(atPath: place / "1_Pooling", withIntermediateDirectories: true)
    try place.write(Array(#"{"\#(mode)": true}"#.utf8), to: "1_Pooling/config.json")
    try place.write(Array(#"{"max_seq_length": 6}"#.utf8), to: "sentence_bert_config.json")
    let report = try Self.report("the weather is\nthe weather is lovely today\n", of: place.path)
    #expect(report.isNormalised && report.texts.map(\.isCut) == [false, true])
    #expect(report.texts.allSatisfy { abs($0.vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-12 })
    // The rows of the same tokens, from a backend that knows no vectors.
    let model = try Model(opening: place.path)
    let tokenizer = try Tokenizer(opening: Self.model)
    let template = try #require(tokenizer.template)
    let tokens = template.applied(to: tokenizer.encode("the weather is"), nil).ids
    let rows = try model.network.logits(on: FastBackend<Double>(probes: [Probe(name: "text", tokens: tokens)])).all()
    let (states, width) = (rows.array, rows.columnCount)
    let expected = (0..<width).map { column in
      switch mode {
      case "pooling_mode_cls_token": states[column]
      case "pooling_mode_lasttoken": states[(tokens.count - 1) * width + column]
      default: tokens.indices.reduce(0) { $0 + states[$1 * width + column] } / Double(tokens.count)
      }
    }
    let length = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
    #expect(zip(report.texts[0].vector, expected).allSatisfy { abs($0 - $1 / length) < 1e-12 })
  }

  @Test("One text is near to none, and empty lines are left out")
  func single() throws {
    let report = try Self.report("\n\nalone\r\n")
    #expect(report.texts.map(\.line) == [3] && report.texts[0].text == "alone")
    #expect(report.texts[0].nearest == nil && report.texts[0].cosine == nil)
  }
}
