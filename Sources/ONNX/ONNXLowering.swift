import NormFoldFormats
import NormFoldNetworks

/// Writes the forward pass down as an ONNX graph: each operation appends the nodes that compute it.
///
/// One graph serves the prompt and every token after it: the keys and values of earlier tokens come in as
/// `past_key_values.*` and leave, with those of the new tokens appended, as `present.*`. Names of inputs, outputs and
/// dynamic axes are those that Optimum, onnxruntime-genai and transformers.js look for; weights and values are called by
/// the paths of the network.
///
/// The plain form (``ONNXGraph/Form/plain(length:readsEmbeddings:)``) has neither cache nor inputs for masks and positions: what
/// depends on these alone is a constant. It uses few operators, which compilers for private inference know: CrypTen has no Tanh.
///
/// Legend: B batch, S new tokens, P past tokens, K = P + S, D dModel, H heads, G heads of keys and values, d width of a
/// head, r rotated features of a head, V vocabulary.
package struct ONNXLowering: Backend {
  /// Names of values of the graph: [B, S, features].
  package typealias Activations = String

  /// The finished part of the graph.
  package internal(set) var graph: ONNXGraph

  let form: ONNXGraph.Form
  let network: Network
  let type: ElementType
  let endOfText: Int?
  var externalNames: [Parameter: String] = [:]
  var usedNames: Set<String> = []
  /// [B, 1, S, K]: which keys a query may see. Computed once, for all blocks.
  var visibleKeys: [Attention.Mask: String] = [:]
  /// [S, 1] and [K]: the numbers of queries and keys.
  var tokenIndices: (queries: String, keys: String)?
  /// [H, S, K]: what retention multiplies products by. Computed once for all whose heads decay alike.
  var decays: [[Double]: String] = [:]
  /// [B, S, 1, r/2] each: the cosines and sines of the angles of new tokens. Computed once for all rotations that are alike.
  var rotations: [Rotary: (cosines: String, sines: String)] = [:]
  /// [S] or [B, S]: the numbers of the positions, where no input has them.
  private var positions: String?
  /// The values that are [B, S, H, d], by the number of their heads.
  var headCounts: [String: Int] = [:]

  /// - Parameters:
  ///   - type: of weights, activations and the cache: `.f32` or `.f16`.
  ///   - endOfText: the token for which some norms have a deviation of its own.
  package init(network: Network, type: ElementType, endOfText: Int?, form: ONNXGraph.Form = .cached) {
    precondition([.f32, .f16].contains(type))
    precondition(!form.isPlain || network.isCausal && form.length == network.contextLength)
    self.form = form
    graph = ONNXGraph(form: form)
    self.network = network
    self.type = type
    self.endOfText = endOfText
    func input(_ name: String, _ tokens: ONNXGraph.Dimension = Self.newTokens) -> ONNXGraph.Value {
      .init(name: name, type: .i64, shape: [Self.batch, tokens])
    }
    if let length = form.length {
      graph.inputs = [.init(name: "input_ids", type: .i64, shape: [.fixed(1), .fixed(length)])]
    } else if let image = network.image {
      graph.inputs = [
        .init(
          name: "pixel_values", type: .f32,
          shape: [Self.batch, .fixed(image.channels), .fixed(image.height), .fixed(image.width)])
      ]
    } else if network.isCausal {
      graph.inputs = [input("input_ids"), input("attention_mask", Self.allTokens), input("position_ids")]
    } else {
      // Positions are counted in the graph.
      graph.inputs = [input("input_ids"), input("attention_mask")]
      if network.tokenTypeEmbedding != nil { graph.inputs.append(input("token_type_ids")) }
      if let width = network.wordFeatureCount {
        // Rows that sum to one, which give each word the mean of its tokens; and numbers of each word.
        graph.inputs += [
          .init(name: "word_pooling", type: type, shape: [Self.batch, Self.words, Self.newTokens]),
          .init(name: "word_features", type: type, shape: [Self.batch, Self.words, .fixed(width)]),
        ]
      }
    }
    usedNames = Set(
      graph.inputs.map(\.name) + network.task.outputNames + [ONNXGraph.embeddingsName])
  }

  static let batch = ONNXGraph.Dimension.named("batch_size")
  static let newTokens = ONNXGraph.Dimension.named("sequence_length")
  static let words = ONNXGraph.Dimension.named("word_count")
  static let pastTokens = ONNXGraph.Dimension.named("past_sequence_length")
  static let allTokens = ONNXGraph.Dimension.named("past_sequence_length + sequence_length")
  private static let logits = ONNXGraph.logits

  // MARK: Operations

  package mutating func evaluate(_ node: Network.Node, _ operands: [String]) throws(Refusal) -> String {
    let name = node.path.description
    let value = try compute(node, operands, name)
    return node.path == network.output ? giveAway(value) : value
  }

  private mutating func compute(
    _ node: Network.Node, _ operands: [String], _ name: String
  ) throws(Refusal) -> String {
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
      let result = rotated(
        heads(operands[0], headCount, at: node.path), by: rotary, headCount: headCount,
        dHead: dHead, at: name)
      headCounts[result] = headCount
      return result
    default: return try evaluate(node, flat: operands.map { flat($0) })
    }
  }

  /// Computes an operation of values whose heads stand side by side.
  private mutating func evaluate(_ node: Network.Node, flat values: [String]) throws(Refusal) -> String {
    let name = node.path.description
    switch node.operation {
    case .embed(let table, let index) where index == .first || index == .others:
      // A row for some of the tokens, zeros for the others: [1, D] · [S, 1].
      let isFirst = index == .first
      let rows = (0..<network.contextLength).map { ($0 == 0) == isFirst ? 1.0 : 0 }
      let column = shared(
        .init(
          name: isFirst ? "tokens.first" : "tokens.others", type: type, shape: [rows.count, 1], content: .numbers(rows))
      )
      return add("Mul", external(table, name + ".weight"), column, as: name)
    case .patches(let image): return patches(of: image, at: name)
    case .features: return "word_features"
    case .select(.word): return add("MatMul", "word_pooling", values[0], as: name)  // [B, words, D]
    // Positions count from 0: what is added to every sequence is the table itself.
    case .embed(let table, .position) where form.isPlain: return external(table, name + ".weight")
    case .embed(let table, .token) where form.readsEmbeddings:
      append(
        "Gather", [external(table, name + ".weight"), "input_ids"], [ONNXGraph.embeddingsName])
      return ONNXGraph.embeddingsName
    case .embed(let table, let index):
      return add("Gather", external(table, name + ".weight"), ids(of: index), as: name)
    case .norm(let norm): return try normalise(values[0], by: norm, at: name)
    case .linear(let map):
      return node.path == network.unembeddingPath && network.task.outputNames == [Self.logits]
        ? unembed(values[0], by: map, at: name) : apply(map, to: values[0], at: name)
    case .rotate, .attend: preconditionFailure("written above")
    case .activate(let activation): return activate(values[0], by: activation, at: name)
    case .scale(let factor): return add("Mul", values[0], constant(factor, "scale"), as: name)
    case .scaleFeatures(let vector): return add("Mul", values[0], external(vector, name + ".scale"), as: name)
    case .add: return add("Add", values[0], values[1], as: name)
    case .multiply: return add("Mul", values[0], values[1], as: name)
    case .select(.first):
      return add("Gather", values[0], constant(0, "index.0"), as: name, attributes: ["axis": .integer(1)])  // [B, D]
    }
  }

  /// [B, C, H, W] → [B, S, C · height · width of a patch], zeros in front for the class token.
  private mutating func patches(of image: ImageGrid, at name: String) -> String {
    var pixels = "pixel_values"
    if type == .f16 {
      pixels = add("Cast", pixels, as: name + ".f16", attributes: ["to": .integer(ElementType.onnxHalfCode)])
    }
    let cut = constant(
      [0, image.channels, image.rows, image.patchHeight, image.columns, image.patchWidth], "image.grid")
    let grid = add("Reshape", pixels, cut, as: name + ".grid")
    let turned = add(
      "Transpose", grid, as: name + ".turned", attributes: ["perm": .integers([0, 2, 4, 1, 3, 5])])
    let rows = add("Reshape", turned, constant([0, image.count, image.patchLength], "image.rows"), as: name + ".rows")
    return add("Pad", rows, constant([0, 1, 0, 0, 0, 0], "image.padding"), as: name)
  }

  /// The value with an axis for its heads: [B, S, H·d] → [B, S, H, d].
  private mutating func heads(_ x: String, _ count: Int, at path: Path) -> String {
    if headCounts[x] == count { return x }
    let x = flat(x)
    let dHead = network.width(of: path) / count
    return add("Reshape", x, constant(tokens + [count, dHead], "heads"), as: "\(path).heads")
  }

  /// The first two extents of a shape: batch and tokens, 0 for what the caller chooses.
  var tokens: [Int] { form.length.map { [1, $0] } ?? [0, 0] }

  /// The name of the value that selects the rows of a table: an input, or the numbers of the positions, which a graph
  /// without a cache counts.
  private mutating func ids(of index: Operation.Index) -> String {
    switch index {
    case .token: return "input_ids"
    case .tokenType: return "token_type_ids"
    case .first, .others: preconditionFailure("written above")
    case .position where network.image != nil:
      return constant(Array(0..<network.contextLength), "positions")
    case .position:
      guard !network.isCausal else { return "position_ids" }
      if let positions { return positions }
      let count = add(
        "Gather", add("Shape", "input_ids", as: "positions.shape"), constant(1, "index.1"), as: "positions.count")
      let result = add("Range", constant(0, "index.0"), count, constant(1, "index.1"), as: "positions")  // [S]
      positions = result
      return result
    case .unpaddedPosition(let padding):
      if let positions { return positions }
      let (one, id) = (constant(1, "index.1"), constant(padding, "padding"))
      let isPadding = add("Equal", "input_ids", id, as: "positions.is_padding")
      let padded = add(
        "Cast", isPadding, as: "positions.padded", attributes: ["to": .integer(ElementType.onnxIntegerCode)])
      let counted = add("Sub", one, padded, as: "positions.counted")  // [B, S]
      let sums = add("CumSum", counted, one, as: "positions.sums")
      let result = add("Add", add("Mul", sums, counted, as: "positions.unpadded"), id, as: "positions")
      positions = result
      return result
    }
  }

  /// Names the outputs of a graph that gives something other than logits.
  private mutating func giveAway(_ x: String) -> String {
    let names = network.task.outputNames
    guard names != [Self.logits] else {
      if x != Self.logits { append("Identity", [x], names) }
      return Self.logits
    }
    if names.count == 1 {
      graph.outputs.append(
        .init(
          name: names[0], type: type,
          shape: [
            Self.batch, network.wordFeatureCount == nil ? Self.newTokens : Self.words, .fixed(network.outputWidth),
          ]))
      append("Identity", [x], names)
      return names[0]
    }
    // A column each: [B, S, 2] → [B, S].
    for (column, name) in names.enumerated() {
      graph.outputs.append(.init(name: name, type: type, shape: [Self.batch, Self.newTokens]))
      let part = add(
        "Slice", x, constant([column], "column.\(column)"), constant([column + 1], "column.\(column + 1)"),
        constant([2], "axis.2"), as: name + ".column")
      append("Reshape", [part, constant([0, 0], "rows.columns")], [name])
    }
    return x
  }

  /// The value with all heads side by side: [B, S, H, d] → [B, S, H·d].
  private mutating func flat(_ x: String) -> String {
    guard headCounts[x] != nil else { return x }
    return add("Reshape", x, constant(tokens + [-1], "flat"), as: x + ".flat")
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
    case .geluTanh where form.isPlain:
      // The same by ½(1 + tanh a) = 1 / (1 + exp(−2a)): x · sigmoid(2√(2/π)·x·(1 + 0.044715x²)).
      let cubic = constant(0.044715, "gelu.cubic")
      let inner = constant(2 * (2 / Double.pi).squareRoot(), "gelu.inner")
      let square = add("Mul", add("Mul", x, cubic, as: name + ".1"), x, as: name + ".2")
      let factor = add("Add", square, constant(1.0, "one"), as: name + ".3")
      let argument = add("Mul", add("Mul", x, inner, as: name + ".4"), factor, as: name + ".5")
      return add("Mul", x, add("Sigmoid", argument, as: name + ".6"), as: name)
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
    case .reluSquared where form.isPlain:
      return add("Mul", add("Relu", x, as: name + ".1"), x, as: name)
    case .reluSquared:
      let positive = add("Relu", x, as: name + ".1")
      return add("Mul", positive, positive, as: name)
    case .leakyReLU(let slope):
      return add("LeakyRelu", x, as: name, attributes: ["alpha": .number(Float(slope))])
    case .silu: return add("Mul", x, add("Sigmoid", x, as: name + ".1"), as: name)
    case .tanh: return hyperbolicTangent(x, as: name)
    case .softCap(let cap): return capped(x, at: cap, as: name)
    }
  }

  /// In the plain form 2 · sigmoid(2x) − 1, which is the same.
  mutating func hyperbolicTangent(_ x: String, as name: String) -> String {
    guard form.isPlain else { return add("Tanh", x, as: name) }
    let two = constant(2.0, "two")
    let share = add("Sigmoid", add("Mul", x, two, as: name + ".doubled"), as: name + ".share")
    return add("Sub", add("Mul", share, two, as: name + ".wide"), constant(1.0, "one"), as: name)
  }

  private mutating func unembed(_ x: String, by map: LinearMap, at name: String) -> String {
    // What caps the logits gives them their name.
    let output = network.logitCap == nil ? Self.logits : unused(name)
    let tokens = network.task.isPerSequence ? [] : [Self.newTokens]
    let sequence = form.length.map { [.fixed(1), .fixed($0)] } ?? [Self.batch] + tokens
    graph.outputs.insert(
      .init(name: Self.logits, type: type, shape: sequence + [.fixed(network.outputWidth)]), at: 0)
    if !form.isPlain, let embedding = externalNames[map.weight.transposed()] {
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
  /// - Throws: `.unsupported` for a type that onnxruntime does not compute in on CPUs, which bfloat16 is, for a norm that depends on
  ///   a token that nobody named, and for a network that the form has no place for; `.nonFinite` for a number of a formula that
  ///   the type cannot hold.
  package init(of network: Network, type: ElementType, endOfText: Int?, form: Form = .cached)
    throws(Refusal)
  {
    guard type == .f32 || type == .f16 else {
      throw Refusal(
        .unsupported, "onnxruntime does not compute in \(type.displayName) on CPUs", advice: "choose F32 or F16")
    }
    if form.isPlain { try network.requirePlainForm() }
    var lowering = ONNXLowering(network: network, type: type, endOfText: endOfText, form: form)
    _ = try network.evaluate(on: &lowering)
    self = lowering.graph
    if form.isPlain { try arrangeConstants() }
    for initializer in initializers {
      guard initializer.type == .f16, case .numbers(let values) = initializer.content else { continue }
      for value in values where !Float16(value).isFinite {
        throw Refusal(
          .nonFinite, subject: initializer.name, "\(value) is larger than F16 can hold", advice: "choose F32")
      }
    }
  }

  /// Puts weights before the numbers of formulas, which become nodes, and what looks the embeddings up before all.
  ///
  /// - Throws: `.unsupported` where masks and rotations are larger than a model file may be.
  private mutating func arrangeConstants() throws(Refusal) {
    let byteCount = initializers.reduce(0) { $0 + ($1.inlineBytes?.count ?? 0) }
    guard byteCount <= Self.maximumModelByteCount / 2 + Self.maximumModelByteCount / 4 else {
      throw Refusal(
        .unsupported,
        "the masks and rotations of \(form.length ?? 0) tokens take \(byteCount) bytes of the model file",
        advice: "choose fewer tokens with \(.onnxLength)")
    }
    let lookup = nodes.first { $0.operation == "Gather" }?.inputs.first
    func rank(_ initializer: Initializer) -> Int {
      guard case .external = initializer.content else { return 2 }
      return initializer.name == lookup ? 0 : 1
    }
    initializers = (0...2).flatMap { wanted in initializers.filter { rank($0) == wanted } }
  }
}

extension Network {
  /// - Throws: `.unsupported` for a network that the plain form has no place for.
  fileprivate func requirePlainForm() throws(Refusal) {
    guard task == .generation, isCausal, image == nil else {
      throw Refusal(
        .unsupported, "the plain form is for networks that generate text",
        advice: "choose \(.onnxForm, "cached")")
    }
    for (path, norm) in norms {
      guard case .perToken = norm.deviation else { continue }
      throw Refusal(
        .unsupported, subject: norm.name.isEmpty ? path.description : norm.name,
        "has another deviation for the end-of-text token, and the plain form cannot tell tokens apart",
        advice: "choose \(.onnxForm, "cached"), or \(.assumesEndOfTextDisabled)")
    }
  }
}
