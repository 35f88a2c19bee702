import Glibc
import NormFoldFormats
import NormFoldNetworks

extension ONNXLowering {
  /// Queries, keys and values [B, S, ·] or [B, S, heads, d] → [B, S, H·d].
  mutating func attend(
    query: String, key: String, value: String, by attention: Attention, at path: Path
  ) -> String {
    let prefix = path.description
    let (headCount, keyValueHeadCount) = (attention.headCount, attention.keyValueHeadCount)
    let width = network.width(of: path)
    let dHead = width / headCount

    /// → [B, heads, S, d]
    func split(_ x: String, into count: Int, _ lowering: inout ONNXLowering, as name: String) -> String {
      let parts =
        lowering.headCounts[x] == count
        ? x
        : lowering.add(
          "Reshape", x, lowering.constant(lowering.tokens + [count, dHead], "heads"),
          as: name + ".parts")
      return lowering.add(
        "Transpose", parts, as: name + ".heads", attributes: ["perm": .integers([0, 2, 1, 3])])
    }
    var keys = split(key, into: keyValueHeadCount, &self, as: prefix + ".key")
    let isCached = attention.mask.isCausal && !form.isPlain
    if isCached { keys = cached(keys, "key", path, heads: keyValueHeadCount, dHead: dHead) }
    // [B, G, K, d]
    var values = split(value, into: keyValueHeadCount, &self, as: prefix + ".value")
    if isCached { values = cached(values, "value", path, heads: keyValueHeadCount, dHead: dHead) }
    var queries = split(query, into: headCount, &self, as: prefix + ".query")
    if attention.scale != 1 {
      // On the queries, which are never more than the scores.
      queries = add("Mul", queries, constant(attention.scale, "\(prefix).scale"), as: prefix + ".query.scaled")
    }
    let transposed = add(
      "Transpose", keys, as: prefix + ".keys.transposed", attributes: ["perm": .integers([0, 1, 3, 2])])
    // Queries that share keys stand below each other meanwhile: [B, G, H/G·S, d].
    func grouped(
      _ x: String, by count: Int, _ columns: Int, _ lowering: inout ONNXLowering, as name: String
    ) -> String {
      guard keyValueHeadCount != headCount else { return x }
      let shape =
        lowering.form.length.map { [1, count, headCount / count * $0, columns] } ?? [
          0, count, -1, 0,
        ]
      return lowering.add("Reshape", x, lowering.constant(shape, "groups"), as: name)
    }
    // Of the plain form, which has as many keys as queries.
    let keyCount = form.length ?? 0
    queries = grouped(queries, by: keyValueHeadCount, dHead, &self, as: prefix + ".query.groups")
    let products = add("MatMul", queries, transposed, as: prefix + ".scores")  // [B, H, S, K]
    var scores = grouped(products, by: headCount, keyCount, &self, as: prefix + ".scores.heads")
    if let cap = attention.softCap {
      scores = capped(scores, at: cap, as: prefix + ".scores.capped")
    }
    let shares: String
    switch attention.weighting {
    case .softmax where form.isPlain:
      shares = add(
        "Softmax", masked(scores, by: attention.mask, at: prefix), as: prefix + ".weights",
        attributes: ["axis": .integer(-1)])
    case .softmax:
      // No part of an image is padding.
      let masked =
        network.image != nil
        ? scores
        : add(
          "Where", visible(attention.mask), scores, constant(type.lowestFinite, "mask.value"), as: prefix + ".masked")
      shares = add("Softmax", masked, as: prefix + ".weights", attributes: ["axis": .integer(-1)])
    case .decaying(let factors) where form.isPlain:
      shares = add("Mul", scores, fixedDecays(factors, attention.mask), as: prefix + ".weights")
    case .decaying(let factors):
      let decayed = add("Mul", scores, decays(factors), as: prefix + ".decayed")
      shares = add(
        "Where", visible(attention.mask), decayed, constant(0.0, "mask.zero"), as: prefix + ".weights")
    }
    let weights = grouped(
      shares, by: keyValueHeadCount, keyCount, &self, as: prefix + ".weights.groups")
    let mixtures = add("MatMul", weights, values, as: prefix + ".mixtures")  // [B, H, S, d]
    let mixed = grouped(mixtures, by: headCount, dHead, &self, as: prefix + ".mixtures.heads")
    let joined = add(
      "Transpose", mixed, as: prefix + ".parts", attributes: ["perm": .integers([0, 2, 1, 3])])
    return add("Reshape", joined, constant(tokens + [width], "joined"), as: prefix)
  }

  /// Rotates the first features of every head by the positions of its tokens: [B, S, H, d].
  mutating func rotated(
    _ x: String, by rotary: Rotary, headCount: Int, dHead: Int, at name: String
  ) -> String {
    let half = rotary.width / 2
    let heads = form.isPlain ? tokens + [headCount] : [0, 0, 0]
    let (cosines, sines) = angles(of: rotary)
    let axis = constant([3], "axis.3")
    let end = constant([2 * half], "rotary.end")
    let (first, second): (String, String)  // [B, S, H, r/2]
    if rotary.pairsNeighbours {
      let turned = add("Slice", x, constant([0], "start"), end, axis, as: name + ".turned")
      let pairs = add(
        "Reshape", turned, constant(heads + [half, 2], "rotary.pairs"), as: name + ".pairs")
      let row = constant(heads + [half], "rotary.row")
      func side(_ start: Int, _ lowering: inout ONNXLowering, as name: String) -> String {
        let column = lowering.add(
          "Slice", pairs, lowering.constant([start], "side"), lowering.constant([start + 1], "side"),
          lowering.constant([4], "axis.4"), as: name + ".column")
        return lowering.add("Reshape", column, row, as: name)
      }
      first = side(0, &self, as: name + ".first")
      second = side(1, &self, as: name + ".second")
    } else {
      let middle = constant([half], "rotary.middle")
      first = add("Slice", x, constant([0], "start"), middle, axis, as: name + ".first")
      second = add("Slice", x, middle, end, axis, as: name + ".second")
    }
    let real = add(
      "Sub", add("Mul", first, cosines, as: name + ".1"), add("Mul", second, sines, as: name + ".2"), as: name + ".3")
    let imaginary = add(
      "Add", add("Mul", second, cosines, as: name + ".4"), add("Mul", first, sines, as: name + ".5"), as: name + ".6")
    let join: [String: ONNXGraph.Attribute] = ["axis": .integer(3)]
    var parts = [real, imaginary]
    if rotary.pairsNeighbours {
      let column = constant(heads + [half, 1], "rotary.column")
      let columns = parts.map { add("Reshape", $0, column, as: $0 + ".column") }
      let pairs = add(
        "Concat", columns[0], columns[1], as: name + ".joined", attributes: ["axis": .integer(4)])
      let shape = constant(heads + [2 * half], "rotary.flat")
      guard rotary.width < dHead else { return add("Reshape", pairs, shape, as: name) }
      parts = [add("Reshape", pairs, shape, as: name + ".flat")]
    }
    if rotary.width < dHead {
      // [B, S, H, d − r]
      parts.append(add("Slice", x, end, constant([dHead], "head.end"), axis, as: name + ".rest"))
    }
    return parts.count == 2
      ? add("Concat", parts[0], parts[1], as: name, attributes: join)
      : add("Concat", parts[0], parts[1], parts[2], as: name, attributes: join)
  }

  /// γⁿ for a key n tokens before the query: [H, S, K]. Single precision whatever the type, as for angles.
  private mutating func decays(_ factors: [Double]) -> String {
    if let known = decays[factors] { return known }
    let (queries, keys) = indices()
    let single: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxFloatCode)]
    let distances = add(
      "Cast", add("Sub", queries, keys, as: "decay.steps"), as: "decay.distances", attributes: single)  // [S, K]
    let perHead = shared(
      .init(name: "decay.factors", type: .f32, shape: [factors.count, 1, 1], content: .numbers(factors)))
    var result = add("Pow", perHead, distances, as: "decay.powers")
    if type == .f16 {
      // Of keys behind the query, which nothing sees, they may be infinite.
      let narrow: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxHalfCode)]
      result = add("Cast", result, as: "decay.f16", attributes: narrow)
    }
    decays[factors] = result
    return result
  }

  /// Angles are single precision whatever the type: position 2,049 is no F16 number.
  private mutating func angles(of rotary: Rotary) -> (cosines: String, sines: String) {
    if let known = rotations[rotary] { return known }
    let frequencies = rotary.frequencies
    if let length = form.length {
      // [S, 1, r/2]
      let angles = (0..<length).flatMap { position in frequencies.map { Double(position) * $0 } }
      func table(_ function: (Double) -> Double, _ name: String, _ lowering: inout ONNXLowering)
        -> String
      {
        lowering.shared(
          .init(
            name: name, type: lowering.type, shape: [length, 1, frequencies.count],
            content: .numbers(angles.map { function($0) * rotary.magnitude })))
      }
      let result = (
        cosines: table(cos, "rotary.cos", &self), sines: table(sin, "rotary.sin", &self)
      )
      rotations[rotary] = result
      return result
    }
    let perPair = shared(
      .init(name: "rotary.frequencies", type: .f32, shape: [frequencies.count], content: .numbers(frequencies)))
    let single: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxFloatCode)]
    let positions = add("Cast", "position_ids", as: "rotary.positions", attributes: single)  // [B, S]
    let column = add("Unsqueeze", positions, constant([2, 3], "axes.2.3"), as: "rotary.column")  // [B, S, 1, 1]
    let angles = add("Mul", column, perPair, as: "rotary.angles")  // [B, S, 1, r/2]
    func table(_ operation: String, _ lowering: inout ONNXLowering) -> String {
      let name = "rotary.\(operation.lowercased())"
      var values = lowering.add(operation, angles, as: name)
      if rotary.magnitude != 1 {
        values = lowering.add(
          "Mul", values, lowering.single(rotary.magnitude, "rotary.magnitude"), as: name + ".scaled")
      }
      guard lowering.type == .f16 else { return values }
      let narrow: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxHalfCode)]
      return lowering.add("Cast", values, as: name + ".f16", attributes: narrow)
    }
    let result = (cosines: table("Cos", &self), sines: table("Sin", &self))
    rotations[rotary] = result
    return result
  }

  /// Appends new keys or values to those of earlier tokens: [B, G, S, d] → [B, G, K, d].
  private mutating func cached(_ x: String, _ kind: String, _ path: Path, heads count: Int, dHead: Int) -> String {
    let block = path.block ?? 0
    let past = "past_key_values.\(block).\(kind)"
    let present = "present.\(block).\(kind)"
    let (heads, width) = (ONNXGraph.Dimension.fixed(count), ONNXGraph.Dimension.fixed(dHead))
    graph.inputs.append(.init(name: past, type: type, shape: [Self.batch, heads, Self.pastTokens, width]))
    graph.outputs.append(.init(name: present, type: type, shape: [Self.batch, heads, Self.allTokens, width]))
    append("Concat", [past, x], [present], ["axis": .integer(2)])
    return present
  }

  /// The keys that each query sees, of those that the caller did not mask: those not behind it under a causal mask, the
  /// nearest of these under a window, and all of them under a bidirectional mask. The newest query stands at the last
  /// key, so padding on the left moves both alike.
  private mutating func visible(_ mask: Attention.Mask) -> String {
    if let known = visibleKeys[mask] { return known }
    let result: String  // [B, 1, S or 1, K]
    switch mask {
    case .causal: result = add("And", causal(), wantedKeys(), as: "mask.visible")
    case .window(let width): result = add("And", visible(.causal), near(width), as: "mask.window.\(width)")
    case .bidirectional: result = wantedKeys()
    }
    visibleKeys[mask] = result
    return result
  }

  /// The keys that are less than so many tokens before each query, or behind it: [S, K].
  private mutating func near(_ width: Int) -> String {
    let (queries, keys) = indices()
    let first = add("Sub", queries, constant(width - 1, "mask.reach.\(width)"), as: "mask.first.\(width)")
    return add("LessOrEqual", first, keys, as: "mask.near.\(width)")
  }

  /// c · tanh(x / c), as a product where the usual form divides.
  mutating func capped(_ x: String, at cap: Double, as name: String) -> String {
    let inner = add("Mul", x, constant(1 / cap, name + ".inverse"), as: name + ".1")
    return add(
      "Mul", hyperbolicTangent(inner, as: name + ".2"), constant(cap, name + ".cap"), as: name)
  }

  /// The keys that the caller did not mask: [B, 1, 1, K].
  private mutating func wantedKeys() -> String {
    let toBoolean: [String: ONNXGraph.Attribute] = ["to": .integer(ElementType.onnxBooleanCode)]
    let wanted = add("Cast", "attention_mask", as: "mask.wanted", attributes: toBoolean)
    return add("Unsqueeze", wanted, constant([1, 2], "axes.1.2"), as: "mask.wanted_keys")
  }

  /// The keys that are not behind each query: [S, K].
  private mutating func causal() -> String {
    let (queries, keys) = indices()
    return add("LessOrEqual", keys, queries, as: "mask.causal")
  }

  /// The numbers of the queries [S, 1] and those of the keys [K], past tokens counted.
  private mutating func indices() -> (queries: String, keys: String) {
    if let tokenIndices { return tokenIndices }
    let (zero, one) = (constant(0, "index.0"), constant(1, "index.1"))
    let keyCount = add("Gather", add("Shape", "attention_mask", as: "mask.shape"), one, as: "mask.key_count")
    let queryCount = add("Gather", add("Shape", "input_ids", as: "mask.token_shape"), one, as: "mask.query_count")
    let pastCount = add("Sub", keyCount, queryCount, as: "mask.past_count")
    let keys = add("Range", zero, keyCount, one, as: "mask.keys")  // [K]
    let queries = add("Range", pastCount, keyCount, one, as: "mask.queries")
    let column = add("Unsqueeze", queries, constant([1], "axis.1"), as: "mask.query_column")
    tokenIndices = (column, keys)
    return (column, keys)
  }
}

extension ONNXLowering {
  /// The score in the plain form of a key that a query may not see. Exact arithmetic gives such a key the share e⁻²⁵⁶
  /// of one with score 0, which is none in single precision. The score is not lower because CrypTen computes the
  /// exponential as (1 + x/256)²⁵⁶, which grows again below −512.
  package static let hiddenScore = -256.0

  /// Scores of hidden keys become ``hiddenScore`` whatever they were: products with 1 and 0, and a sum. [B, H, S, S]
  private mutating func masked(_ scores: String, by mask: Attention.Mask, at prefix: String)
    -> String
  {
    let sees = visibility(mask)
    let shape = [form.length ?? 0, form.length ?? 0]
    let kept = shared(
      .init(name: "mask.kept", type: type, shape: shape, content: .numbers(sees.map { $0 ? 1 : 0 }))
    )
    let added = shared(
      .init(
        name: "mask.added", type: type, shape: shape,
        content: .numbers(sees.map { $0 ? 0 : Self.hiddenScore })))
    return add("Add", add("Mul", scores, kept, as: prefix + ".kept"), added, as: prefix + ".masked")
  }

  /// γⁿ for a key n tokens before the query, 0 for one that it does not see: [H, S, S].
  private mutating func fixedDecays(_ factors: [Double], _ mask: Attention.Mask) -> String {
    let length = form.length ?? 0
    let sees = visibility(mask)
    let values = factors.flatMap { factor in
      sees.indices.map { sees[$0] ? pow(factor, Double($0 / length - $0 % length)) : 0 }
    }
    return shared(
      .init(
        name: "decay.shares", type: type, shape: [factors.count, length, length],
        content: .numbers(values)))
  }

  /// Returns whether each query sees each key: [S, S], row by row.
  private func visibility(_ mask: Attention.Mask) -> [Bool] {
    let length = form.length ?? 0
    return (0..<length).flatMap { query in
      (0..<length).map { key in
        switch mask {
        case .bidirectional: true
        case .causal: key <= query
        case .window(let width): key <= query && query - key < width
        }
      }
    }
  }
}

extension ElementType {
  /// The number that stands for minus infinity in a mask: finite, so that a row with nothing to see does not become NaN.
  package var lowestFinite: Double {
    switch self {
    case .f16: -Double(Float16.greatestFiniteMagnitude)
    default: -Double(Float.greatestFiniteMagnitude)
    }
  }
}
