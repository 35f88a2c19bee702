import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import Testing
import TestSupport

@Suite struct EyeTrackingTests {
  private static let path = Fixtures.path("eye-tracking/model.pth")

  private static func numbers(_ name: String) throws -> [Double] {
    try #require(try Checkpoint(safetensors: Fixtures.path("eye-tracking/reference.safetensors"))[name]).decoded()
  }

  /// A sentence of the reference.
  private static func sentence(_ number: Int) throws -> Probe {
    let features = try numbers("\(number).features")
    return Probe(
      name: "\(number)", tokens: try numbers("\(number).tokens").map { Int($0) },
      words: try numbers("\(number).words").map { Int($0) },
      features: stride(from: 0, to: features.count, by: 12).map { Array(features[$0..<$0 + 12]) })
  }

  /// The rows of the first token of each word.
  private static func words(of rows: [[Double]], in probe: Probe) -> [Double] {
    probe.features.indices.flatMap { word in probe.words.firstIndex(of: word).map { rows[$0] } ?? [] }
  }

  private static func predictions<Scalar: ArithmeticScalar>(
    of network: Network, for probe: Probe, in _: Scalar.Type
  ) throws -> [Double] {
    let all = try network.logits(on: FastBackend<Scalar>(probes: [probe])).all()
    let values = all.array.map { Double($0) }
    let width = all.columnCount
    return words(of: probe.tokens.indices.map { Array(values[$0 * width..<($0 + 1) * width]) }, in: probe)
  }

  @Test("Both parts are read, and compute what torch does for one sentence", arguments: 0..<2)
  func forward(_ number: Int) throws {
    let model = try Model(opening: Self.path)
    let probe = try Self.sentence(number)
    let expected = try Self.numbers("\(number).output")
    #expect(relativeDifference(try Self.predictions(of: model.network, for: probe, in: Double.self), expected) <= 1e-13)
    #expect(relativeDifference(try Self.predictions(of: model.network, for: probe, in: Float.self), expected) <= 4e-6)
    var backend = PlainBackend(probe)
    let rows = try model.network.evaluate(on: &backend)
    #expect(relativeDifference(Self.words(of: rows, in: probe), expected) <= 1e-13)
    let rules = Set(model.dropped.map(\.rule))
    #expect(rules.contains("layers that are never run") && rules.contains("classifier of tokens, which nothing reads"))
  }

  @Test("The last norm of the encoder folds through the means of words", arguments: 0..<2)
  func folds(_ number: Int) throws {
    let network = try Model(opening: Self.path).network
    let plan = try FoldingPlan(folding: network, options: .init(allowsPartial: true))
    #expect(plan.steps.contains { $0.path == "blocks.1.mlp.norm" && $0.readers == ["language.input"] })
    let found = try Self.predictions(of: plan.folded, for: Self.sentence(number), in: Double.self)
    #expect(relativeDifference(found, try Self.numbers("\(number).output")) <= 1e-13)
  }

  @Test("It becomes a graph of words and five numbers each, which is the same for every input")
  func converts() throws {
    let place = try Workplace()
    let report = try place.convert(Self.path, to: ["onnxruntime"]) { $0.allowsPartial = true }
    #expect(report.published && report.verdicts.allSatisfy(\.holds))
    let graph = try ONNXGraph(reading: place.output)
    #expect(
      graph.inputs.map(\.name)
        == ["input_ids", "attention_mask", "token_type_ids", "word_pooling", "word_features"])
    #expect(graph.outputs.map(\.name) == ["predictions"] && graph.outputs[0].shape.last == .fixed(5))
    let verified = try VerificationRun(reference: Self.path, candidate: place.output).run()
    #expect(verified.holds && verified.judgement.isComplete)
  }

  @Test("A mistake in either part is seen")
  func broken() throws {
    for path in ["language.output", "features.attended", "features.mlp.input"] as [Path] {
      let report = try Workplace().convert(Self.path, to: ["onnxruntime"]) {
        $0.allowsPartial = true
        $0.fold = { (network, options) throws(Refusal) in
          var altered = network
          if let map = network[linear: path] { altered[linear: path]?.weight = map.weight.multiplied(by: 1.01) }
          return try FoldingPlan(folding: altered, options: options)
        }
      }
      #expect(!report.holds && !report.published, "\(path)")
    }
  }

  @Test("No library has a class for it")
  func refused() throws {
    let refusal = try Workplace().refusal(Self.path) { $0.allowsPartial = true }
    #expect(
      refusal?.description
        == "'transformers': there is no class for an Eye-tracking RoBERTa; use targets = onnxruntime")
    for target in ["llama.cpp", "gpt2", "transformer-lens"] {
      let refusal = try Workplace().refusal(Self.path, to: [target]) { $0.allowsPartial = true }
      #expect(refusal?.category == .unsupported, "\(refusal?.description ?? "")")
    }
  }
}
