import Formats
import Networks

extension ONNXOperations {
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
