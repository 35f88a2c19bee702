import Formats
import Networks

/// Writes the forward pass down as an ONNX graph: each operation appends the nodes that compute it.
///
/// One graph serves the prompt and every token after it: the keys and values of earlier tokens come in as
/// `past_key_values.*` and leave, with those of the new tokens appended, as `present.*`. Names of inputs, outputs and
/// dynamic axes are those that Optimum, onnxruntime-genai and transformers.js look for.
///
/// Legend: B batch, S new tokens, P past tokens, K = P + S, D dModel, H heads, G heads of keys and values, d width of a
/// head, V vocabulary.
package struct ONNXOperations: ForwardOperations {
  /// Names of values of the graph.
  package typealias Activations = String
  package typealias Logits = String

  /// The finished part of the graph.
  package internal(set) var graph = ONNXGraph()

  let network: Network
  let type: ElementType
  let endOfText: Int?
  /// What the maps of the network are called: in GPT-2's words, where it has them.
  private var mapNames: [LinearMap: String] = [:]
  var externalNames: [Parameter: String] = [:]
  var usedNames: Set<String> = []
  /// [B, 1, S, K]: which keys a query may see. Computed once, for all blocks.
  var visibleKeys: String?
  /// [B, 1, S, d/2] each: by how much new tokens are turned. Computed once for all blocks that turn alike.
  var turns: [Rotary: (cosines: String, sines: String)] = [:]

  /// - Parameters:
  ///   - type: of weights, activations and the cache: `.f32` or `.f16`.
  ///   - endOfText: the token for which some norms have a deviation of its own.
  package init(network: Network, type: ElementType, endOfText: Int?) {
    precondition([.f32, .f16].contains(type))
    self.network = network
    self.type = type
    self.endOfText = endOfText
    for block in network.blocks.indices {
      mapNames[network[.query(block: block)]] = "h.\(block).attn.query"
      mapNames[network[.key(block: block)]] = "h.\(block).attn.key"
      mapNames[network[.value(block: block)]] = "h.\(block).attn.value"
      mapNames[network[.attentionOutput(block: block)]] = "h.\(block).attn.c_proj"
      mapNames[network[.mlpInput(block: block)]] = "h.\(block).mlp.c_fc"
      if let gate = network.blocks[block].mlp.gate { mapNames[gate] = "h.\(block).mlp.gate" }
      mapNames[network[.mlpOutput(block: block)]] = "h.\(block).mlp.c_proj"
    }
    graph.inputs = [
      .init(name: "input_ids", type: .i64, shape: [Self.batch, Self.newTokens]),
      .init(name: "attention_mask", type: .i64, shape: [Self.batch, Self.allTokens]),
      .init(name: "position_ids", type: .i64, shape: [Self.batch, Self.newTokens]),
    ]
    usedNames = ["input_ids", "attention_mask", "position_ids", Self.logits]
  }

  static let batch = ONNXGraph.Dimension.named("batch_size")
  static let newTokens = ONNXGraph.Dimension.named("sequence_length")
  static let pastTokens = ONNXGraph.Dimension.named("past_sequence_length")
  static let allTokens = ONNXGraph.Dimension.named("past_sequence_length + sequence_length")
  private static let logits = "logits"

  // MARK: Operations

  package mutating func embed(tokens: Parameter, positions: Parameter?) -> Activations {
    let rows = add("Gather", external(tokens, "wte.weight"), "input_ids", as: "wte")  // [B, S] → [B, S, D]
    guard let positions else { return rows }
    let offsets = add("Gather", external(positions, "wpe.weight"), "position_ids", as: "wpe")
    return add("Add", rows, offsets, as: "embedding")
  }

  /// Queries, keys and values stay three products: one fused product, split afterwards, was no faster in onnxruntime,
  /// with one token or with 128.
  package mutating func apply(_ map: LinearMap, to x: Activations) -> Activations {
    let name = mapNames[map] ?? "linear"
    let weight = external(map.weight, name + ".weight")
    guard let bias = map.bias else { return add("MatMul", x, weight, as: name + ".linear") }
    let product = add("MatMul", x, weight, as: name + ".product")  // [B, S, in] → [B, S, out]
    return add("Add", product, external(bias, name + ".bias"), as: name + ".linear")
  }

  package mutating func activate(_ x: Activations, by activation: Activation) -> Activations {
    let prefix = x.replacingLast(".linear", with: ".activation")
    switch activation {
    case .geluTanh:
      // ½x(1 + tanh(√(2/π)·x·(1 + 0.044715x²))), in the order in which onnxruntime recognises it and computes it in
      // one pass; Gelu itself is newer than our operator set.
      let cubic = constant(0.044715, "gelu.cubic")
      let inner = constant((2 / Double.pi).squareRoot(), "gelu.inner")
      let one = constant(1.0, "one")
      let square = add("Mul", add("Mul", x, cubic, as: prefix + ".1"), x, as: prefix + ".2")
      let factor = add("Add", square, one, as: prefix + ".3")
      let argument = add("Mul", add("Mul", x, inner, as: prefix + ".4"), factor, as: prefix + ".5")
      let gate = add("Add", add("Tanh", argument, as: prefix + ".6"), one, as: prefix + ".7")
      return add("Mul", add("Mul", x, constant(0.5, "half"), as: prefix + ".8"), gate, as: prefix)
    case .geluErf:
      // ½x(1 + erf(x·√½)): a product, where the usual form divides by √2.
      let inner = add("Mul", x, constant(0.5.squareRoot(), "gelu.root_half"), as: prefix + ".1")
      let gate = add("Add", add("Erf", inner, as: prefix + ".2"), constant(1.0, "one"), as: prefix + ".3")
      return add("Mul", add("Mul", x, constant(0.5, "half"), as: prefix + ".4"), gate, as: prefix)
    case .relu: return add("Relu", x, as: prefix)
    case .leakyReLU(let slope):
      return add("LeakyRelu", x, as: prefix, attributes: ["alpha": .number(Float(slope))])
    case .silu: return add("Mul", x, add("Sigmoid", x, as: prefix + ".1"), as: prefix)
    }
  }

  package mutating func add(_ a: Activations, _ b: Activations) -> Activations {
    add("Add", a, b, as: b.replacingLast(".linear", with: ".residual"))
  }

  package mutating func multiply(_ a: Activations, _ b: Activations) -> Activations {
    add("Mul", a, b, as: b.replacingLast(".linear", with: ".gated"))
  }

  package mutating func scale(_ x: Activations, by factor: Double) -> Activations {
    add("Mul", x, constant(factor, "scale"), as: x.replacingLast(".linear", with: "") + ".scaled")
  }

  package mutating func unembed(_ x: Activations, by map: LinearMap) -> String {
    let output = Self.logits
    graph.outputs.insert(
      .init(
        name: output, type: type, shape: [Self.batch, Self.newTokens, .fixed(network.dimensions.vocabularySize)]),
      at: 0)
    if let embedding = externalNames[map.weight.transposed()] {
      unembedTied(x, to: embedding, bias: map.bias, output: output)
    } else {
      let weight = external(map.weight, "lm_head.weight")
      if let bias = map.bias {
        let product = add("MatMul", x, weight, as: "lm_head.product")
        append("Add", [product, external(bias, "lm_head.bias")], [output])
      } else {
        append("MatMul", [x, weight], [output])
      }
    }
    return output
  }

  /// The token embedding as the unembedding, not stored twice and, unlike a Transpose that onnxruntime would compute
  /// once and keep, not held in memory twice: Gemm reads its second matrix across. It takes matrices only.
  private mutating func unembedTied(_ x: String, to embedding: String, bias: Parameter?, output: String) {
    let width = network.dimensions.dModel
    let rows = add("Reshape", x, constant([-1, width], "lm_head.rows"), as: "lm_head.input")  // [B·S, D]
    var inputs = [rows, embedding]
    if let bias { inputs.append(external(bias, "lm_head.bias")) }
    let product = unused("lm_head.product")
    append("Gemm", inputs, [product], ["transB": .integer(1)])
    let tokens = add("Shape", "input_ids", as: "lm_head.tokens")
    let shape = add(
      "Concat", tokens, constant([network.dimensions.vocabularySize], "vocabulary"), as: "lm_head.shape",
      attributes: ["axis": .integer(0)])
    append("Reshape", [product, shape], [output])
  }
}

extension ONNXGraph {
  /// The whole network as a graph.
  ///
  /// - Throws: `.unsupported` for a type that onnxruntime does not compute in on CPUs, which bfloat16 is, and for a norm
  ///   that depends on a token that nobody named; `.nonFinite` for a number of a formula that the type cannot hold.
  package init(of network: Network, type: ElementType, endOfText: Int?) throws(Refusal) {
    guard type == .f32 || type == .f16 else {
      throw Refusal(
        .unsupported, "onnxruntime does not compute in \(type.displayName) on CPUs", advice: "choose F32 or F16")
    }
    var operations = ONNXOperations(network: network, type: type, endOfText: endOfText)
    _ = try network.forward(with: &operations)
    self = operations.graph
    for initializer in initializers {
      guard initializer.type == .f16, case .numbers(let values) = initializer.content else { continue }
      for value in values where !Float16(value).isFinite {
        throw Refusal(
          .nonFinite, subject: initializer.name, "\(value) is larger than F16 can hold", advice: "choose F32")
      }
    }
  }
}

extension String {
  fileprivate func replacingLast(_ suffix: String, with replacement: String) -> String {
    (hasSuffix(suffix) ? String(dropLast(suffix.count)) : self) + replacement
  }
}
