import NormFoldFormats

/// The entry of a layout file for one tensor, or for the same tensor of every block (`#`) and every head (`@`).
struct LayoutEntry {
  /// The name of the tensor, with its marks: `blocks.#.attn.heads.@.query.weight`.
  let tensor: String
  /// The parameters that it holds, `blocks.#.attention.query.weight`.
  let parameters: [String]
  /// Nil where the file does not say them.
  let axes: [[Factor]]?
  /// The number that is added to the stored numbers.
  let offset: Double
  private let byteOffset: Int

  var isPerHead: Bool { tensor.contains("@") }
  private var isVector: Bool { Self.kinds[parameters[0]]?.input == nil }

  // MARK: Parameters

  /// The sizes of a parameter: a matrix has an input.
  private struct Kind {
    var input: Extent?
    var output: Extent
  }

  private static let kinds: [String: Kind] = {
    var kinds: [String: Kind] = [
      "embedding.tokens.weight": Kind(input: .vocabulary, output: .model),
      "embedding.positions.weight": Kind(input: .positions, output: .model),
    ]
    let maps: [(String, Extent, Extent)] = [
      ("blocks.#.attention.query", .model, .heads), ("blocks.#.attention.key", .model, .keyValueHeads),
      ("blocks.#.attention.value", .model, .keyValueHeads), ("blocks.#.attention.output", .heads, .model),
      ("blocks.#.mlp.input", .model, .hidden), ("blocks.#.mlp.gate", .model, .hidden),
      ("blocks.#.mlp.output", .hidden, .model), ("unembedding", .model, .vocabulary),
    ]
    for (path, input, output) in maps {
      kinds["\(path).weight"] = Kind(input: input, output: output)
      kinds["\(path).bias"] = Kind(output: output)
    }
    let norms: [(String, Extent)] = [
      ("blocks.#.attention.norm", .model), ("blocks.#.attention.query.norm", .head),
      ("blocks.#.attention.key.norm", .head), ("blocks.#.attention.output.norm", .model), ("blocks.#.mlp.norm", .model),
      ("blocks.#.mlp.output.norm", .model), ("final.norm", .model),
    ]
    for (path, width) in norms {
      kinds["\(path).weight"] = Kind(output: width)
      kinds["\(path).bias"] = Kind(output: width)
    }
    return kinds
  }()

  /// The parameters that no network here can do without.
  static let required = [
    "embedding.tokens.weight", "blocks.#.attention.query.weight", "blocks.#.attention.key.weight",
    "blocks.#.attention.value.weight", "blocks.#.attention.output.weight", "blocks.#.mlp.input.weight",
    "blocks.#.mlp.output.weight",
  ]

  /// Queries, keys and values, whose outputs are made of heads.
  private static let ofHeads = Set(
    ["query", "key", "value"].flatMap { ["blocks.#.attention.\($0).weight", "blocks.#.attention.\($0).bias"] })

  /// Returns whether a tensor of a file is said to hold a parameter.
  static func names(of parameter: String, in members: [JSONValue.Member]) -> Bool {
    members.contains { member in
      let held = member.value["holds"]
      return held?.string == parameter || held?.array?.contains(.string(parameter)) ?? false
    }
  }

  // MARK: Reading

  init(_ member: JSONValue.Member, file: String) throws(Refusal) {
    func refusal(_ problem: String, advice: Message = "") -> Refusal {
      Refusal(.malformed, file: file, at: member.byteOffset, subject: member.key, problem, advice: advice)
    }
    tensor = member.key
    byteOffset = member.byteOffset
    let keys = ["holds", "axes", "offset"]
    for inner in member.value.members ?? [] where !keys.contains(inner.key) {
      throw refusal(
        "there is no key '\(inner.key)'",
        advice: inner.key.nearest(of: keys).map { "did you mean \($0)?" } ?? "known are \(keys.listed())")
    }
    let held = member.value["holds"]
    let names = held?.string.map { [$0] } ?? held?.array?.compactMap(\.string) ?? []
    guard !names.isEmpty, names.count == held?.array?.count ?? 1 else {
      throw refusal("expected an object that says what the tensor holds: the name of a parameter, or several")
    }
    for name in names where Self.kinds[name] == nil {
      throw refusal(
        "holds '\(name)', which is no parameter",
        advice: name.nearest(of: Self.kinds.keys.sorted()).map { "did you mean \($0)?" }
          ?? "known are \(Self.kinds.keys.sorted().listed(limit: 40))")
    }
    parameters = names
    let (blocks, heads) = (member.key.count { $0 == "#" }, member.key.count { $0 == "@" })
    let ofBlocks = names.filter { $0.hasPrefix("blocks.#.") }
    guard ofBlocks.isEmpty ? blocks == 0 : blocks == 1 && ofBlocks.count == names.count else {
      throw refusal(
        ofBlocks.isEmpty
          ? "has a mark for the number of a block, and holds what is in none"
          : "expected one mark # for the number of the block, found \(blocks)")
    }
    guard heads == 0 || heads == 1 && names.allSatisfy(Self.ofHeads.contains) else {
      throw refusal("@ stands for the number of a head once, and for queries, keys and values only")
    }
    let inputs = Set(names.map { Self.kinds[$0]?.input })
    guard inputs.count == 1 else { throw refusal("matrices and vectors cannot be fused") }
    axes = try member.value["axes"].map { (value) throws(Refusal) in
      guard let axes = Self.axes(value) else {
        throw refusal("axes: expected a list of factors, each \(Self.factors.map(\.word).listed(limit: 12))")
      }
      return axes
    }
    offset =
      try member.value["offset"].map { (value) throws(Refusal) in
        guard let number = value.double, number.isFinite else { throw refusal("offset: expected a finite number") }
        return number
      } ?? 0
  }

  private static let factors: [(word: String, factor: Factor)] = [
    ("input", .input), ("output", .output), ("part", .part), ("head", .head), ("headFeature", .headFeature),
  ]

  /// `["input", ["part", "output"]]`: each axis is a factor or several, the outermost first.
  private static func axes(_ value: JSONValue) -> [[Factor]]? {
    let axes = value.array?.map { axis -> [Factor] in
      let words = axis.array ?? [axis]
      let known = words.compactMap { word in factors.first { $0.word == word.string }?.factor }
      return known.count == words.count ? known : []
    }
    return axes?.contains { $0.isEmpty } ?? true ? nil : axes
  }

  // MARK: Patterns

  /// The slots of the tensor, one for each head where each has a tensor of its own.
  ///
  /// - Parameter entries: all of the file. The axes of a bias may be left out: they are those of its weights' outputs.
  func patterns(
    beside entries: [LayoutEntry], _ sizes: Hyperparameters, file: String
  ) throws(Refusal) -> [SlotPattern] {
    let axes = try storedAxes(beside: entries, sizes, file: file)
    let kinds = parameters.compactMap { Self.kinds[$0] }
    guard isPerHead else {
      return [
        SlotPattern(
          tensor: tensor, parameters: parameters, input: kinds[0].input, outputs: kinds.map(\.output), axes: axes,
          offset: offset)
      ]
    }
    let counts = Set(
      kinds.map { $0.output == .heads ? sizes.stated(.heads) : sizes.stated(.keyValueHeads) ?? sizes.stated(.heads) })
    guard counts.count == 1, let count = counts.first.flatMap({ $0 }), count <= 4_096 else {
      throw refusal("expected as many heads of each parameter, 4096 at most", file)
    }
    return (0..<count).map { head in
      SlotPattern(
        tensor: tensor.replacing("@", with: String(head)), parameters: parameters.map { Slot.headPart(head, of: $0) },
        input: kinds[0].input, outputs: kinds.map { _ in .head }, axes: axes, offset: offset)
    }
  }

  private func refusal(_ problem: String, _ file: String, advice: Message = "") -> Refusal {
    Refusal(.unsupported, file: file, at: byteOffset, subject: tensor, problem, advice: advice)
  }

  /// The axes as slots have them: with the factor of the parts, and pairs where neighbours are rotated together.
  private func storedAxes(
    beside entries: [LayoutEntry], _ sizes: Hyperparameters, file: String
  ) throws(Refusal) -> [[Factor]] {
    var axes: [[Factor]]
    if let own = self.axes {
      axes = own
    } else if isVector {
      let weights = parameters.map { $0.replacing(".bias", with: ".weight") }
      let weight = entries.first { $0.tensor != tensor && $0.parameters == weights }
      let output = weight?.axes.flatMap { $0.count == 2 ? $0.first { $0 != [.input] } : nil }
      axes = [parameters[0].hasSuffix(".bias") ? output ?? [.output] : [.output]]
    } else if parameters[0].hasPrefix("embedding.") {
      axes = [[.input], [.output]]
    } else {
      throw refusal(
        "says no axes", file,
        advice: "a Linear of torch stores [\"output\", \"input\"], a product x W [\"input\", \"output\"]")
    }
    axes = axes.map { parameters.count > 1 && $0 == [.output] ? [.part, .output] : $0 }
    guard isKnown(axes, sizes) else {
      throw refusal(
        "no \(isVector ? "vector" : "matrix") here has these axes", file,
        advice:
          "an axis of outputs is output, part and output, or of queries, keys and values also head, headFeature and part in any "
          + "order, where they have as many heads")
    }
    guard sizes.own["pairs"]?.string == LayoutPairs.neighbours.rawValue,
      parameters.contains(where: { $0.contains(".query.") || $0.contains(".key.") }), !isOfNorm
    else { return axes }
    guard parameters.count == 1, let axis = axes.firstIndex(of: [.output]) else {
      throw refusal(
        "neighbours are rotated together only where queries and keys have tensors of their own, with an axis of output",
        file)
    }
    axes[axis] = isPerHead ? [.pair, .side] : [.head, .pair, .side]
    return axes
  }

  private var isOfNorm: Bool { parameters[0].contains("norm.") }

  private func isKnown(_ axes: [[Factor]], _ sizes: Hyperparameters) -> Bool {
    let parts: [Factor] = parameters.count > 1 ? [.part] : []
    let isOfHeads = parameters.allSatisfy(Self.ofHeads.contains) && !isPerHead
    let hasEqualHeads = sizes.stated(.keyValueHeads) ?? sizes.stated(.heads) == sizes.stated(.heads)
    func isOutput(_ axis: [Factor]) -> Bool {
      if axis == parts + [.output] { return true }
      return isOfHeads && (parts.isEmpty || hasEqualHeads) && axis.count == parts.count + 2
        && Set(axis) == Set(parts + [.head, .headFeature])
    }
    switch axes.count {
    case 1: return isVector && isOutput(axes[0])
    case 2 where isVector: return isOfHeads && parts.isEmpty && axes == [[.head], [.headFeature]]
    case 2: return axes[0] == [.input] ? isOutput(axes[1]) : axes[1] == [.input] && isOutput(axes[0])
    case 3 where parts.isEmpty && !isVector:
      return isOfHeads && axes == [[.head], [.input], [.headFeature]]
        || parameters == ["blocks.#.attention.output.weight"] && axes == [[.head], [.headFeature], [.output]]
    default: return false
    }
  }
}
