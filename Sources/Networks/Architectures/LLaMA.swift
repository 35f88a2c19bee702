import NormFoldFormats

extension Architecture {
  /// LLaMA (arXiv 2302.13971), as Hugging Face's LlamaForCausalLM computes it. Where a key of the config is missing, what
  /// the class LlamaConfig says counts.
  package static let llama: Architecture = .init(
    name: "LLaMA", modelType: "llama", className: "LlamaForCausalLM", normKind: .rms,
    configuration: LLaMA.configuration, carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: LLaMA.layout,
    gguf: RotaryDecoder.gguf("llama", layout: LLaMA.ggufLayout, rotaryDivisors: LLaMA.rotaryDivisors),
    reading: LLaMA.reading,
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
      sizes.own["mlp_bias"] = .bool(network[linear: "blocks.0.mlp.input"]?.bias != nil)
    },
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block) }
      b.head(of: x)
    })
}

private enum LLaMA {
  static let configuration: ConfigurationTable = .init(
    RotaryDecoder.sizes(context: nil) + [
      // Of checkpoints that were trained with LayerNorm Scaling; then what the class LlamaConfig takes.
      .init(
        "max_sequence_length",
        read: { (fields, sizes) throws(Refusal) in
          let trained = try fields.count("max_sequence_length")
          if sizes.stated(.context) == nil {
            sizes.statements.append(.init(key: "max_sequence_length", size: .context, value: trained ?? 2_048))
          }
        }),
      .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: false),
    ] + ConfigurationTable.Key.rotary(usualBase: 10_000) + [
      .flag("attention_bias", usual: false), .flag("mlp_bias", usual: false), .endOfText(),
      .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
    ])

  /// LLaMA as Hugging Face stores it, without the prefix `model.`: Linear matrices [out, in], a map each. `lm_head` is
  /// absent where it is tied.
  static let layout: Layout = .init(
    name: "Hugging Face LLaMA", prefix: "model.", buffers: RotaryDecoder.buffers,
    RotaryDecoder.tensors(
      .huggingFace,
      biases: .init(
        inputs: .ifSaid("attention_bias"), output: .ifSaid("attention_bias"), mlp: .ifSaid("mlp_bias"))))

  /// LLaMA as llama.cpp stores it. Its rotary positions rotate neighbouring features, so the rows of queries and keys stand
  /// in another order than Hugging Face's.
  static let ggufLayout: Layout = .init(
    name: "GGUF llama",
    buffers: [(start: rotaryDivisors, end: "", rule: "factors of rotary frequencies")],
    RotaryDecoder.tensors(
      .gguf, pairs: [.head, .pair, .side], biases: .init(inputs: .perhaps, output: .perhaps, mlp: .perhaps)))

  /// The name of the tensor with the numbers that llama.cpp divides the frequencies of rotary positions by.
  static let rotaryDivisors = "rope_freqs.weight"

  // MARK: LayerNorm Scaling

  static let reading: StorageForm.Reading = .init(check: refuseNormsBehindBranches, complete: takeBranchScales)

  /// - Throws: `.unsupported` for the norms of other types in lmsdss/LayerNorm-Scaling, which stand behind a branch or are
  ///   chosen among by a router.
  @Sendable private static func refuseNormsBehindBranches(
    _ tensors: NamedTensors, _ sizes: Hyperparameters
  ) throws(Refusal) {
    for (part, reason) in [
      (".post_feedforward_layernorm.", "is a norm behind a branch (post, deeppost, sandwich, Mix-LN)"),
      (".pre_feedforward_layernorm.", "belongs to a layer with norms behind its branches (sandwich)"),
      (".router.", "chooses between norms token by token (mono)"),
    ] {
      guard let name = tensors.names.filter({ $0.contains(part) }).min() else { continue }
      throw Refusal(
        .unsupported, file: tensors.checkpoint.path, subject: name,
        reason + ": it changes what joins the residual stream, and no map reads that alone",
        advice: "only norms before a branch can be folded")
    }
  }

  /// Takes the learned factors on the branches of a LLaMA that lmsdss/LayerNorm-Scaling trained with the norm type
  /// `scale_res_pre_norm`: one number each.
  ///
  /// - Throws: `.malformed` for one that is missing or no single number, `.unsupported` for an integer, `.nonFinite` for one
  ///   that is no number at all.
  @Sendable private static func takeBranchScales(
    _ tensors: inout NamedTensors, _ sizes: inout Hyperparameters
  ) throws(Refusal) {
    guard tensors.names.contains(where: { $0.contains(".raw_scaling_factor_") }) else { return }
    let file = tensors.checkpoint.path
    for block in 0..<sizes.blockCount {
      for (branch, path) in [("attn", "attention"), ("mlp", "mlp")] {
        let name = "layers.\(block).raw_scaling_factor_\(branch)"
        guard let tensor = tensors.take(name) else {
          throw Refusal(
            .malformed, file: file, subject: name, "this tensor is missing, and other branches have theirs",
            advice: "the checkpoint is incomplete")
        }
        try tensor.requireWeights(in: file)
        guard tensor.info.elementCount == 1 else {
          throw Refusal(
            .malformed, file: file, subject: tensor.name, "expected one number, found shape \(tensor.shape)")
        }
        let value = tensor.decoded(as: Double.self)[0]
        guard value.isFinite else { throw Refusal(.nonFinite, file: file, subject: tensor.name, "is \(value)") }
        sizes.outputScales["blocks.\(block).\(path).output"] = value
      }
    }
  }
}
