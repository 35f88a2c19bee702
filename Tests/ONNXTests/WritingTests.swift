import Foundation
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import Testing
import TestSupport

@Suite struct WritingTests {
  @Test("A folded network needs nothing that a norm would")
  func operators() throws {
    let counts = try ONNXGraph(fixture: "tiny-2x32/lnfree").operatorCounts
    #expect(
      counts == [
        "Add": 22, "And": 1, "Cast": 1, "Concat": 4, "Gather": 4, "LessOrEqual": 1, "MatMul": 17, "Mul": 14, "Range": 2,
        "Reshape": 8, "Shape": 2, "Softmax": 2, "Sub": 1, "Tanh": 2, "Transpose": 10, "Unsqueeze": 2, "Where": 2,
      ])
    for operation in ["LayerNormalization", "ReduceMean", "Sqrt", "Div", "Reciprocal", "Pow"] {
      #expect(try ONNXGraph(fixture: "shakespeare-4x128/lnfree").operatorCounts[operation] == nil)
    }
    #expect(try ONNXGraph(fixture: "tiny-2x32/vanilla", isFolded: false).operatorCounts["LayerNormalization"] == 5)
    #expect(try ONNXGraph(fixture: "tiny-2x32/lnfree", isFolded: false).operatorCounts["ReduceMean"] == 5)
  }

  @Test("What is read back is what was written, to the byte", arguments: [ElementType.f32, .f16])
  func roundTrip(_ type: ElementType) throws {
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree", type: type)
    let directory = try TemporaryDirectory()
    try graph.write(to: directory.path)
    let read = try ONNXGraph(reading: directory.path)
    try read.requireSame(as: graph)
    var end = 0
    for (written, expected) in zip(read.externalInitializers, graph.externalInitializers) {
      let tensor = try #require(written.value.storedTensor)
      #expect(tensor.byteOffset % 4096 == 0 && tensor.byteOffset >= end)
      end = tensor.byteOffset + tensor.info.byteCount
      let values = ParameterReader(expected.value).values()
      switch type {
      case .f32: #expect(tensor.decoded(as: Float.self) == values.map { Float($0) })
      default: #expect(tensor.decoded(as: Float.self) == values.map { Float(Float16($0)) })
      }
    }
    #expect(try FileManager.default.attributesOfItem(atPath: directory / "model.onnx_data")[.size] as? Int == end)
    // Packed again, the graph that was read is the file that was read.
    for (name, bytes) in read.packed(dataName: "model.onnx_data") {
      #expect(Data(bytes) == FileManager.default.contents(atPath: directory / name))
    }
  }

  @Test("The mask value is finite in every type", arguments: [ElementType.f32, .f16])
  func maskValue(_ type: ElementType) throws {
    let directory = try TemporaryDirectory()
    try ONNXGraph(fixture: "tiny-2x32/lnfree", type: type).write(to: directory.path)
    let mask = try ONNXGraph(reading: directory.path).initializers.first { $0.name == "mask.value" }
    #expect(mask?.content == .numbers([type.lowestFinite]))
    #expect(type.lowestFinite.isFinite)
  }

  @Test("Appending in pieces of any size gives the same files")
  func pieces() throws {
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    let (whole, pieces) = (try TemporaryDirectory(), try TemporaryDirectory())
    try graph.write(to: whole.path)
    let writer = try TensorWriter(onnx: graph, in: pieces.path)
    var bytes: [UInt8] = []
    for (_, value) in graph.externalInitializers {
      for number in ParameterReader(value).values() { withUnsafeBytes(of: Float(number)) { bytes += $0 } }
    }
    try bytes.withUnsafeBytes { all in
      var start = 0
      for size in (1...).lazy.map({ $0 * 37 % 5000 + 1 }) where start < all.count {
        let end = min(start + size, all.count)
        try writer.append(UnsafeRawBufferPointer(rebasing: all[start..<end]))
        start = end
        if start == all.count { break }
      }
    }
    try writer.finish()
    for name in ["model.onnx", "model.onnx_data"] {
      #expect(FileManager.default.contents(atPath: whole / name) == FileManager.default.contents(atPath: pieces / name))
    }
  }

  @Test("A type that the runtime cannot compute in")
  func bfloat16() {
    #expect(
      throws: Refusal(.unsupported, "onnxruntime does not compute in BF16 on CPUs", advice: "choose F32 or F16")
    ) { try ONNXGraph(fixture: "tiny-2x32/lnfree", type: .bf16) }
  }

  @Test("What is not what was meant is named")
  func differences() throws {
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    func expect(_ refusal: Refusal, _ change: (inout ONNXGraph) throws -> Void) rethrows {
      var other = graph
      try change(&other)
      #expect(throws: refusal) { try other.requireSame(as: graph) }
    }
    expect(Refusal(.mismatch, subject: "Gather.0", "is not the node 'Gather.0' that was to be written")) {
      $0.nodes[0].inputs.reverse()
    }
    expect(Refusal(.mismatch, "expected 95 nodes, found 94")) { $0.nodes.removeLast() }
    try expect(Refusal(.mismatch, subject: "gelu.inner", "is not the initializer 'gelu.inner' that was to be written"))
    {
      try $0.change("gelu.inner") { $0.content = .numbers([0.8]) }
    }
    expect(Refusal(.mismatch, subject: "logits", "is not the output 'logits' that was to be written")) {
      $0.outputs[0].type = .f16
    }
    expect(Refusal(.mismatch, subject: "x", "is not the input 'input_ids' that was to be written")) {
      $0.inputs[0].name = "x"
    }
  }

  @Test("A number of a formula that F16 cannot hold")
  func constantRange() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    network.changeAttentions { if $0.block == 0 { $1.scale = 1e12 } }
    #expect(
      throws: Refusal(
        .nonFinite, subject: "blocks.0.attention.mixed.scale", "1000000000000.0 is larger than F16 can hold",
        advice: "choose F32")
    ) { try ONNXGraph(of: network, type: .f16, endOfText: nil) }
  }

  @Test("Existing files are not replaced")
  func existing() throws {
    let directory = try TemporaryDirectory()
    try directory.write([1], to: "model.onnx_data")
    let error = #expect(throws: Refusal.self) {
      try TensorWriter(onnx: try ONNXGraph(fixture: "tiny-2x32/lnfree"), in: directory.path)
    }
    #expect(
      error
        == Refusal(
          .output, file: directory / "model.onnx_data", "cannot be created: File exists",
          advice: "choose another destination"))
  }
}

/// A graph that was read back, with one thing wrong in it.
struct Break: CustomTestStringConvertible, Sendable {
  let name: String
  /// How far the logits must move, over the largest: far more than rounding does.
  var atLeast = 1e-3
  var padding = 0
  let apply: @Sendable (inout ONNXGraph) throws -> Void
  var testDescription: String { name }

  static let all: [Break] = [
    Break(name: "a dropped bias") { graph in
      // The Add becomes a product with one, so that the structure stays sound.
      try graph.changeInitializer("blocks.0.mlp.output.bias") { .constant(0, shape: $0.shape) }
    },
    Break(name: "a dropped vocabulary bias") { graph in
      try graph.changeInitializer("unembedding.bias") { .constant(0, shape: $0.shape) }
    },
    Break(name: "a bias read by no node", apply: { try $0.bypass("Add", reading: "blocks.1.attention.query.bias") }),
    Break(name: "a transposed weight") { graph in
      try graph.changeInitializer("blocks.1.attention.output.weight") { $0.transposed() }
    },
    Break(name: "a mask that hides nothing") { graph in
      try graph.change("mask.value") { $0.content = .numbers([0]) }
    },
    Break(name: "a mask of a wrong finite value") { graph in
      try graph.change("mask.value") { $0.content = .numbers([-3]) }
    },
    Break(name: "padding that is seen", padding: 3) { graph in
      for index in graph.nodes.indices where graph.nodes[index].operation == "And" {
        graph.nodes[index].inputs[1] = graph.nodes[index].inputs[0]
      }
      graph.nodes.removeAll { ["mask.wanted", "mask.wanted_keys"].contains($0.outputs[0]) }
      graph.initializers.removeAll { $0.name == "axes.1.2" }
    },
    Break(name: "queries and keys exchanged") { graph in
      for index in graph.nodes.indices {
        graph.nodes[index].inputs = graph.nodes[index].inputs.map {
          $0 == "blocks.0.attention.query.weight"
            ? "blocks.0.attention.key.weight"
            : $0 == "blocks.0.attention.key.weight" ? "blocks.0.attention.query.weight" : $0
        }
      }
    },
    Break(name: "a lost scale of attention") { graph in
      try graph.change("blocks.0.attention.mixed.scale") { $0.content = .numbers([1]) }
    },
    Break(name: "heads joined in the wrong order") { graph in
      for index in graph.nodes.indices where graph.nodes[index].outputs == ["blocks.0.attention.mixed.parts"] {
        graph.nodes[index].attributes["perm"] = .integers([0, 2, 3, 1])
      }
    },
    Break(name: "another activation") { graph in
      try graph.change("gelu.inner") { $0.content = .numbers([1]) }
    },
    Break(name: "positions that start at 1") { graph in
      try graph.changeInitializer("embedding.positions.weight") {
        .concatenating([$0.sliced(axis: 0, 1..<$0.rowCount), $0.sliced(axis: 0, 0..<1)], axis: 0)
      }
    },
  ]
}

struct NoSuchThing: Error { let name: String }

extension ONNXGraph {
  mutating func change(_ name: String, _ body: (inout Initializer) -> Void) throws {
    guard let index = initializers.firstIndex(where: { $0.name == name }) else { throw NoSuchThing(name: name) }
    body(&initializers[index])
  }

  mutating func changeInitializer(_ name: String, _ body: (Parameter) -> Parameter) throws {
    var isExternal = false
    try change(name) { initializer in
      guard case .external(let value) = initializer.content else { return }
      initializer.content = .external(body(value))
      isExternal = true
    }
    if !isExternal { throw NoSuchThing(name: name) }
  }

  /// Takes out the node that reads `initializer`: its readers get what its other input was.
  mutating func bypass(_ operation: String, reading initializer: String) throws {
    guard let index = nodes.firstIndex(where: { $0.operation == operation && $0.inputs.contains(initializer) }),
      let other = nodes[index].inputs.first(where: { $0 != initializer })
    else { throw NoSuchThing(name: initializer) }
    let output = nodes.remove(at: index).outputs[0]
    for index in nodes.indices { nodes[index].inputs = nodes[index].inputs.map { $0 == output ? other : $0 } }
    initializers.removeAll { $0.name == initializer }
  }
}

@Suite struct BrokenOnPurposeTests {
  static let tokens = [5, 0, 17, 301, 22, 480, 511, 9, 1, 0, 77, 140]

  @Test("A graph that is as it should be agrees with the source")
  func sound() throws {
    let directory = try TemporaryDirectory()
    try ONNXGraph(fixture: "tiny-2x32/lnfree").write(to: directory.path)
    let source = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let evaluator = try ONNXEvaluator(try ONNXGraph(reading: directory.path))
    let expected = try source.logits(tokens: Self.tokens)
    // Every weight is rounded to Float once; the arithmetic is in double precision.
    #expect(relativeDifference(try evaluator.logits(tokens: Self.tokens), expected) <= 1e-6)
    #expect(relativeDifference(try evaluator.logits(tokens: Self.tokens, padding: 3), expected) <= 1e-6)
  }

  @Test("Broken on purpose, it does not", arguments: Break.all)
  func broken(_ defect: Break) throws {
    let directory = try TemporaryDirectory()
    var graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    try defect.apply(&graph)
    try graph.write(to: directory.path)
    let source = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let evaluator = try ONNXEvaluator(try ONNXGraph(reading: directory.path))
    let expected = try source.logits(tokens: Self.tokens)
    let logits = try evaluator.logits(tokens: Self.tokens, padding: defect.padding)
    let difference = relativeDifference(logits, expected)
    #expect(difference >= defect.atLeast)
  }

  @Test("What cannot be run is refused by name")
  func unrunnable() throws {
    var graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    try graph.changeInitializer("blocks.0.mlp.input.weight") { $0.transposed() }
    let node = try #require(graph.nodes.first { $0.inputs.contains("blocks.0.mlp.input.weight") })
    #expect(throws: Refusal(.malformed, subject: node.name, "MatMul: shapes [1, 12, 32] and [128, 32] do not fit")) {
      try ONNXEvaluator(graph).logits(tokens: Self.tokens)
    }
    graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    graph.nodes[0].operation = "Einsum"
    #expect(
      throws: Refusal(
        .unsupported, subject: "Gather.0", "the operator Einsum is none of those that can be computed here",
        advice: "export the model with another operator set, without fusing operators")
    ) {
      try ONNXEvaluator(graph).logits(tokens: Self.tokens)
    }
  }
}
