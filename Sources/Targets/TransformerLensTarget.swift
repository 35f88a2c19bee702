import NormFoldFormats
import NormFoldNetworks

/// TransformerLens: a state dict and a config that HookedTransformer takes as they are, with `normalization_type` null.
package struct TransformerLensTarget: Target {
  package init() {}

  package var name: String { "transformer-lens" }
  package var summary: String { "TransformerLens's HookedTransformer, normalization_type None; no norms" }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
  package var normKinds: Set<Norm.Kind> { [] }

  package func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> { [] }
  package func leavesNorms(_ network: Network, from source: TargetSource) -> Bool { false }

  package func output(
    of network: Network, from source: TargetSource, options: TargetOptions
  ) throws(Refusal) -> TargetOutput {
    let type = options.type
    let architecture = Architecture.gpt2
    var sizes = architecture.hyperparameters(of: network, from: source.hyperparameters)
    sizes.outputScales = [:]
    if let kept = network.norms.first, source.architecture == architecture {
      throw Refusal(
        .unsupported, subject: kept.norm.name,
        "is still a norm, and the target \(name) has one normalization_type for all of them, None",
        advice: "finish the removal, or use \(.targets, "transformers")")
    }
    guard let held = architecture.network(sizes, parametersOf: network), held.firstDifference(from: network) == nil
    else {
      throw Refusal(
        .unsupported, subject: name,
        "writes \(architecture.name) only, and this is \(source.architecture.nameWithArticle)",
        advice: "use \(.targets, "transformers")")
    }
    let configuration = try network.transformerLensConfiguration(sizes, target: name)
    let layout = Layout.transformerLens
    let stored = Dictionary(
      uniqueKeysWithValues: layout.tensors(of: network, sizes: sizes).map { ($0.slot.name, $0.value) })
    let parameters = layout.slots(blockCount: network.blockCount).map { slot in
      // The class has every bias; where the network has none it is zero.
      let shape = layout.storedShape(of: slot, in: sizes)
      return TargetOutput.StoredParameter(
        info: TensorInfo(name: slot.name, type: type, shape: shape),
        value: stored[slot.name] ?? .constant(0, shape: [shape.reduce(1, *)]))
    }
    let tokenizer = try source.tokenizerFiles()
    return TargetOutput(
      safetensors: parameters, maximumByteCount: .max,
      // HookedTransformer is told how to generate when it is called.
      sideFiles: tokenizer.filter { $0.name != "generation_config.json" } + [
        ("config.json", Array(configuration.text.utf8))
      ], notes: source.notes(onTokenizerFiles: tokenizer))
  }
}

extension Network {
  /// The arguments of HookedTransformerConfig, by name.
  ///
  /// - Throws: `.unsupported` for an activation that HookedTransformer does not have.
  fileprivate func transformerLensConfiguration(
    _ sizes: Hyperparameters, target: String
  ) throws(Refusal) -> JSONValue {
    let activation = sizes.activation
    guard let activationName = activation.transformerLensName else {
      throw Refusal(
        .unsupported, subject: activation.configName, "the target \(target) has no such activation",
        advice: "use \(.targets, "transformers")")
    }
    let members: [(String, JSONValue)] = [
      ("act_fn", .string(activationName)), ("d_head", .number(sizes.dHead)), ("d_mlp", .number(sizes[.hidden])),
      ("d_model", .number(sizes.dModel)), ("d_vocab", .number(vocabularySize)),
      // The models were trained on texts that follow each other, not on one that begins with a token of its own.
      ("default_prepend_bos", .bool(false)),
      ("n_ctx", .number(contextLength)), ("n_heads", .number(sizes.headCount)),
      ("n_layers", .number(blockCount)), ("normalization_type", .null),
      ("original_architecture", .string("GPT2LMHeadModel")), ("positional_embedding_type", .string("standard")),
      ("scale_attn_by_inverse_layer_idx", .bool(sizes.flag("scale_attn_by_inverse_layer_idx") ?? false)),
      ("use_attn_scale", .bool(sizes.flag("scale_attn_weights") ?? true)),
    ]
    return .object(members.map { JSONValue.Member(key: $0.0, value: $0.1) })
  }
}
