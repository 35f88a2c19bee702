import NormFoldFormats

/// The parameters that the tensors of a home-made network are likely to hold, by the words of their names and by their
/// shapes.
struct DraftedRoles {
  typealias Template = TensorTemplates.Template

  /// A matrix with its bias, or a gain with its own: tensors whose names differ in their kind only.
  private struct Group {
    let words: [String]
    var matrix: Template?
    var gain: Template?
    var bias: Template?
    var first: Template
    /// The paths of the parameters that the group holds; none where nothing tells.
    var paths: [String] = []

    func has(_ words: String...) -> Bool { self.words.contains { words.contains($0) } }
    var isOfBlock: Bool { first.isOfBlock }
    var isPerHead: Bool { first.isPerHead }
  }

  private var groups: [Group] = []
  private let headCount: Int?
  /// The width of the residual stream, as far as the shapes say it.
  private let width: Int

  init(of templates: TensorTemplates) {
    headCount = templates.headCount
    var groups: [Group] = []
    for template in templates.templates {
      let index = groups.firstIndex { $0.words == template.words && $0.isOfBlock == template.isOfBlock }
      if index == nil { groups.append(Group(words: template.words, first: template)) }
      let place = index ?? groups.count - 1
      if template.shape.count != 1 {
        groups[place].matrix = template
      } else if template.isBias {
        groups[place].bias = template
      } else {
        groups[place].gain = template
      }
    }
    self.groups = groups
    let extents = groups.filter { $0.matrix == nil }.compactMap { $0.gain?.shape.first }
    let shared = groups.compactMap(\.matrix).filter { !$0.isOfBlock && $0.shape.count == 2 }.flatMap(\.shape)
    width = Self.mostFrequent(extents) ?? Self.mostFrequent(shared) ?? 0
    for index in groups.indices { self.groups[index].paths = paths(of: groups[index]) }
    assignMLPs()
    assignNorms()
  }

  private static func mostFrequent(_ values: [Int]) -> Int? {
    Dictionary(grouping: values) { $0 }.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }?.key
  }

  // MARK: Roles

  /// Returns the paths of what a matrix holds by its name; none for a matrix of an MLP that only its place tells.
  private func paths(of group: Group) -> [String] {
    guard let matrix = group.matrix, matrix.shape.count == 2 else { return [] }
    guard group.isOfBlock else {
      if group.has("pos", "position", "positions", "positional", "wpe", "pe", "posemb") {
        return ["embedding.positions"]
      }
      if group.has("head", "lmhead", "unembed", "unembedding", "logits", "readout", "out", "output", "lm") {
        return ["unembedding"]
      }
      let ofTokens = group.has(
        "tok", "token", "tokens", "wte", "word", "words", "emb", "embed", "embedding", "embeddings", "vocab", "table")
      return ofTokens ? ["embedding.tokens"] : []
    }
    let parts = ["query", "key", "value"].map { "blocks.#.attention.\($0)" }
    if group.has("kqv") { return [parts[1], parts[0], parts[2]] }
    let isFused = matrix.shape.contains(3 * width) && matrix.shape.contains(width)
    if group.has("qkv", "wqkv", "inproj") || isAttention(group) && isFused { return parts }
    if group.has("q", "query", "queries") { return [parts[0]] }
    if group.has("k", "key", "keys") { return [parts[1]] }
    if group.has("v", "value", "values") { return [parts[2]] }
    if isAttention(group) || group.has("o") { return ["blocks.#.attention.output"] }
    return group.has("gate") && !group.has("up") ? ["blocks.#.mlp.gate"] : []
  }

  private func isAttention(_ group: Group) -> Bool {
    group.has("attn", "att", "attention", "sa", "mha", "selfattn") && !group.has("mlp", "ff", "ffn", "ffwd")
  }

  /// The maps of an MLP: into the hidden layer and out of it. Shapes with a bias tell them apart, then words, then the order.
  private mutating func assignMLPs() {
    // Which half of a matrix of gate and input is the gate, nothing tells.
    let open = groups.indices.filter {
      groups[$0].isOfBlock && groups[$0].matrix?.shape.count == 2 && groups[$0].paths.isEmpty
        && !(groups[$0].has("gate") && groups[$0].has("up"))
    }
    func isOutput(_ group: Group) -> Bool? {
      if let bias = group.bias?.shape.first, let shape = group.matrix?.shape, shape[0] != shape[1] {
        return bias == width
      }
      if group.has("down", "out", "output", "proj", "2", "fc2", "w2", "contract") { return true }
      if group.has("up", "in", "input", "1", "fc1", "w1", "fc", "expand") { return false }
      return nil
    }
    let said = open.map { isOutput(groups[$0]) }
    if open.count == 1, said[0] == true { groups[open[0]].paths = ["blocks.#.mlp.output"] }
    guard open.count == 2 else { return }
    let isSecondOutput = said[1] ?? said[0].map { !$0 } ?? true
    guard said[0] != said[1] || said[0] == nil else { return }
    groups[open[0]].paths = [isSecondOutput ? "blocks.#.mlp.input" : "blocks.#.mlp.output"]
    groups[open[1]].paths = [isSecondOutput ? "blocks.#.mlp.output" : "blocks.#.mlp.input"]
  }

  private mutating func assignNorms() {
    let norms = groups.indices.filter { groups[$0].matrix == nil && groups[$0].gain != nil }
    for index in norms where !groups[index].isOfBlock { groups[index].paths = ["final.norm"] }
    let inBlock = norms.filter { groups[$0].isOfBlock }
    if inBlock.count == 1 { groups[inBlock[0]].paths = ["blocks.#.attention.norm"] }
    guard inBlock.count == 2 else { return }
    func isOfMLP(_ group: Group) -> Bool? {
      if group.has("mlp", "ff", "ffn", "ffwd", "post", "2", "ln2", "norm2", "n2", "rms2") { return true }
      return group.has("attn", "att", "attention", "sa", "1", "ln1", "norm1", "n1", "rms1", "input") ? false : nil
    }
    let said = inBlock.map { isOfMLP(groups[$0]) }
    let isSecondOfMLP = said[1] ?? said[0].map { !$0 } ?? true
    guard said[0] != said[1] || said[0] == nil else { return }
    groups[inBlock[0]].paths = [isSecondOfMLP ? "blocks.#.attention.norm" : "blocks.#.mlp.norm"]
    groups[inBlock[1]].paths = [isSecondOfMLP ? "blocks.#.mlp.norm" : "blocks.#.attention.norm"]
  }

  // MARK: Axes

  /// Returns whether a matrix is stored [out, in]: its bias tells, or else what reads or writes the residual stream.
  /// Nil for a square matrix, and where neither tells.
  private func isTransposed(_ group: Group) -> Bool? {
    guard let shape = group.matrix?.shape, shape.count == 2, shape[0] != shape[1], let path = group.paths.first else {
      return nil
    }
    if let bias = group.bias?.shape.first { return bias == shape[0] }
    let readsStream = !path.hasSuffix("output")
    if shape[0] == width { return !readsStream }
    return shape[1] == width ? readsStream : nil
  }

  /// Is true if the matrices that are not square are stored [out, in], and false if [in, out]; nil where not all of
  /// them lie alike, or where nothing tells. Embeddings do not count.
  private var usualOrientation: Bool? {
    let known = Set(groups.filter { !($0.paths.first ?? "").hasPrefix("embedding.") }.compactMap(isTransposed))
    return known.count == 1 ? known.first : nil
  }

  private func axes(of group: Group) -> JSONValue? {
    guard let path = group.paths.first, !path.hasPrefix("embedding.") else { return nil }
    guard let isTransposed = isTransposed(group) ?? usualOrientation else {
      return .string("? [\"output\", \"input\"] as a Linear of torch, or [\"input\", \"output\"] as a product x W")
    }
    if group.paths.count > 1, !group.isPerHead {
      let (start, end) = isTransposed ? ("", ", input") : ("input, ", "")
      return .string(
        "? [\(start)[part, output]\(end)] where all queries come first, or [\(start)[head, part, headFeature]\(end)] where each head has its "
          + "own together, every word in quotes")
    }
    return .array((isTransposed ? ["output", "input"] : ["input", "output"]).map { .string($0) })
  }

  // MARK: The file

  /// The tensors, each with what it holds.
  var entries: [(key: String, value: JSONValue)] {
    groups.flatMap { group -> [(String, JSONValue)] in
      func entry(_ template: Template, _ end: String, axes: JSONValue? = nil) -> (String, JSONValue) {
        let held = group.paths.map { JSONValue.string("\($0).\(end)") }
        let value: JSONValue =
          held.isEmpty
          ? .string("? the parameter of shape \(template.shape)") : held.count == 1 ? held[0] : .array(held)
        var members: [JSONValue.Member] = [.init(key: "holds", value: value)]
        if let axes { members.append(.init(key: "axes", value: axes)) }
        return (template.name, .object(members))
      }
      return (group.matrix.map { [entry($0, "weight", axes: axes(of: group))] } ?? [])
        + (group.gain.map { [entry($0, "weight")] } ?? []) + (group.bias.map { [entry($0, "bias")] } ?? [])
    }
  }

  /// The sizes and choices, in the order of the file.
  var choices: [(key: String, value: JSONValue)] {
    let norms = groups.filter { $0.matrix == nil && $0.gain != nil }
    let isRMS = norms.contains { $0.words.contains { $0.contains("rms") } }
    let isLayer = norms.contains { $0.bias != nil }
    let hasPositions = groups.contains { $0.paths == ["embedding.positions"] }
    let hasHead = groups.contains { $0.paths == ["unembedding"] }
    // One norm of a block serves both branches, or one branch has none; without one at the end, norms may stand behind sums.
    let isUsualBlock = norms.count { $0.isOfBlock } != 1 && (norms.contains { !$0.isOfBlock } || norms.isEmpty)
    var choices: [(String, JSONValue)] = [
      ("heads", headCount.map { .number($0) } ?? .string("? how many heads: a divisor of \(width)"))
    ]
    if let headCount, let width = headWidth, width * headCount != self.width {
      choices.append(("headWidth", .number(width)))
    }
    if headCount == nil, hasFewerKeys {
      choices.append(("keyValueHeads", .string("? how many heads the keys and values have")))
    }
    if !isUsualBlock {
      choices.append(
        (
          "block",
          .string(
            "? pre-norm, post-norm where norms stand behind the sums, or parallel where both branches read one stream")
        ))
    }
    choices += [
      (
        "activation",
        .string("? gelu (exact), gelu_new (by tanh), relu, leaky_relu, silu or tanh")
      ),
      ("epsilon", .string("? under the root of the norms: 1e-5 unless the code says otherwise")),
      (
        "norm",
        .string(isRMS ? "rms" : isLayer ? "layer" : "? layer for LayerNorm, rms for RMSNorm: no norm has a bias")
      ),
      (
        "attentionScale",
        .string("? what scores are multiplied by: 1/sqrt(headWidth) is usual; 1/sqrt(model), or a number")
      ),
      (
        "positions",
        .string(
          hasPositions
            ? "learned" : "? none, or {rotary: {base: 10000, pairs: halves or neighbours}}, with quotes around words")
      ),
    ]
    if !hasPositions { choices.append(("context", .string("? how many positions a text may have"))) }
    choices.append(("tied", .bool(!hasHead)))
    return choices
  }

  /// The width of a head that has tensors of its own; nil where none has.
  private var headWidth: Int? {
    groups.first { $0.isPerHead && $0.paths.count == 1 }?.matrix?.shape.min()
  }

  private var hasFewerKeys: Bool {
    func count(_ part: String) -> Int? {
      groups.first { $0.paths == ["blocks.#.attention.\(part)"] }?.matrix?.shape.reduce(1, *)
    }
    return count("query") != count("key")
  }
}
