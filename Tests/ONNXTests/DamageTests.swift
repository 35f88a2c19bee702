import Foundation
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import Testing
import TestSupport

/// One thing wrong with a written model, and what is said of it.
struct Damage: CustomTestStringConvertible, Sendable {
  let name: String
  /// The message, without the file, which is model.onnx unless `inData`.
  let expected: Refusal
  var inData = false
  /// Changes the graph before it is packed.
  var graph: @Sendable (inout ONNXGraph) throws -> Void = { _ in }
  /// Changes the packed bytes.
  var model: @Sendable (inout [UInt8]) throws -> Void = { _ in }
  var data: @Sendable (inout [UInt8]) throws -> Void = { _ in }
  var testDescription: String { name }

  static let all: [Damage] = [
    // MARK: The message
    Damage(
      name: "truncated model",
      expected: Refusal(.malformed, "is not a protobuf message of ONNX", advice: "it is damaged or incomplete"),
      model: { $0.removeLast(7) }),
    Damage(
      name: "another IR version", expected: Refusal(.malformed, "expected IR version 9, found 10"),
      model: { $0[1] = 10 }),
    Damage(
      name: "no IR version", expected: Refusal(.malformed, "expected IR version 9, found none"),
      model: { $0.removeFirst(2) }),
    Damage(
      name: "another operator set", expected: Refusal(.malformed, "expected operator set '' 18 alone, found '' 19"),
      model: { $0[$0.count - 1] = 19 }),
    Damage(
      name: "a second operator set",
      expected: Refusal(.malformed, "expected operator set '' 18 alone, found '' 18, 'ai.onnx.ml' 1"),
      model: { $0 += [0x42, 14, 0x0A, 10] + Array("ai.onnx.ml".utf8) + [0x10, 1] }),
    Damage(
      name: "a field that is not ours",
      expected: Refusal(.malformed, "field 20 of the model is not one that NormFold writes"),
      model: { $0 += [0xA2, 1, 0] }),
    Damage(
      name: "a key of the metadata twice", expected: Refusal(.malformed, "metadata has two keys 'k'"),
      graph: { $0.metadata["k"] = "v" }, model: { $0 += [0x72, 3, 0x0A, 1] + Array("k".utf8) }),
    Damage(
      name: "nothing but a version", expected: Refusal(.malformed, "expected operator set '' 18 alone, found none"),
      model: { $0 = [8, 9] }),
    Damage(
      name: "no graph", expected: Refusal(.malformed, "has no graph"),
      model: { $0 = [8, 9, 0x42, 4, 0x0A, 0, 0x10, 18] }),
    Damage(
      name: "an attribute of another type",
      expected: Refusal(.malformed, subject: "Concat.11", "attribute 'axis' is not of the type that it says (1)"),
      model: { try $0.replace("axis\u{18}\u{2}\u{A0}\u{1}\u{2}", with: "axis\u{18}\u{2}\u{A0}\u{1}\u{1}") }),

    // MARK: Structure
    Damage(
      name: "a value made twice",
      expected: Refusal(
        .malformed, subject: "embedding.tokens", "is made twice, the second time as an output of node 'Gather.1'"),
      graph: { $0.nodes[1].outputs = ["embedding.tokens"] }),
    Damage(
      name: "a node before what it reads",
      expected: Refusal(.malformed, subject: "Add.2", "reads 'embedding.positions', which nothing before it makes"),
      graph: { $0.nodes.swapAt(1, 2) }),
    Damage(
      name: "an input that nothing makes",
      expected: Refusal(.malformed, subject: "Gather.0", "reads 'nothing', which nothing before it makes"),
      graph: { $0.nodes[0].inputs[0] = "nothing" }),
    Damage(
      name: "an output that nothing makes",
      expected: Refusal(.malformed, subject: "present.9.key", "is an output, but nothing makes it"),
      graph: { $0.outputs[1].name = "present.9.key" }),
    Damage(
      name: "an output twice", expected: Refusal(.malformed, subject: "logits", "is an output twice"),
      graph: { $0.outputs.append($0.outputs[0]) }),
    Damage(
      name: "an initializer that nothing reads",
      expected: Refusal(.malformed, subject: "embedding.tokens.weight", "is an initializer that nothing reads"),
      graph: { $0.nodes[0].inputs[0] = "embedding.positions.weight" }),
    Damage(
      name: "a node that nobody needs",
      expected: Refusal(.malformed, subject: "Tanh.extra", "makes what nothing reads"),
      graph: {
        $0.nodes.append(.init(name: "Tanh.extra", operation: "Tanh", inputs: ["embedding.tokens"], outputs: ["extra"]))
      }),
    Damage(
      name: "two initializers of one name",
      expected: Refusal(.malformed, subject: "axis.1", "is made twice, the second time as an initializer"),
      graph: { $0.initializers.append(.init(name: "axis.1", type: .i64, shape: [1], content: .integers([4]))) }),
    Damage(
      name: "two nodes of one name", expected: Refusal(.malformed, subject: "Gather.0", "two nodes have this name"),
      graph: { $0.nodes[1].name = "Gather.0" }),
    Damage(
      name: "a value without a name",
      expected: Refusal(.malformed, subject: "Gather.0", "an output of node 'Gather.0' without a name"),
      graph: { $0.nodes[0].outputs = [""] }),
    Damage(
      name: "a dimension of nothing",
      expected: Refusal(.malformed, subject: "logits", "each dimension is a number from 1 to 2^31 - 1 or a name"),
      graph: { $0.outputs[0].shape[2] = .fixed(0) }),
    Damage(
      name: "a constant that does not fill its shape",
      expected: Refusal(.malformed, subject: "axis.1", "expected 16 bytes for I64 [2], found 8"),
      graph: { try $0.change("axis.1") { $0.shape = [2] } }),

    // MARK: The places of weights
    Damage(
      name: "a wrong length",
      expected: Refusal(
        .malformed, subject: "embedding.tokens.weight", "length: expected 65536 for F32 [512, 32], found 65532"),
      model: { try $0.replace("65536", with: "65532") }),
    Damage(
      name: "an offset beside a page",
      expected: Refusal(
        .malformed, subject: "embedding.positions.weight", "offset: expected a multiple of 4096, found 65537"),
      model: { try $0.replace("offset\u{12}\u{5}65536", with: "offset\u{12}\u{5}65537") }),
    Damage(
      name: "overlapping weights",
      expected: Refusal(
        .malformed, at: 61440, subject: "embedding.positions.weight",
        "overlaps 'embedding.tokens.weight', which ends at byte 65536"),
      inData: true,
      model: { try $0.replace("offset\u{12}\u{5}65536", with: "offset\u{12}\u{5}61440") }),
    Damage(
      name: "a page that belongs to nothing",
      expected: Refusal(.malformed, at: 65536, "4096 bytes before 'embedding.positions.weight' belong to no tensor"),
      inData: true,
      model: { try $0.replace("offset\u{12}\u{5}65536", with: "offset\u{12}\u{5}69632") }),
    Damage(
      name: "an offset that is no number",
      expected: Refusal(
        .malformed, subject: "embedding.positions.weight", "offset: expected a whole number, found '+5536'"),
      model: { try $0.replace("offset\u{12}\u{5}65536", with: "offset\u{12}\u{5}+5536") }),
    Damage(
      name: "an offset behind the end",
      expected: Refusal(
        .malformed, subject: "blocks.1.attention.key.bias",
        "bytes 999424 to 999552 lie outside model.onnx_data, which has 288768",
        advice: "the data file is incomplete"),
      model: { try $0.replace("offset\u{12}\u{6}159744", with: "offset\u{12}\u{6}999424") }),
    Damage(
      name: "a location outside the folder",
      expected: Refusal(
        .malformed, subject: "embedding.tokens.weight", "expected location 'model.onnx_data', found '../el.onnx_data'"),
      model: { try $0.replace("model.onnx_data", with: "../el.onnx_data") }),
    Damage(
      name: "an unknown key of external data",
      expected: Refusal(
        .malformed, subject: "embedding.tokens.weight",
        "expected the keys length, location, offset of external data, found lengtH, location, offset"),
      model: { try $0.replace("length", with: "lengtH") }),
    Damage(
      name: "truncated data",
      expected: Refusal(
        .malformed, subject: "unembedding.bias", "bytes 286720 to 288768 lie outside model.onnx_data, which has 288764",
        advice: "the data file is incomplete"),
      data: { $0.removeLast(4) }),
    Damage(
      name: "bytes behind the data",
      expected: Refusal(.malformed, at: 288768, "4 bytes behind the last tensor"), inData: true,
      data: { $0 += [0, 0, 0, 0] }),
    Damage(
      name: "something in the padding",
      expected: Refusal(.malformed, at: 77952, "expected zeros before 'blocks.0.attention.key.weight'"), inData: true,
      data: { $0[77952] = 1 }),
  ]
}

extension [UInt8] {
  /// Replaces the first occurrence, which has as many bytes; each scalar stands for one.
  mutating func replace(_ old: String, with new: String) throws {
    let (old, new) = (old.unicodeScalars.map { UInt8($0.value) }, new.unicodeScalars.map { UInt8($0.value) })
    guard old.count == new.count, let range = firstRange(of: old) else { throw NoSuchThing(name: "\(old)") }
    replaceSubrange(range, with: new)
  }
}

@Suite struct DamageTests {
  @Test("Refuses", arguments: Damage.all)
  func refuses(_ damage: Damage) throws {
    let directory = try TemporaryDirectory()
    var graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    try graph.write(to: directory.path)
    try damage.graph(&graph)
    var model = graph.packed(dataName: ONNXNames.data)[0].bytes
    try damage.model(&model)
    var data = [UInt8](try #require(FileManager.default.contents(atPath: directory / ONNXNames.data)))
    try damage.data(&data)
    try directory.write(model, to: ONNXNames.model)
    try directory.write(data, to: ONNXNames.data)
    var expected = damage.expected
    expected.file = directory / (damage.inData ? ONNXNames.data : ONNXNames.model)
    #expect(throws: expected) { try ONNXGraph(reading: directory.path) }
  }

  @Test("A data file that is a link")
  func links() throws {
    let directory = try TemporaryDirectory()
    try ONNXGraph(fixture: "tiny-2x32/lnfree").write(to: directory.path)
    let data = directory / ONNXNames.data
    try FileManager.default.linkItem(atPath: data, toPath: directory / "other")
    #expect(
      throws: Refusal(
        .malformed, file: data, "expected a file of one name, found 2 hard links",
        advice: "onnx refuses to load linked data")
    ) { try ONNXGraph(reading: directory.path) }
    try FileManager.default.removeItem(atPath: data)
    try FileManager.default.createSymbolicLink(atPath: data, withDestinationPath: "other")
    #expect(
      throws: Refusal(
        .malformed, file: data, "expected a file, found a symbolic link", advice: "onnx refuses to load linked data")
    ) { try ONNXGraph(reading: directory.path) }
  }

  @Test("A model that is too large to be one of ours")
  func tooLarge() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(
      [UInt8](repeating: 0, count: (32 << 20) + 1), to: ONNXNames.model)
    #expect(
      throws: Refusal(
        .malformed, file: path,
        "a model whose weights stand beside it has at most 33554432 bytes, found 33554433")
    ) { try ONNXGraph(reading: directory.path) }
  }

  /// Whatever bytes change, the file is read or refused, and what is read is computed or refused.
  @Test(
    "Mutated models are read or refused",
    arguments: [
      ONNXGraph.Form.cached, .plain(length: 8, readsEmbeddings: false),
      .plain(length: 8, readsEmbeddings: true),
    ])
  func mutations(_ form: ONNXGraph.Form) throws {
    let directory = try TemporaryDirectory()
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree", form: form)
    try graph.write(to: directory.path)
    let files = graph.packed(dataName: ONNXNames.data)
    var state: UInt64 = 7
    func random(below limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % limit
    }
    var (readCount, refusedCount) = (0, 0)
    for number in 0..<1500 {
      let file = files[number % files.count]
      for other in files where other.name != file.name {
        try directory.write(other.bytes, to: other.name)
      }
      var bytes = file.bytes
      for _ in 0...random(below: 3) {
        let place = random(below: bytes.count)
        switch random(below: 4) {
        case 0: bytes[place] ^= 1 << UInt8(random(below: 8))
        case 1: bytes[place] = UInt8(random(below: 256))
        case 2: bytes.removeSubrange(place..<min(place + random(below: 9), bytes.count))
        default:
          bytes.insert(
            contentsOf: bytes[place..<min(place + random(below: 40), bytes.count)], at: random(below: bytes.count))
        }
      }
      try directory.write(bytes, to: file.name)
      do throws(Refusal) {
        let read = try ONNXGraph(reading: directory.path)
        readCount += 1
        let evaluator = try ONNXEvaluator(read)
        if let length = read.form.length {
          // A length that was damaged may be too large to be run.
          if length < 64 { _ = try evaluator.logits(ofFirst: [3], of: length) }
        } else {
          _ = try evaluator.logits(tokens: [3, 1], steps: [1, 1], padding: 1)
        }
      } catch {
        refusedCount += 1
      }
    }
    #expect(refusedCount > 1000)
    #expect(readCount > 10)
  }
}
