import Formats
import Networks

extension TransformersTarget {
  /// The root of the ε is exact in F32, as in the published LN-removed checkpoints.
  private static let nearIdentityEpsilon = 1e12

  /// A directory for the stock class LlamaForCausalLM, and all that reads the same files. The class has a norm at every
  /// site and one ε: norms are what they are where all are computed; where all are fixed or gone, each is as near an
  /// identity as it gets. Nothing about either needs a modeling file.
  ///
  /// - Throws: `.unsupported` for what the class has no place for: some norms computed and others not, layers that
  ///   differ in their activation or positions.
  func llamaOutput(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    let scaled = network.withStandardAttentionScale().withUniformBiases()
    let (stock, epsilon) = try scaled.withStockNorms(
      nearIdentityEpsilon: Self.nearIdentityEpsilon, layout: .llama, target: name)
    let configuration = try model.llamaConfiguration(of: stock, epsilon: epsilon, type: options.type, target: name)
    let parameters = Layout.llama.slotParameters(of: stock).filter {
      $0.slot.roles != [.weight(.unembedding)] || !stock.isTied
    }.map { slot, value in
      TargetOutput.StoredParameter(
        name: Layout.llama.fullName(of: slot), value: value, type: value.normType(in: slot, as: options.type))
    }
    let tokenizer = try model.tokenizerFiles()
    let widened = options.type == .f32 ? 0 : parameters.count { $0.info.type == .f32 }
    return TargetOutput(
      fileName: "model.safetensors", parameters: parameters,
      writer: { (path, metadata) throws(Refusal) in
        try SafetensorsWriter(
          creating: path, tensors: parameters.map(\.info), metadata: metadata.merging(["format": "pt"]) { $1 })
      },
      sideFiles: tokenizer + [("config.json", Array(configuration.text.utf8))],
      notes: (widened == 0 ? [] : ["\(widened) gains are F32, since \(options.type.displayName) would round them"])
        + (try model.notes(onTokenizerFiles: tokenizer)))
  }
}

extension Parameter {
  /// The type that a tensor is stored in: a gain that is not the stored one has no reason to be a number of a narrow type.
  fileprivate func normType(in slot: Layout.Slot, as type: ElementType) -> ElementType {
    guard case .normGain = slot.roles[0] else { return type }
    if let tensor = storedTensor { return tensor.info.type == type ? type : .f32 }
    return constantValue == 1 ? type : .f32
  }
}

extension Network {
  /// The last norm where nothing but it would untie the unembedding, or give it a bias.
  var lastNormBehindTie: Set<NormSite> { unembedding.bias == nil ? [.final] : [] }

  /// The network in which all maps of the attentions have a bias or none has, and all of the MLPs: zero where there was
  /// none.
  func withUniformBiases() -> Network {
    var result = self
    let attention = blocks.indices.flatMap {
      [Role.Map.query(block: $0), .key(block: $0), .value(block: $0), .attentionOutput(block: $0)]
    }
    let mlp = blocks.indices.flatMap { block in
      [Role.Map.mlpInput(block: block), .mlpOutput(block: block)]
        + (blocks[block].mlp.gate == nil ? [] : [.mlpGate(block: block)])
    }
    for maps in [attention, mlp] where maps.contains(where: { self[$0].bias != nil }) {
      for map in maps where self[map].bias == nil {
        result[map].bias = .constant(0, shape: [self[map].weight.columnCount])
      }
    }
    return result
  }

  /// What all blocks share.
  ///
  /// - Throws: `.unsupported` where they do not, or where an MLP has no gate.
  func uniformRotary(target: String) throws(Refusal) -> (rotary: Rotary, activation: Activation) {
    guard let first = blocks.first, let rotary = first.attention.rotary, positionEmbedding == nil,
      blocks.allSatisfy({
        $0.attention.rotary == rotary && $0.mlp.activation == first.mlp.activation && $0.mlp.gate != nil
      })
    else {
      throw Refusal(
        .unsupported, subject: target, "has one rotary base and one gated activation for all layers, and no others")
    }
    return (rotary, first.mlp.activation)
  }
}
