import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import Testing
import TestSupport

struct GraphCase: CustomTestStringConvertible, Sendable {
  let model: String
  let reference: String
  let prefix: String
  var isFolded = true
  var testDescription: String { model + (isFolded ? "" : ", norms kept") }

  static let all: [GraphCase] =
    ["shakespeare-4x128", "tiny-2x32"].flatMap { family in
      let reference = "\(family)/reference/reference.safetensors"
      return ["lnfree", "lnfree-bf16"].flatMap { folder in
        [true, false].map {
          GraphCase(model: "\(family)/\(folder)", reference: reference, prefix: folder + ".", isFolded: $0)
        }
      } + [GraphCase(model: "\(family)/vanilla", reference: reference, prefix: "vanilla.", isFolded: false)]
    } + [
      GraphCase(
        model: "found/capp-gpt", reference: "found/capp-gpt/reference.safetensors", prefix: "", isFolded: false)
    ]
}

@Suite struct EvaluationTests {
  /// Recipes, not rounded weights: all that may differ is the order of sums, and the literal epsilon of the published
  /// form, which the reference computes with.
  @Test("The graph computes what the defining program computes", arguments: GraphCase.all)
  func reference(_ graphCase: GraphCase) throws {
    let graph = try ONNXGraph(fixture: graphCase.model, isFolded: graphCase.isFolded)
    let reference = try RecordedLogits(graphCase.reference, prefix: graphCase.prefix)
    var evaluator = try ONNXEvaluator(graph)
    evaluator.product = blasProduct
    // One long sequence is enough: they differ in their tokens only.
    let count = reference.sequences[0].count > 100 ? 1 : reference.sequences.count
    for (index, tokens) in reference.sequences.prefix(count).enumerated() {
      let logits = reference.select(try evaluator.logits(tokens: tokens))
      #expect(relativeDifference(logits, reference.logits(ofSequence: index)) <= 1e-9)
    }
  }

  @Test("So does the plain graph, of ids and of embeddings", arguments: GraphCase.all)
  func plain(_ graphCase: GraphCase) throws {
    let reference = try RecordedLogits(graphCase.reference, prefix: graphCase.prefix)
    let tokens = reference.sequences[0]
    for readsEmbeddings in [false, true] {
      let form = ONNXGraph.Form.plain(length: tokens.count, readsEmbeddings: readsEmbeddings)
      var evaluator = try ONNXEvaluator(
        try ONNXGraph(fixture: graphCase.model, isFolded: graphCase.isFolded, form: form))
      evaluator.product = blasProduct
      let logits = reference.select(try evaluator.logits(ofFirst: tokens, of: tokens.count))
      #expect(relativeDifference(logits, reference.logits(ofSequence: 0)) <= 1e-9)
    }
  }

  @Test(
    "Token by token through the cache is the same as all at once, padded or not", arguments: [0, 5])
  func cache(padding: Int) throws {
    let reference = try RecordedLogits("tiny-2x32/reference/reference.safetensors", prefix: "lnfree.")
    let evaluator = try ONNXEvaluator(try ONNXGraph(fixture: "tiny-2x32/lnfree"))
    let tokens = Array(reference.sequences[1].prefix(40))
    let whole = try evaluator.logits(tokens: tokens)
    let single = [Int](repeating: 1, count: tokens.count)
    #expect(relativeDifference(try evaluator.logits(tokens: tokens, padding: padding), whole) <= 1e-13)
    #expect(relativeDifference(try evaluator.logits(tokens: tokens, steps: single, padding: padding), whole) <= 1e-13)
    let pieces = [30, 1, 3, 6]
    #expect(relativeDifference(try evaluator.logits(tokens: tokens, steps: pieces, padding: padding), whole) <= 1e-13)
  }

  @Test(
    "Every activation",
    arguments: [Activation.geluTanh, .geluErf, .relu, .leakyReLU(negativeSlope: 0.25), .silu])
  func activation(_ activation: Activation) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    network.setActivations(activation)
    try expectAgreement(network)
  }

  @Test("An RMS norm, computed and fixed", arguments: ["vanilla", "lnfree"])
  func rootMeanSquare(_ folder: String) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/" + folder)).network
    for (path, _) in network.norms { network[norm: path]?.kind = .rms }
    try expectAgreement(network)
  }

  @Test("A compressed RMS norm, with a gain and without", arguments: [nil, 1.0])
  func compressed(_ gain: Double?) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    network.changeNorms { _, norm in
      norm.kind = .crms
      if let gain { norm.gain = .constant(gain, shape: [32]) }
    }
    try expectAgreement(network)
  }

  @Test("The two paths of an attention in different states, with and without biases")
  func partial() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let fixed = Parameter.constant(1.5, shape: [network.streamWidth])
    network.splitValueNorm(ofBlock: 0)
    network[norm: "blocks.0.attention.norm"]?.deviation = .fixed(fixed)
    network[norm: network.splitValueNorm(ofBlock: 1)] = nil
    network[linear: "blocks.0.attention.key"]?.bias = nil
    network[linear: "blocks.1.mlp.output"]?.bias = nil
    network.changeAttentions { if $0.block == 1 { $1.scale = 1 } }
    network[norm: "final.norm"]?.bias = nil
    network.remove("embedding")
    try expectAgreement(network)
  }

  @Test("Rotary positions, grouped heads, a gate, scaled norms and branches", arguments: [1, 2])
  func llama(groups: Int) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    network.remove("embedding")
    network.groupKeysAndValues(by: groups)
    network.rotateHeads(Rotary(base: 100, width: 16))
    network.setActivations(.silu)
    network.addGates()
    for block in 0..<network.blockCount {
      network[linear: "blocks.\(block).attention.key"]?.bias = nil
      network.multiply("blocks.\(block).attention.output", by: 0.5)
      network.multiply("blocks.\(block).mlp.norm", by: 0.75)
    }
    try expectAgreement(network)
  }

  @Test("A tied unembedding with a bias, and one of its own")
  func unembedding() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let embedding = try #require(network.tokenEmbedding)
    network[linear: "unembedding"]?.bias = embedding.transposed().sliced(axis: 0, 3..<4).asVector
    #expect(network.isTied)
    try expectAgreement(network)
    let graph = try ONNXGraph(of: network, type: .f32, endOfText: nil)
    #expect(graph.operatorCounts["Gemm"] == 1)
    #expect(!graph.initializers.contains { $0.name == "unembedding.weight" })
    network[linear: "unembedding"]?.weight = embedding.transposed().multiplied(by: 2)
    try expectAgreement(network)
  }

  @Test("A deviation that depends on the position or on the token")
  func dependent() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let (width, context) = (network.streamWidth, network.contextLength)
    let first = Parameter.concatenating([.constant(5e5, shape: [1]), .constant(1e6, shape: [context - 1])], axis: 0)
    network[norm: "blocks.0.mlp.norm"]?.deviation = .perPosition(first)
    let path = network.splitValueNorm(ofBlock: 1)
    network[norm: path]?.deviation = .perToken(
      usual: .constant(1e6, shape: [width]), endOfText: .constant(7e5, shape: [width]))
    let tokens = [5, 0, 17, 301, 0, 4]
    let expected = try network.forwardWithDependentNorms(tokens: tokens, endOfText: 0)
    let graph = try ONNXGraph(of: network, type: .f32, endOfText: 0)
    let logits = try ONNXEvaluator(graph).logits(tokens: tokens, steps: [2, 3, 1])
    #expect(relativeDifference(logits, expected) <= 1e-12)
    let form = ONNXGraph.Form.plain(length: context, readsEmbeddings: false)
    let error = #expect(throws: Refusal.self) {
      try ONNXGraph(of: network, type: .f32, endOfText: 0, form: form)
    }
    #expect(error?.category == .unsupported && error?.subject == "transformer.h.1.ln_1")
    var other = network
    other[norm: path]?.deviation = .fixed(.constant(1e6, shape: [width]))
    let usual = try other.forwardWithDependentNorms(tokens: tokens, endOfText: 0)
    let plain = try ONNXGraph(of: other, type: .f32, endOfText: nil, form: form)
    #expect(
      relativeDifference(try ONNXEvaluator(plain).logits(ofFirst: tokens, of: context), usual)
        <= 1e-12)
    #expect(
      throws: Refusal(
        .unsupported, subject: "transformer.h.1.ln_1",
        "has another deviation for the end-of-text token, and no such token is known",
        advice: "say which it is in config.json: eos_token_id")
    ) { try ONNXGraph(of: network, type: .f32, endOfText: nil) }
  }

  private func expectAgreement(_ network: Network, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let tokens = [5, 0, 17, 301, 22, 480, 511, 9, 1, 0, 77]
    let graph = try ONNXGraph(of: network, type: .f32, endOfText: 0)
    let expected = try network.logits(tokens: tokens)
    let evaluator = try ONNXEvaluator(graph)
    let whole = try evaluator.logits(tokens: tokens)
    let stepped = try evaluator.logits(tokens: tokens, steps: [4, 1, 6])
    #expect(relativeDifference(whole, expected) <= 1e-10, sourceLocation: sourceLocation)
    #expect(relativeDifference(stepped, expected) <= 1e-10, sourceLocation: sourceLocation)
    // The plain form, longer than the text.
    let short = network.shortened(to: tokens.count + 3)
    let form = ONNXGraph.Form.plain(length: short.contextLength, readsEmbeddings: false)
    let plain = try ONNXGraph(of: short, type: .f32, endOfText: 0, form: form)
    let logits = try ONNXEvaluator(plain).logits(ofFirst: tokens, of: short.contextLength)
    #expect(relativeDifference(logits, expected) <= 1e-10, sourceLocation: sourceLocation)
    // It is understood where the other form is.
    let isRaised = graph.raised(like: network, endOfText: 0) != nil
    #expect((plain.raised(like: short, endOfText: 0) != nil) == isRaised, sourceLocation: sourceLocation)
  }
}

extension Parameter {
  /// A matrix of one row as a vector.
  fileprivate var asVector: Parameter { Parameter.constant(1, shape: [1]).projected(through: self) }
}

extension Network {
  fileprivate func forwardWithDependentNorms(tokens: [Int], endOfText: Int) throws -> [Double] {
    var operations = DependentNorms(inner: PlainBackend(tokens: tokens), endOfText: endOfText)
    return try evaluate(on: &operations).flatMap { $0 }
  }
}

/// The plain reference, with the norms that it leaves out.
private struct DependentNorms: Backend {
  var inner: PlainBackend
  let endOfText: Int

  mutating func evaluate(_ node: Network.Node, _ operands: [[[Double]]]) throws(Refusal) -> [[Double]] {
    guard case .norm(let norm) = node.operation else { return try inner.evaluate(node, operands) }
    var rows: [[Double]] = []
    for (position, row) in operands[0].enumerated() {
      var norm = norm
      switch norm.deviation {
      case .perPosition(let all):
        norm.deviation = .fixed(.constant(ParameterReader(all).values()[position], shape: [row.count]))
      case .perToken(let usual, let end):
        norm.deviation = .fixed(inner.probe.tokens[position] == endOfText ? end : usual)
      default: break
      }
      rows += try inner.normalise([row], by: norm)
    }
    return rows
  }
}
