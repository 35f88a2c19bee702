import Foundation
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import Testing
import TestSupport

/// Graphs of fixed length, for compilers.
@Suite struct PlainFormTests {
  private static let forms = [
    ONNXGraph.Form.plain(length: 12, readsEmbeddings: false),
    .plain(length: 12, readsEmbeddings: true),
  ]

  @Test("It has one input, one output, numbers for shapes, and few operators", arguments: forms)
  func operators(_ form: ONNXGraph.Form) throws {
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree", form: form)
    #expect(
      graph.operatorCounts == [
        "Add": 22, "Gather": 1, "MatMul": 17, "Mul": 14, "Reshape": 8, "Sigmoid": 2, "Softmax": 2,
        "Transpose": 10,
      ])
    #expect(form.operatorSet == 14)
    #expect(graph.inputs == [.init(name: "input_ids", type: .i64, shape: [.fixed(1), .fixed(12)])])
    #expect(
      graph.outputs == [
        .init(name: "logits", type: .f32, shape: [.fixed(1), .fixed(12), .fixed(512)])
      ])
    // CrypTen takes a value that a node reads twice for one that is still missing.
    #expect(graph.nodes.allSatisfy { Set($0.inputs).count == $0.inputs.count })
    let kept = try ONNXGraph(fixture: "tiny-2x32/vanilla", isFolded: false, form: form)
      .operatorCounts
    #expect(kept["LayerNormalization"] == nil && kept["ReduceMean"] == 10)
  }

  @Test(
    "What is read back is what was written, to the byte", arguments: forms, [ElementType.f32, .f16])
  func roundTrip(_ form: ONNXGraph.Form, _ type: ElementType) throws {
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree", type: type, form: form)
    let directory = try TemporaryDirectory()
    try graph.write(to: directory.path)
    let read = try ONNXGraph(reading: directory.path)
    try read.requireSame(as: graph)
    #expect(read.form == form)
    let files = read.packed(dataName: ONNXNames.data)
    #expect(
      files.map(\.name)
        == (form.readsEmbeddings ? ["embed_tokens.onnx", "model.onnx"] : ["model.onnx"]))
    for (name, bytes) in files {
      #expect(Data(bytes) == FileManager.default.contents(atPath: directory / name))
    }
  }

  @Test("A graph that looks up other embeddings than the network reads")
  func join() throws {
    let directory = try TemporaryDirectory()
    try ONNXGraph(fixture: "tiny-2x32/lnfree", form: Self.forms[1]).write(to: directory.path)
    let lookup = directory / ONNXNames.lookup
    let other = try ONNXGraph(
      fixture: "tiny-2x32/lnfree", form: .plain(length: 13, readsEmbeddings: true))
    try directory.write(
      other.packed(dataName: ONNXNames.data)[0].bytes, to: ONNXNames.lookup)
    #expect(
      throws: Refusal(
        .malformed, file: lookup, subject: "inputs_embeds", "is not what model.onnx reads")
    ) {
      try ONNXGraph(reading: directory.path)
    }
    try FileManager.default.removeItem(atPath: lookup)
    #expect(throws: Refusal.self) { try ONNXGraph(reading: directory.path) }
  }

  @Test("Tokens behind the text are not seen, and a mask that shows them is another network")
  func masks() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).shortened(to: 12).network
    let graph = try ONNXGraph(of: network, type: .f32, endOfText: nil, form: Self.forms[0])
    let text = [5, 0, 17, 301, 22, 480]
    let (first, second) = (text + [7, 9, 11, 400, 3, 2], text + [0, 1, 1, 1, 500, 511])
    let evaluator = try ONNXEvaluator(graph)
    let width = network.vocabularySize * text.count
    let logits = [first, second].map { tokens in
      try! evaluator.logits(ofFirst: tokens, of: 12)[..<width]
    }
    #expect(relativeDifference(Array(logits[0]), Array(logits[1])) <= 1e-15)
    #expect(graph.raised(like: network, endOfText: nil) != nil)

    var broken = graph
    try broken.change("mask.added") { $0.content = .numbers([Double](repeating: 0, count: 144)) }
    #expect(broken.raised(like: network, endOfText: nil) == nil)
    let seen = try ONNXEvaluator(broken).logits(ofFirst: first, of: 12)[..<width]
    #expect(relativeDifference(Array(seen), Array(logits[0])) > 1e-3)

    network = network.shortened(to: 11)
    #expect(graph.raised(like: network, endOfText: nil) == nil)
  }

  @Test("What the form has no place for is refused")
  func refusals() throws {
    #expect(
      throws: Refusal(
        .unsupported, "the plain form is for networks that generate text",
        advice: "choose \(.onnxForm, "cached")")
    ) {
      try ONNXGraph(
        fixture: "encoders/bert-model", isFolded: false,
        form: .plain(length: 8, readsEmbeddings: false))
    }
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
    for length in [0, 65] {
      let error = #expect(throws: Refusal.self) { try model.shortened(to: length) }
      #expect(error?.problem == "expected 1 to 64 tokens, the model's context, found \(length)")
    }
  }
}
