import Formats
import Networks

/// TransformerLens: a state dict and a config that HookedTransformer takes as they are, with `normalization_type` null.
package struct TransformerLensTarget: Target {
  package init() {}

  package var name: String { "transformer-lens" }
  package var summary: String { "TransformerLens's HookedTransformer, normalization_type None; no norms" }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
  package var normKinds: Set<Norm.Kind> { [] }
  package func keptSites(of network: Network, type: ElementType) -> Set<NormSite> { [] }
  package func leavesNorms(_ network: Network) -> Bool { false }

  package func output(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    let type = options.type
    try network.require(.gpt2, target: name)
    if let kept = network.norms.first {
      throw Refusal(
        .unsupported, subject: kept.norm.name,
        "is still a norm, and the target \(name) has one normalization_type for all of them, None",
        advice: "finish the removal, or use --for transformers")
    }
    let configuration = try network.transformerLensConfiguration(of: model.configuration, target: name)
    let held = Dictionary(
      uniqueKeysWithValues: Layout.transformerLens.slotParameters(of: network).map { ($0.slot.name, $0.value) })
    let parameters = Layout.transformerLens.slots(blockCount: network.blocks.count).map { slot in
      // The class has every bias; where the network has none it is zero.
      let shape = Layout.transformerLens.storedShape(of: slot, dimensions: network.dimensions)
      return TargetOutput.StoredParameter(
        info: TensorInfo(name: slot.name, type: type, shape: shape),
        value: held[slot.name] ?? .constant(0, shape: network.dimensions.shape(of: slot.roles[0])))
    }
    return TargetOutput(
      safetensors: parameters,
      // HookedTransformer is told how to generate when it is called.
      sideFiles: try model.tokenizerFiles().filter { $0.name != "generation_config.json" } + [
        ("config.json", Array(configuration.text.utf8))
      ], notes: [])
  }
}

extension Network {
  /// The arguments of HookedTransformerConfig, by name.
  ///
  /// - Throws: `.unsupported` for positions, an activation or attention scales that HookedTransformer does not have.
  fileprivate func transformerLensConfiguration(
    of configuration: Configuration, target: String
  ) throws(Refusal) -> JSONValue {
    let activation = blocks[0].mlp.activation
    guard let activationName = activation.transformerLensName else {
      throw Refusal(
        .unsupported, subject: activation.configName, "the target \(target) has no such activation",
        advice: "use --for transformers")
    }
    guard positionEmbedding != nil else {
      throw Refusal(.unsupported, "the target \(target) expects learned positions, and the network has none")
    }
    let members: [(String, JSONValue)] = [
      ("act_fn", .string(activationName)), ("d_head", .number(dimensions.dHead)), ("d_mlp", .number(dimensions.dMLP)),
      ("d_model", .number(dimensions.dModel)), ("d_vocab", .number(dimensions.vocabularySize)),
      // The models were trained on texts that follow each other, not on one that begins with a token of its own.
      ("default_prepend_bos", .bool(false)),
      ("n_ctx", .number(dimensions.contextLength)), ("n_heads", .number(dimensions.headCount)),
      ("n_layers", .number(blocks.count)), ("normalization_type", .null),
      ("original_architecture", .string("GPT2LMHeadModel")), ("positional_embedding_type", .string("standard")),
      ("scale_attn_by_inverse_layer_idx", .bool(configuration.scalesAttentionByInverseBlock)),
      ("use_attn_scale", .bool(configuration.scalesAttention)),
    ]
    return .object(members.map { JSONValue.Member(key: $0.0, value: $0.1) })
  }
}
