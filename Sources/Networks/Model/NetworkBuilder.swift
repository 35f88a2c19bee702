import Formats

/// Puts the tensors of a layout into the roles of a network.
struct NetworkBuilder {
  let dimensions: Dimensions
  let blockCount: Int
  let configuration: Configuration
  private var parameters: [Role: Parameter] = [:]
  /// The stored tensor's name, as it is spelt in the file.
  private var names: [Role: String] = [:]
  /// The same without prefixes.
  private var bareNames: [Role: String] = [:]

  init(dimensions: Dimensions, blockCount: Int, configuration: Configuration) {
    self.dimensions = dimensions
    self.blockCount = blockCount
    self.configuration = configuration
    activations = Array(repeating: configuration.activation, count: blockCount)
  }

  /// By block.
  private(set) var activations: [Activation]

  /// Gives the leaky ReLU of each block a slope of its own.
  /// - Throws: `.malformed` where there are not as many as blocks.
  mutating func setSlopes(_ slopes: [Double], said key: String) throws(Refusal) {
    guard slopes.count == blockCount else {
      throw Refusal(
        .malformed, file: configuration.path, subject: key,
        "expected \(blockCount) slopes, one for each block, found \(slopes.count)")
    }
    activations = slopes.map { .leakyReLU(negativeSlope: $0) }
  }

  /// Whether any matrix was merged with an adapter.
  private(set) var hasAdapters = false

  /// - Throws: `.malformed` with every tensor of the layout that is needed and not there, or with biases that the config
  ///   says there are none of.
  static func requireAll(
    of layout: Layout, in tensors: NamedTensors, configuration: Configuration, normsAreOptional: Bool
  ) throws(Refusal) {
    let slots = layout.slots(blockCount: layout.blockCount(in: tensors.names))
    let present = Set(slots.filter { tensors.peek($0.name) != nil }.flatMap(\.roles))
    let missing = slots.filter { slot in
      guard !present.contains(slot.roles[0]) else { return false }
      switch slot.roles[0] {
      // Elsewhere it may be tied; TransformerLens knows no ties.
      case .weight(.unembedding): return layout.name == Layout.transformerLens.name
      case .bias(.unembedding): return false
      // A bias alone is no norm.
      case .normGain(let place): return !normsAreOptional || present.contains(.normBias(place))
      case .normBias: return !normsAreOptional && configuration.biases == .everywhere
      case .bias(let map): return configuration.biases.include(map) == true
      default: return true
      }
    }
    guard missing.isEmpty else {
      throw Refusal(
        .malformed, file: tensors.checkpoint.path,
        "\(missing.count) tensor\(missing.count == 1 ? " is" : "s are") missing: "
          + missing.map(\.name).joined(separator: ", "),
        advice: "the checkpoint is incomplete; a runtime would fill them with random numbers")
    }
    let unexpected = slots.filter { slot in
      guard case .bias(let map) = slot.roles[0], present.contains(slot.roles[0]) else { return false }
      return configuration.biases.include(map) == false
    }
    guard let first = unexpected.first else { return }
    throw Refusal(
      .malformed, file: tensors.checkpoint.path, subject: layout.fullName(of: first),
      "is a bias, but \(configuration.path) says that there is none",
      advice: "a runtime would leave it out; set attention_bias and mlp_bias to what was trained")
  }

  /// Takes every tensor of the layout that is there.
  ///
  /// - Throws: `.malformed` with the first tensor of a wrong shape; `.unsupported` for an element type that holds no
  ///   weights, or an unembedding that contradicts the tie.
  mutating func read(_ tensors: inout NamedTensors, layout: Layout, options: ReadingOptions) throws(Refusal) {
    let file = tensors.checkpoint.path
    for slot in layout.slots(blockCount: blockCount) {
      guard let taken = try tensors.takeParameter(slot.name) else { continue }
      let name = taken.tensors[0].name
      let expected = layout.storedShape(of: slot, dimensions: dimensions)
      guard taken.value.shape == expected else {
        let isTurned = expected.count == 2 && taken.value.shape == expected.reversed()
        throw Refusal(
          .malformed, file: file, subject: name, "expected shape \(expected), found \(taken.value.shape)",
          advice: isTurned
            ? "this is the transpose: \(layout.name) stores \(slot.orientation.axes)"
            : "")
      }
      for tensor in taken.tensors { try tensor.requireWeights(in: file) }
      if [.intoHeads, .outOfHeads].contains(slot.orientation), !taken.isContiguous {
        throw Refusal(
          .unsupported, file: file, subject: name, "its heads are stored as a strided view",
          advice: "save a contiguous copy, or the whole in safetensors")
      }
      if taken.isAdapted { hasAdapters = true }
      for (role, value) in layout.parts(of: taken.value, in: slot, dimensions: dimensions) {
        parameters[role] = value
        names[role] = name
        bareNames[role] = slot.name
      }
    }
    try settleUnembedding(file: file, options: options)
  }

  /// One unembedding: the stored one, or the token embedding.
  private mutating func settleUnembedding(file: String, options: ReadingOptions) throws(Refusal) {
    guard let embedding = parameters[.tokenEmbedding] else { return }
    let tied = embedding.transposed()
    guard let stored = parameters[.weight(.unembedding)] else {
      guard configuration.isTied else {
        throw Refusal(
          .malformed, file: file, subject: "lm_head.weight",
          "this tensor is missing, and \(configuration.path) says that it is not tied to the embedding",
          advice: "a runtime would fill it with random numbers; if it is tied, set tie_word_embeddings to true")
      }
      parameters[.weight(.unembedding)] = tied
      return
    }
    guard configuration.isTied else { return }
    if stored.isEqualInNumbers(to: tied) || options.head == .tied {
      parameters[.weight(.unembedding)] = tied
    } else if options.head != .stored {
      throw Refusal(
        .unsupported, file: file, subject: names[.weight(.unembedding)],
        "differs from the token embedding, and \(configuration.path) says that they are tied",
        advice: "say which one counts: --head stored or --head tied")
    }
  }

  /// Every place where the layout may store a norm, in the order of computation.
  var normPlaces: [Role.NormPlace] {
    (0..<blockCount).flatMap { [.attention(block: $0), .mlp(block: $0)] } + [.final]
  }

  /// The name of a norm without prefixes: `h.0.ln_1`; nil where there is none.
  func bareNormName(at place: Role.NormPlace) -> String? { bareNames[.normGain(place)].map(Self.stem) }

  private static func stem(_ name: String) -> String { name.hasSuffix(".weight") ? String(name.dropLast(7)) : name }

  /// The network, each norm site with the deviation that `deviation` says.
  func network(deviation: (NormSite, Role.NormPlace) -> Norm.Deviation) -> Network {
    let blocks = (0..<blockCount).map { block in
      Block(
        attention: Attention(
          queryKeyNorm: norm(.attention(block: block), .attentionQueryKey(block: block), deviation),
          valueNorm: norm(.attention(block: block), .attentionValue(block: block), deviation),
          query: map(.query(block: block)), key: map(.key(block: block)), value: map(.value(block: block)),
          output: map(.attentionOutput(block: block)),
          scale: configuration.attentionScale(block: block, dHead: dimensions.dHead), rotary: configuration.rotary),
        mlp: MLP(
          norm: norm(.mlp(block: block), .mlp(block: block), deviation), input: map(.mlpInput(block: block)),
          gate: parameters[.weight(.mlpGate(block: block))] == nil ? nil : map(.mlpGate(block: block)),
          activation: activations[block], output: map(.mlpOutput(block: block))))
    }
    return Network(
      dimensions: dimensions, tokenEmbedding: parameter(.tokenEmbedding),
      positionEmbedding: parameters[.positionEmbedding],
      blocks: blocks, finalNorm: norm(.final, .final, deviation), unembedding: map(.unembedding))
  }

  private func map(_ map: Role.Map) -> LinearMap {
    LinearMap(weight: parameter(.weight(map)), bias: parameters[.bias(map)])
  }

  private func norm(
    _ place: Role.NormPlace, _ site: NormSite, _ deviation: (NormSite, Role.NormPlace) -> Norm.Deviation
  ) -> Norm? {
    guard let gain = parameters[.normGain(place)], let name = names[.normGain(place)] else { return nil }
    return Norm(
      name: Self.stem(name), kind: configuration.architecture.normKind, gain: gain, bias: parameters[.normBias(place)],
      deviation: deviation(site, place))
  }

  /// - Precondition: `read` has succeeded, so that every required role is filled.
  private func parameter(_ role: Role) -> Parameter {
    guard let parameter = parameters[role] else { preconditionFailure("\(role) was not read") }
    return parameter
  }
}

extension Configuration.Biases {
  /// Whether a map has a bias; nil where only the tensors say so.
  fileprivate func include(_ map: Role.Map) -> Bool? {
    switch (self, map) {
    case (.everywhere, _): true
    case (.asStored, _): nil
    case (.ofMaps(let attention, _), .query), (.ofMaps(let attention, _), .key), (.ofMaps(let attention, _), .value),
      (.ofMaps(let attention, _), .attentionOutput):
      attention
    case (.ofMaps(_, let mlp), .mlpInput), (.ofMaps(_, let mlp), .mlpGate), (.ofMaps(_, let mlp), .mlpOutput): mlp
    case (.ofMaps, .unembedding): false
    }
  }
}

extension Parameter {
  /// Whether two recipes give the same numbers: by their form where that decides it, else by reading both.
  fileprivate func isEqualInNumbers(to other: Parameter) -> Bool {
    if self == other { return true }
    guard shape == other.shape else { return false }
    // Two names for one storage, as PyTorch saves a tied head.
    if let mine = storedView, let theirs = other.storedView, mine.isSame(as: theirs) { return true }
    // The stored orientation of both, so that rows are read as they lie.
    let mine = ParameterReader(transposed())
    let theirs = ParameterReader(other.transposed())
    let columns = 0..<mine.columnCount
    for start in stride(from: 0, to: mine.rowCount, by: mine.rowsPerBlock) {
      let rows = start..<min(start + mine.rowsPerBlock, mine.rowCount)
      guard mine.values(rows: rows, columns: columns) == theirs.values(rows: rows, columns: columns) else {
        return false
      }
    }
    return true
  }
}
