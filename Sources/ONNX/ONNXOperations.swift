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
  package private(set) var graph = ONNXGraph()

  private let network: Network
  private let type: ElementType
  private let endOfText: Int?
  /// What the maps of the network are called: in GPT-2's words, where it has them.
  private var mapNames: [LinearMap: String] = [:]
  private var externalNames: [Parameter: String] = [:]
  private var usedNames: Set<String> = []
  /// [B, 1, S, K]: which keys a query may see. Computed once, for all blocks.
  private var visibleKeys: String?
  /// [B, 1, S, d/2] each: by how much new tokens are turned. Computed once for all blocks that turn alike.
  private var turns: [Rotary: (cosines: String, sines: String)] = [:]

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

  private static let batch = ONNXGraph.Dimension.named("batch_size")
  private static let newTokens = ONNXGraph.Dimension.named("sequence_length")
  private static let pastTokens = ONNXGraph.Dimension.named("past_sequence_length")
  private static let allTokens = ONNXGraph.Dimension.named("past_sequence_length + sequence_length")
  private static let logits = "logits"

  // MARK: Operations

  package mutating func embed(tokens: Parameter, positions: Parameter?) -> Activations {
    let rows = add("Gather", external(tokens, "wte.weight"), "input_ids", as: "wte")  // [B, S] → [B, S, D]
    guard let positions else { return rows }
    let offsets = add("Gather", external(positions, "wpe.weight"), "position_ids", as: "wpe")
    return add("Add", rows, offsets, as: "embedding")
  }

  package mutating func normalise(_ x: Activations, by norm: Norm) throws(Refusal) -> Activations {
    let gain = norm.gain
    if case .computed(let epsilon) = norm.deviation {
      return switch norm.kind {
      case .layer: layerNorm(x, norm, epsilon)
      case .rms: rootMeanSquareNorm(x, norm, epsilon)
      case .crms: compressedNorm(x, norm, epsilon)
      }
    }
    let centred: String
    switch norm.kind {
    case .rms, .crms: centred = x
    case .layer: centred = add("Sub", x, mean(of: x, as: norm.name + ".mean"), as: norm.name + ".centred")
    }
    let scaled: String
    switch norm.deviation {
    case .computed: preconditionFailure("written above")
    case .fixed(let deviation):
      // A vector, so that the product is all that is left of the division.
      scaled = add(
        "Mul", centred, external(gain.divided(by: deviation), norm.name + ".weight"), as: norm.name + ".scaled")
    case .perPosition(let deviations):
      let chosen = add(
        "Gather", external(deviations, norm.name + ".deviation"), "position_ids", as: norm.name + ".deviation.chosen")
      let column = add("Unsqueeze", chosen, constant([2], "axis.2"), as: norm.name + ".deviation.column")  // [B, S, 1]
      let divided = add("Div", centred, column, as: norm.name + ".divided")
      scaled = add("Mul", divided, external(gain, norm.name + ".weight"), as: norm.name + ".scaled")
    case .perToken(let usual, let endOfTextDeviation):
      guard let endOfText else {
        throw Refusal(
          .unsupported, subject: norm.name,
          "has another deviation for the end-of-text token, and no such token is known",
          advice: "say which it is in config.json: eos_token_id")
      }
      let isEnd = add("Equal", "input_ids", constant(endOfText, "end_of_text"), as: norm.name + ".is_end")
      let column = add("Unsqueeze", isEnd, constant([2], "axis.2"), as: norm.name + ".is_end.column")  // [B, S, 1]
      let factors = add(
        "Where", column, external(gain.divided(by: endOfTextDeviation), norm.name + ".weight.end_of_text"),
        external(gain.divided(by: usual), norm.name + ".weight"), as: norm.name + ".weight.chosen")  // [B, S, D]
      scaled = add("Mul", centred, factors, as: norm.name + ".scaled")
    }
    return shifted(scaled, by: norm)
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

  package mutating func attend(
    query: Activations, key: Activations, value: Activations, block: Int, headCount: Int, keyValueHeadCount: Int,
    rotary: Rotary?, scale: Double
  ) -> Activations {
    let prefix = "h.\(block).attn"
    let dHead = network.dimensions.dHead
    let width = headCount * dHead

    /// [B, S, D] → [B, H, S, d]
    func split(_ x: String, into count: Int, _ operations: inout ONNXOperations, as name: String) -> String {
      let parts = operations.add("Reshape", x, operations.constant([0, 0, count, dHead], "heads"), as: name + ".parts")
      return operations.add("Transpose", parts, as: name + ".heads", attributes: ["perm": .integers([0, 2, 1, 3])])
    }
    var newKeys = split(key, into: keyValueHeadCount, &self, as: prefix + ".key")
    if let rotary { newKeys = self.turned(newKeys, by: rotary, as: prefix + ".key.turned") }
    let keys = cached(newKeys, "key", block: block)  // [B, G, K, d]
    let values = cached(split(value, into: keyValueHeadCount, &self, as: prefix + ".value"), "value", block: block)
    var queries = split(query, into: headCount, &self, as: prefix + ".query")
    if let rotary { queries = self.turned(queries, by: rotary, as: prefix + ".query.turned") }
    if scale != 1 {
      // On the queries, which are never more than the scores.
      queries = add("Mul", queries, constant(scale, "\(prefix).scale"), as: prefix + ".query.scaled")
    }
    let turned = add("Transpose", keys, as: prefix + ".keys.turned", attributes: ["perm": .integers([0, 1, 3, 2])])
    // Queries that ask the same keys stand below each other meanwhile: [B, G, H/G·S, d].
    func grouped(_ x: String, by count: Int, _ operations: inout ONNXOperations, as name: String) -> String {
      guard keyValueHeadCount != headCount else { return x }
      return operations.add("Reshape", x, operations.constant([0, count, -1, 0], "groups"), as: name)
    }
    queries = grouped(queries, by: keyValueHeadCount, &self, as: prefix + ".query.groups")
    let products = add("MatMul", queries, turned, as: prefix + ".scores")  // [B, H, S, K]
    let scores = grouped(products, by: headCount, &self, as: prefix + ".scores.heads")
    let masked = add("Where", visible(), scores, constant(type.lowestFinite, "mask.value"), as: prefix + ".masked")
    let softmax = add("Softmax", masked, as: prefix + ".weights", attributes: ["axis": .integer(-1)])
    let weights = grouped(softmax, by: keyValueHeadCount, &self, as: prefix + ".weights.groups")
    let mixtures = add("MatMul", weights, values, as: prefix + ".mixed")  // [B, H, S, d]
    let mixed = grouped(mixtures, by: headCount, &self, as: prefix + ".mixed.heads")
    let joined = add("Transpose", mixed, as: prefix + ".mixed.parts", attributes: ["perm": .integers([0, 2, 1, 3])])
    return add("Reshape", joined, constant([0, 0, width], "joined"), as: prefix + ".joined")
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

// MARK: Parts of operations

extension ONNXOperations {
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

  /// Every head turned by the positions of its tokens: [B, H, S, d].
  private mutating func turned(_ x: String, by rotary: Rotary, as name: String) -> String {
    let half = network.dimensions.dHead / 2
    let (cosines, sines) = turns(of: rotary)
    let axis = constant([3], "axis.3")
    let middle = constant([half], "half_head")
    let first = add("Slice", x, constant([0], "start"), middle, axis, as: name + ".first")  // [B, H, S, d/2]
    let second = add("Slice", x, middle, constant([2 * half], "end"), axis, as: name + ".second")
    let real = add(
      "Sub", add("Mul", first, cosines, as: name + ".1"), add("Mul", second, sines, as: name + ".2"), as: name + ".3")
    let imaginary = add(
      "Add", add("Mul", second, cosines, as: name + ".4"), add("Mul", first, sines, as: name + ".5"), as: name + ".6")
    return add("Concat", real, imaginary, as: name, attributes: ["axis": .integer(3)])
  }

  /// Angles are single precision whatever the type: position 2,049 is no F16 number.
  private mutating func turns(of rotary: Rotary) -> (cosines: String, sines: String) {
    if let known = turns[rotary] { return known }
    let frequencies = rotary.frequencies(dHead: network.dimensions.dHead)
    let perPair = shared(
      .init(name: "rotary.frequencies", type: .f32, shape: [frequencies.count], content: .numbers(frequencies)))
    let single: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxFloatCode)]
    let positions = add("Cast", "position_ids", as: "rotary.positions", attributes: single)  // [B, S]
    let column = add("Unsqueeze", positions, constant([1, 3], "axes.1.3"), as: "rotary.column")  // [B, 1, S, 1]
    let angles = add("Mul", column, perPair, as: "rotary.angles")
    func table(_ operation: String, _ operations: inout ONNXOperations) -> String {
      let name = "rotary.\(operation.lowercased())"
      let values = operations.add(operation, angles, as: name)
      guard operations.type == .f16 else { return values }
      let narrow: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxHalfCode)]
      return operations.add("Cast", values, as: name + ".f16", attributes: narrow)
    }
    let result = (cosines: table("Cos", &self), sines: table("Sin", &self))
    turns[rotary] = result
    return result
  }

  /// Past and new keys or values: [B, G, S, d] → [B, G, K, d].
  private mutating func cached(_ x: String, _ kind: String, block: Int) -> String {
    let past = "past_key_values.\(block).\(kind)"
    let present = "present.\(block).\(kind)"
    let (heads, width) = (
      ONNXGraph.Dimension.fixed(network.dimensions.keyValueHeadCount),
      ONNXGraph.Dimension.fixed(network.dimensions.dHead)
    )
    graph.inputs.append(.init(name: past, type: type, shape: [Self.batch, heads, Self.pastTokens, width]))
    graph.outputs.append(.init(name: present, type: type, shape: [Self.batch, heads, Self.allTokens, width]))
    append("Concat", [past, x], [present], ["axis": .integer(2)])
    return present
  }

  /// Which keys each query sees: those not behind it that the caller did not mask. The newest query stands at the last
  /// key, so padding on the left moves both alike.
  private mutating func visible() -> String {
    if let visibleKeys { return visibleKeys }
    let (zero, one) = (constant(0, "index.0"), constant(1, "index.1"))
    let keyCount = add("Gather", add("Shape", "attention_mask", as: "mask.shape"), one, as: "mask.key_count")
    let queryCount = add("Gather", add("Shape", "input_ids", as: "mask.token_shape"), one, as: "mask.query_count")
    let pastCount = add("Sub", keyCount, queryCount, as: "mask.past_count")
    let keys = add("Range", zero, keyCount, one, as: "mask.keys")  // [K]
    let queries = add("Range", pastCount, keyCount, one, as: "mask.queries")
    let column = add("Unsqueeze", queries, constant([1], "axis.1"), as: "mask.query_column")  // [S, 1]
    let causal = add("LessOrEqual", keys, column, as: "mask.causal")  // [S, K]
    let toBoolean: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxBooleanCode)]
    let wanted = add("Cast", "attention_mask", as: "mask.wanted", attributes: toBoolean)
    let spread = add("Unsqueeze", wanted, constant([1, 2], "axes.1.2"), as: "mask.wanted_keys")  // [B, 1, 1, K]
    let result = add("And", causal, spread, as: "mask.visible")  // [B, 1, S, K]
    visibleKeys = result
    return result
  }

  private mutating func layerNorm(_ x: String, _ norm: Norm, _ epsilon: Double) -> String {
    var inputs = [x, external(norm.gain, norm.name + ".weight")]
    if let bias = norm.bias { inputs.append(external(bias, norm.name + ".bias")) }
    let output = unused(norm.name)
    append("LayerNormalization", inputs, [output], ["axis": .integer(-1), "epsilon": .number(Float(epsilon))])
    return output
  }

  /// x / √(mean of squares + ε) ⊙ γ: the operator set has no RMSNormalization yet, and onnxruntime computes these nodes in
  /// one pass, a gain of ones included.
  private mutating func rootMeanSquareNorm(_ x: String, _ norm: Norm, _ epsilon: Double) -> String {
    let wide = widened(x, norm)
    let squares = add("Pow", wide, single(2, "two"), as: norm.name + ".squares")
    let padded = add(
      "Add", mean(of: squares, as: norm.name + ".mean_square"), single(epsilon, norm.name + ".epsilon"),
      as: norm.name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: norm.name + ".deviation"), as: norm.name + ".divided")
    let scaled = add(
      "Mul", narrowed(divided, norm), external(norm.gain, norm.name + ".weight"), as: norm.name + ".scaled")
    return shifted(scaled, by: norm)
  }

  /// z / √((Σz² + (Σz)²) / d + ε) ⊙ γ for z [d − 1].
  private mutating func compressedNorm(_ z: String, _ norm: Norm, _ epsilon: Double) -> String {
    let wide = widened(z, norm)
    let sum = reduced("ReduceSum", wide, as: norm.name + ".sum")
    let squares = add(
      "Add", reduced("ReduceSumSquare", wide, as: norm.name + ".sum_square"),
      add("Mul", sum, sum, as: norm.name + ".last_square"), as: norm.name + ".squares")
    let share = single(1 / Double(network.dimensions.dModel + 1), "width.reciprocal")
    let padded = add(
      "Add", add("Mul", squares, share, as: norm.name + ".mean_square"), single(epsilon, norm.name + ".epsilon"),
      as: norm.name + ".variance")
    let divided = add("Div", wide, add("Sqrt", padded, as: norm.name + ".deviation"), as: norm.name + ".divided")
    let narrow = narrowed(divided, norm)
    guard norm.gain.constantValue != 1 else { return shifted(narrow, by: norm) }
    return shifted(
      add("Mul", narrow, external(norm.gain, norm.name + ".weight"), as: norm.name + ".scaled"), by: norm)
  }

  /// Squares of what F16 can hold are more than it can hold: norms are computed in F32.
  private mutating func widened(_ x: String, _ norm: Norm) -> String {
    type == .f32 ? x : cast(x, to: .f32, as: norm.name + ".wide")
  }

  private mutating func narrowed(_ x: String, _ norm: Norm) -> String {
    type == .f32 ? x : cast(x, to: type, as: norm.name + ".narrow")
  }

  private mutating func cast(_ x: String, to type: ElementType, as name: String) -> String {
    add("Cast", x, as: name, attributes: ["to": .integer(Int(type.onnxCode ?? 0))])
  }

  private mutating func shifted(_ x: String, by norm: Norm) -> String {
    guard let bias = norm.bias else { return x }
    return add("Add", x, external(bias, norm.name + ".bias"), as: norm.name)
  }

  /// Over the features: [B, S, D] → [B, S, 1].
  private mutating func mean(of x: String, as name: String) -> String { reduced("ReduceMean", x, as: name) }

  private mutating func reduced(_ operation: String, _ x: String, as name: String) -> String {
    add(operation, x, constant([-1], "axis.last"), as: name, attributes: ["keepdims": .integer(1)])
  }
}

// MARK: Nodes and constants

extension ONNXOperations {
  /// Appends a node with one output.
  private mutating func add(
    _ operation: String, _ inputs: String..., as name: String, attributes: [String: ONNXGraph.Attribute] = [:]
  ) -> String {
    let output = unused(name)
    append(operation, inputs, [output], attributes)
    return output
  }

  private mutating func append(
    _ operation: String, _ inputs: [String], _ outputs: [String], _ attributes: [String: ONNXGraph.Attribute] = [:]
  ) {
    graph.nodes.append(
      .init(
        name: "\(operation).\(graph.nodes.count)", operation: operation, inputs: inputs, outputs: outputs,
        attributes: attributes))
  }

  /// `name`, or the first of `name.1`, `name.2` … that is free.
  private mutating func unused(_ name: String) -> String {
    var candidate = name
    var count = 0
    while !usedNames.insert(candidate).inserted {
      count += 1
      candidate = "\(name).\(count)"
    }
    return candidate
  }

  /// A weight, stored once however often it is read.
  private mutating func external(_ value: Parameter, _ name: String) -> String {
    if let known = externalNames[value] { return known }
    let name = unused(name)
    externalNames[value] = name
    graph.initializers.append(.init(name: name, type: type, shape: value.shape, content: .external(value)))
    return name
  }

  private mutating func constant(_ value: Double, _ name: String) -> String {
    shared(.init(name: name, type: type, shape: [], content: .numbers([value])))
  }

  /// In F32 whatever the type of the graph.
  private mutating func single(_ value: Double, _ name: String) -> String {
    shared(.init(name: name, type: .f32, shape: [], content: .numbers([value])))
  }

  private mutating func constant(_ value: Int, _ name: String) -> String {
    shared(.init(name: name, type: .i64, shape: [], content: .integers([value])))
  }

  private mutating func constant(_ values: [Int], _ name: String) -> String {
    shared(.init(name: name, type: .i64, shape: [values.count], content: .integers(values)))
  }

  /// Constants are few: one of equal content serves all.
  private mutating func shared(_ wanted: ONNXGraph.Initializer) -> String {
    if let known = graph.initializers.first(where: {
      $0.content == wanted.content && $0.shape == wanted.shape && $0.type == wanted.type
    }) {
      return known.name
    }
    var initializer = wanted
    initializer.name = unused(wanted.name)
    graph.initializers.append(initializer)
    return initializer.name
  }
}

extension ElementType {
  /// What stands for minus infinity in a mask: finite, so that a row with nothing to see does not become NaN.
  package var lowestFinite: Double {
    switch self {
    case .f16: -Double(Float16.greatestFiniteMagnitude)
    default: -Double(Float.greatestFiniteMagnitude)
    }
  }
}

extension String {
  fileprivate func replacingLast(_ suffix: String, with replacement: String) -> String {
    (hasSuffix(suffix) ? String(dropLast(suffix.count)) : self) + replacement
  }
}
