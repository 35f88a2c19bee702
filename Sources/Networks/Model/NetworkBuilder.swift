import Formats

/// Puts the tensors of a layout into the roles of a network.
struct NetworkBuilder {
  let dimensions: Dimensions
  let blockCount: Int
  let configuration: Configuration
  private(set) var warnings: [String] = []
  private var parameters: [Role: Parameter] = [:]
  private var names: [Role: String] = [:]
  private var isTied = true

  init(dimensions: Dimensions, blockCount: Int, configuration: Configuration) {
    self.dimensions = dimensions
    self.blockCount = blockCount
    self.configuration = configuration
  }

  /// Takes every tensor of the layout.
  ///
  /// - Throws: `.malformed` with all missing tensors, or the first of a wrong shape; `.unsupported` for an element
  ///   type that holds no numbers, or an unembedding that contradicts the tie.
  mutating func read(
    _ tensors: inout NamedTensors, layout: Layout, normsAreOptional: Bool, biasesAreOptional: Bool = false,
    options: ReadingOptions
  ) throws(Refusal) {
    let file = tensors.checkpoint.path
    var missing: [String] = []
    for slot in layout.slots(blockCount: blockCount) {
      guard let tensor = tensors.take(slot.name) else {
        let isOptional =
          switch slot.roles[0] {
          case .weight(.unembedding), .bias(.unembedding): true
          case .normGain, .normBias: normsAreOptional
          case .bias: biasesAreOptional
          default: false
          }
        if !isOptional { missing.append(slot.name) }
        continue
      }
      let expected = layout.storedShape(of: slot, dimensions: dimensions)
      guard tensor.shape == expected else {
        let isTurned = tensor.shape.count == 2 && tensor.shape == expected.reversed()
        throw Refusal(
          .malformed, file: file, subject: tensor.name, "expected shape \(expected), found \(tensor.shape)",
          advice: isTurned
            ? "this is the transpose: \(layout.name) stores \(slot.orientation == .inOut ? "[in, out]" : "[out, in]")"
            : "")
      }
      guard tensor.info.type.isDecodable else {
        throw Refusal(
          .unsupported, file: file, subject: tensor.name,
          "elements of type \(tensor.info.type.displayName) cannot be folded",
          advice: "save the checkpoint in F32, BF16 or F16")
      }
      for (role, value) in layout.parts(of: .stored(tensor), in: slot, dimensions: dimensions) {
        parameters[role] = value
        names[role] = tensor.name
      }
    }
    guard missing.isEmpty else {
      throw Refusal(
        .malformed, file: file,
        "\(missing.count) tensor\(missing.count == 1 ? " is" : "s are") missing: \(missing.joined(separator: ", "))",
        advice: "the checkpoint is incomplete; a runtime would fill them with random numbers")
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

  /// The network, every norm with this deviation.
  func network(deviation: Norm.Deviation) -> Network {
    network { _, _ in deviation }
  }

  /// The network, each norm site with the deviation that `deviation` says.
  func network(deviation: (NormSite, _ normName: String) -> Norm.Deviation) -> Network {
    let blocks = (0..<blockCount).map { block in
      Block(
        attention: Attention(
          queryKeyNorm: norm(.attention(block: block), .attentionQueryKey(block: block), deviation),
          valueNorm: norm(.attention(block: block), .attentionValue(block: block), deviation),
          query: map(.query(block: block)), key: map(.key(block: block)), value: map(.value(block: block)),
          output: map(.attentionOutput(block: block)),
          scale: configuration.attentionScale(block: block, dHead: dimensions.dHead)),
        mlp: MLP(
          norm: norm(.mlp(block: block), .mlp(block: block), deviation), input: map(.mlpInput(block: block)),
          activation: configuration.activation, output: map(.mlpOutput(block: block))))
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
    _ place: Role.NormPlace, _ site: NormSite, _ deviation: (NormSite, String) -> Norm.Deviation
  ) -> Norm? {
    guard let gain = parameters[.normGain(place)], let tensorName = names[.normGain(place)] else { return nil }
    let name = tensorName.hasSuffix(".weight") ? String(tensorName.dropLast(7)) : tensorName
    return Norm(
      name: name, kind: .layer, gain: gain, bias: parameters[.normBias(place)], deviation: deviation(site, name))
  }

  /// - Precondition: `read` has succeeded, so that every required role is filled.
  private func parameter(_ role: Role) -> Parameter {
    guard let parameter = parameters[role] else { preconditionFailure("\(role) was not read") }
    return parameter
  }
}

extension Parameter {
  /// Whether two recipes give the same numbers: by their form where that decides it, else by reading both.
  fileprivate func isEqualInNumbers(to other: Parameter) -> Bool {
    if self == other { return true }
    guard shape == other.shape else { return false }
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
