import NormFoldFormats

extension Architecture {
  /// A decoder that somebody has written at home, as a layout file describes it: branches one after the other or parallel, norms
  /// in front of them or behind the sums, learned, rotary or no positions, an MLP with or without a gate. What the file does
  /// not name is not there.
  ///
  /// Its class is nobody's: a target writes it for the first class that computes the same, operation by operation.
  package static let homeMade: Architecture = .homeMade(
    name: "home-made GPT", isRotary: false, layout: Layout(name: "home-made GPT", []))

  /// - Parameter isRotary: whether its config, where a target writes one, is spelt like LLaMA's, and not like GPT-2's.
  static func homeMade(name: String, isRotary: Bool, layout: Layout) -> Architecture {
    let base = isRotary ? Architecture.llama : .gpt2
    return Architecture(
      name: name, modelType: base.modelType, className: "HomeMadeGPT", normKind: .layer,
      configuration: base.configuration, tokenKeys: base.tokenKeys, layout: layout, forward: HomeMade.forward)
  }
}

extension LayoutFile {
  var architecture: Architecture { .homeMade(name: name, isRotary: isRotary, layout: layout) }

  var storageForm: StorageForm {
    StorageForm(
      recognises: { (_) throws(Refusal) in true }, read: { (_) throws(Refusal) in sizes }, layout: { _ in layout })
  }
}

private enum HomeMade {
  static let forward: @Sendable (Hyperparameters, inout NetworkBuilder) -> Void = { sizes, b in
    var x = b.embed(by: .token, at: "embedding.tokens")
    if let factor = sizes.own["embeddingScale"]?.double {
      x = b.apply(.scale(factor), to: x, at: "embedding.tokens.scaled")
    }
    if b.has("embedding.positions") {
      x = b.add(x, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
    }
    for block in 0..<sizes.blockCount {
      x = b.block(
        of: x, number: block, form: form(of: block, sizes, b), attentionScale: attentionScale(sizes), normsHeads: true)
    }
    b.head(of: x)
  }

  private static func form(of block: Int, _ sizes: Hyperparameters, _ b: NetworkBuilder) -> BlockForm {
    switch sizes.own["block"]?.string.flatMap(LayoutFile.Block.init) {
    case .preNorm, nil: .preNorm
    case .postNorm: .postNorm
    case .parallel: b.has("blocks.\(block).mlp.norm") ? .parallel : .parallelBehindOneNorm
    }
  }

  private static func attentionScale(_ sizes: Hyperparameters) -> Double {
    switch sizes.own["attentionScale"]?.string.flatMap(LayoutFile.AttentionScale.init) {
    case .headWidth: sizes.standardAttentionScale
    case .model: 1 / Double(sizes.dModel).squareRoot()
    case nil: sizes.own["attentionScale"]?.double ?? sizes.standardAttentionScale
    }
  }
}
