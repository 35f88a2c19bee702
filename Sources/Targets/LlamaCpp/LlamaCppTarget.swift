import Formats
import Networks

/// llama.cpp's own GPT-2 and LLaMA (architectures `gpt2`, `llama`): one GGUF file with its tokenizer. Neither can do
/// without norms, nor with a vocabulary bias, so that each norm that went is near an identity, as for the stock classes of
/// transformers.
///
/// What rounds element by element (F32, F16, BF16) holds folded matrices. A type with blocks holds the source's own, and
/// the scales γ/σ stay in the norm tensors, which are F32 always: folding scales the rows of a matrix [in, out], that is,
/// the elements of one block, and a block has one scale. How much that costs depends on how far the γ/σ of a norm lie
/// apart. Where they are within a fifth of each other (shakespeare-4x128) neither way is better; but the source's own
/// matrices are what llama.cpp's quantiser would make, and a verification knows exactly what they compute.
package struct LlamaCppTarget: Target {
  package init() {}

  package var name: String { "llama.cpp" }
  package var summary: String { "llama.cpp and what is built on it; one GGUF file, near-identity norms" }
  package var types: [ElementType] { [.f32, .f16, .bf16, .q8_0, .q5_1, .q5_0, .q4_1, .q4_0] }

  package var normKinds: Set<Norm.Kind> { [.layer] }
  package func keptSites(of network: Network, type: ElementType) -> Set<NormSite> {
    guard type.elementsPerBlock > 1 else { return network.lastNormBehindTie }
    // One tensor holds the norm of both paths of an attention; where they differ, it can hold neither.
    let places = network.normPlaces.filter { place in
      place.sites.allSatisfy { network[$0] == network[place.sites[0]] }
    }
    return Set(places.flatMap(\.sites))
  }

  package func leavesNorms(_ network: Network) -> Bool { true }

  package func output(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    let approximation = try approximation(of: network, options: options)
    try model.requireNorms(target: name)
    let architecture = Architecture(of: network)
    let scaled = network.withStandardAttentionScale()
    let (stock, epsilon) = try (architecture == .gpt2 ? scaled.withEveryBias() : scaled).withStockNorms(
      layout: architecture.gguf, target: name)
    let isTied = stock.isTied
    // Block by block, as a runtime reads them.
    let slots = architecture.gguf.slotParameters(of: stock).filter {
      $0.slot.roles != [.weight(.unembedding)] || !isTied
    }
    let (blocks, others) = (
      slots.filter { $0.slot.roles[0].block != nil }, slots.filter { $0.slot.roles[0].block == nil }
    )
    let isEmbedding = { (slot: Layout.Slot) in slot.roles == [.tokenEmbedding] || slot.roles == [.positionEmbedding] }
    let ordered =
      others.filter { isEmbedding($0.slot) }
      + network.blocks.indices.flatMap { block in blocks.filter { $0.slot.roles[0].block == block } }
      + others.filter { !isEmbedding($0.slot) }
    let parameters = ordered.map { slot, value in
      TargetOutput.StoredParameter(
        name: slot.name, value: value, type: storedType(of: slot, value, as: options.type, isTied: isTied))
    }
    let tokenizer = try LlamaCppTokenizer(of: model)
    let keys =
      try metadata(of: stock, epsilon: epsilon, from: model, type: options.type, parameters: parameters)
      + tokenizer.keys
    var output = TargetOutput(
      fileName: "model.gguf", parameters: parameters,
      writer: { (path, provenance) throws(Refusal) in
        let made = provenance.sorted { $0.key < $1.key }.map { ($0.key, GGUFValue.string($0.value)) }
        return try GGUFWriter(creating: path, metadata: keys + made, tensors: parameters.map(\.info))
      },
      sideFiles: [],
      notes: network.noteOnLastNorm + notes(on: parameters, type: options.type, isTied: isTied) + tokenizer.notes)
    output.approximation = approximation
    if let approximation, let exact = network.blocks.first?.mlp.activation {
      let difference = exact.largestDifference(from: approximation).twoDigits
      output.notes.append(
        "llama.cpp computes \(approximation.configName) instead of \(exact.configName), as allowed: up to \(difference) "
          + "in each hidden unit; what that does to the logits is in the limits")
    }
    return output
  }

  // MARK: Types

  /// The type of a tensor, by the rules of llama.cpp's quantiser: vectors and positions are F32; matrices have the type
  /// that is asked for, or F16 where their rows are not whole blocks; what unembeds has at least Q8_0, be it the token
  /// embedding. (llama.cpp takes Q6_K there where rows are multiples of 256, which is not written here, and Q8_0 elsewhere.)
  private func storedType(
    of slot: Layout.Slot, _ value: Parameter, as type: ElementType, isTied: Bool
  ) -> ElementType {
    guard value.shape.count == 2, slot.roles != [.positionEmbedding] else { return .f32 }
    let unembeds = slot.roles == [.weight(.unembedding)] || slot.roles == [.tokenEmbedding] && isTied
    return (unembeds && type.elementsPerBlock > 1 ? .q8_0 : type).fitting(rowLength: value.columnCount)
  }

  private func notes(
    on parameters: [TargetOutput.StoredParameter], type: ElementType, isTied: Bool
  ) -> [String] {
    guard type.elementsPerBlock > 1 else { return [] }
    var notes: [String] = []
    let narrow = parameters.filter { $0.info.type == .f16 }
    if let first = narrow.first, let width = first.info.shape.last {
      notes.append(
        "\(narrow.count) matrices are F16, since rows of \(width) elements are not blocks of \(type.elementsPerBlock)")
    }
    let name = isTied ? "token_embd.weight" : "output.weight"
    if type != .q8_0, parameters.contains(where: { $0.info.name == name && $0.info.type == .q8_0 }) {
      notes.append(
        "\(name) unembeds, so it is Q8_0; llama.cpp's quantiser takes Q6_K for it where rows are multiples of 256")
    }
    return notes
  }

  // MARK: Activation

  /// The activation that llama.cpp computes instead of the network's; nil where it is the same.
  ///
  /// - Throws: `.unsupported` for another activation than GPT-2's own; the exact GELU is close, and only that can be
  ///   allowed.
  private func approximation(of network: Network, options: TargetOptions) throws(Refusal) -> Activation? {
    if Architecture(of: network) == .llama {
      let (_, activation) = try network.uniformRotary(target: name)
      guard activation == .silu else {
        throw Refusal(
          .unsupported, subject: activation.configName, "the target \(name) has silu only for a LLaMA",
          advice: "use --for transformers")
      }
      return nil
    }
    let other = network.blocks.first { $0.mlp.activation != .geluTanh }?.mlp.activation
    guard let other else { return nil }
    if other == .geluErf, options.allowsApproximateActivation { return .geluTanh }
    let difference = other.largestDifference(from: .geluTanh)
    throw Refusal(
      .unsupported, subject: other.configName,
      "the target \(name) has GPT-2's own activation only (gelu_new, by tanh), which differs from this one by up to "
        + "\(difference.twoDigits) in each hidden unit",
      advice: other == .geluErf
        ? "pass --allow-approximate-activation to write the file all the same and measure what that does to the logits"
        : "use --for transformers")
  }
}
