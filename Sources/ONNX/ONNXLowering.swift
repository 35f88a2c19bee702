import Formats
import Networks

/// Writes the forward pass down as an ONNX graph: each operation appends the nodes that compute it.
///
/// One graph serves the prompt and every token after it: the keys and values of earlier tokens come in as
/// `past_key_values.*` and leave, with those of the new tokens appended, as `present.*`. Names of inputs, outputs and
/// dynamic axes are those that Optimum, onnxruntime-genai and transformers.js look for; weights and values are called by
/// the paths of the network.
///
/// Legend: B batch, S new tokens, P past tokens, K = P + S, D dModel, H heads, G heads of keys and values, d width of a
/// head, r rotated features of a head, V vocabulary.
package struct ONNXLowering: Backend {
  /// Names of values of the graph: [B, S, features].
  package typealias Activations = String

  /// The finished part of the graph.
  package internal(set) var graph = ONNXGraph()

  let network: Network
  let type: ElementType
  let endOfText: Int?
  var externalNames: [Parameter: String] = [:]
  var usedNames: Set<String> = []
  /// [B, 1, S, K]: which keys a query may see. Computed once, for all blocks.
  var visibleKeys: String?
  /// [B, S, 1, r/2] each: the cosines and sines of the angles of new tokens. Computed once for all rotations that are alike.
  var rotations: [Rotary: (cosines: String, sines: String)] = [:]
  /// The values that are [B, S, H, d], by the number of their heads.
  var headCounts: [String: Int] = [:]

  /// - Parameters:
  ///   - type: of weights, activations and the cache: `.f32` or `.f16`.
  ///   - endOfText: the token for which some norms have a deviation of its own.
  package init(network: Network, type: ElementType, endOfText: Int?) {
    precondition([.f32, .f16].contains(type))
    self.network = network
    self.type = type
    self.endOfText = endOfText
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
  private static let logits = ONNXGraph.logits

  // MARK: Operations

  package mutating func evaluate(_ node: Network.Node, _ operands: [String]) throws(Refusal) -> String {
    let name = node.path.description
    if case .attend(let attention) = node.operation {
      return attend(query: operands[0], key: operands[1], value: operands[2], by: attention, at: node.path)
    }
    switch node.operation {
    case .norm(let norm) where norm.headCount > 1:
      let result = try normalise(
        heads(operands[0], norm.headCount, at: node.path), by: norm, at: name)  // [B, S, H, d]
      headCounts[result] = norm.headCount
      return result
    case .rotate(let rotary, let headCount):
      let dHead = network.width(of: node.path) / headCount
      let result = rotated(heads(operands[0], headCount, at: node.path), by: rotary, dHead: dHead, at: name)
      headCounts[result] = headCount
      return result
    default: return try evaluate(node, flat: operands.map { flat($0) })
    }
  }

  /// Computes an operation of values whose heads stand side by side.
  private mutating func evaluate(_ node: Network.Node, flat values: [String]) throws(Refusal) -> String {
    let name = node.path.description
    switch node.operation {
    case .embed(let table, let index):
      return add(
        "Gather", external(table, name + ".weight"), index == .token ? "input_ids" : "position_ids", as: name)
    case .norm(let norm): return try normalise(values[0], by: norm, at: name)
    case .linear(let map):
      return node.path == network.output ? unembed(values[0], by: map, at: name) : apply(map, to: values[0], at: name)
    case .rotate, .attend: preconditionFailure("written above")
    case .activate(let activation): return activate(values[0], by: activation, at: name)
    case .scale(let factor): return add("Mul", values[0], constant(factor, "scale"), as: name)
    case .add: return add("Add", values[0], values[1], as: name)
    case .multiply: return add("Mul", values[0], values[1], as: name)
    }
  }

  /// The value with an axis for its heads: [B, S, H·d] → [B, S, H, d].
  private mutating func heads(_ x: String, _ count: Int, at path: Path) -> String {
    if headCounts[x] == count { return x }
    let x = flat(x)
    let dHead = network.width(of: path) / count
    return add("Reshape", x, constant([0, 0, count, dHead], "heads"), as: "\(path).heads")
  }

  /// The value with all heads side by side: [B, S, H, d] → [B, S, H·d].
  private mutating func flat(_ x: String) -> String {
    guard headCounts[x] != nil else { return x }
    return add("Reshape", x, constant([0, 0, -1], "flat"), as: x + ".flat")
  }

  /// Queries, keys and values stay three products: one fused product, split afterwards, was no faster in onnxruntime,
  /// with one token or with 128.
  private mutating func apply(_ map: LinearMap, to x: String, at name: String) -> String {
    let weight = external(map.weight, name + ".weight")
    guard let bias = map.bias else { return add("MatMul", x, weight, as: name) }
    let product = add("MatMul", x, weight, as: name + ".product")  // [B, S, in] → [B, S, out]
    return add("Add", product, external(bias, name + ".bias"), as: name)
  }

  private mutating func activate(_ x: String, by activation: Activation, at name: String) -> String {
    switch activation {
    case .geluTanh:
      // ½x(1 + tanh(√(2/π)·x·(1 + 0.044715x²))), in the order in which onnxruntime recognises it and computes it in
      // one pass; Gelu itself is newer than our operator set.
      let cubic = constant(0.044715, "gelu.cubic")
      let inner = constant((2 / Double.pi).squareRoot(), "gelu.inner")
      let one = constant(1.0, "one")
      let square = add("Mul", add("Mul", x, cubic, as: name + ".1"), x, as: name + ".2")
      let factor = add("Add", square, one, as: name + ".3")
      let argument = add("Mul", add("Mul", x, inner, as: name + ".4"), factor, as: name + ".5")
      let gate = add("Add", add("Tanh", argument, as: name + ".6"), one, as: name + ".7")
      return add("Mul", add("Mul", x, constant(0.5, "half"), as: name + ".8"), gate, as: name)
    case .geluErf:
      // ½x(1 + erf(x·√½)): a product, where the usual form divides by √2.
      let inner = add("Mul", x, constant(0.5.squareRoot(), "gelu.root_half"), as: name + ".1")
      let gate = add("Add", add("Erf", inner, as: name + ".2"), constant(1.0, "one"), as: name + ".3")
      return add("Mul", add("Mul", x, constant(0.5, "half"), as: name + ".4"), gate, as: name)
    case .relu: return add("Relu", x, as: name)
    case .leakyReLU(let slope):
      return add("LeakyRelu", x, as: name, attributes: ["alpha": .number(Float(slope))])
    case .silu: return add("Mul", x, add("Sigmoid", x, as: name + ".1"), as: name)
    }
  }

  private mutating func unembed(_ x: String, by map: LinearMap, at name: String) -> String {
    let output = Self.logits
    graph.outputs.insert(
      .init(name: output, type: type, shape: [Self.batch, Self.newTokens, .fixed(network.vocabularySize)]), at: 0)
    if let embedding = externalNames[map.weight.transposed()] {
      unembedTied(x, to: embedding, bias: map.bias, at: name, output: output)
    } else {
      let weight = external(map.weight, name + ".weight")
      if let bias = map.bias {
        let product = add("MatMul", x, weight, as: name + ".product")
        append("Add", [product, external(bias, name + ".bias")], [output])
      } else {
        append("MatMul", [x, weight], [output])
      }
    }
    return output
  }

  /// The token embedding as the unembedding, not stored twice and, unlike a Transpose that onnxruntime would compute
  /// once and keep, not held in memory twice: Gemm reads its second matrix across. It takes matrices only.
  private mutating func unembedTied(
    _ x: String, to embedding: String, bias: Parameter?, at name: String, output: String
  ) {
    let width = network.streamWidth
    let rows = add("Reshape", x, constant([-1, width], "rows"), as: name + ".rows")  // [B·S, D]
    var inputs = [rows, embedding]
    if let bias { inputs.append(external(bias, name + ".bias")) }
    let product = unused(name + ".product")
    append("Gemm", inputs, [product], ["transB": .integer(1)])
    let tokens = add("Shape", "input_ids", as: name + ".tokens")
    let shape = add(
      "Concat", tokens, constant([network.vocabularySize], "vocabulary"), as: name + ".shape",
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
    var lowering = ONNXLowering(network: network, type: type, endOfText: endOfText)
    _ = try network.evaluate(on: &lowering)
    self = lowering.graph
    for initializer in initializers {
      guard initializer.type == .f16, case .numbers(let values) = initializer.content else { continue }
      for value in values where !Float16(value).isFinite {
        throw Refusal(
          .nonFinite, subject: initializer.name, "\(value) is larger than F16 can hold", advice: "choose F32")
      }
    }
  }
}
