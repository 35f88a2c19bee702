import Formats

extension Architecture {
  /// LLaMA (arXiv 2302.13971), as Hugging Face's LlamaForCausalLM computes it. Where a key of the config is missing, what
  /// the class LlamaConfig says counts.
  package static let llama: Architecture = .init(
    name: "LLaMA", modelType: "llama", className: "LlamaForCausalLM", normKind: .rms,
    configuration: LLaMA.configuration, carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: LLaMA.layout,
    gguf: GGUFDescription(
      architecture: "llama", configuration: LLaMA.ggufConfiguration, layout: LLaMA.ggufLayout, activation: .silu,
      check: LLaMA.checkGGUF),
    reading: LLaMA.reading,
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
      sizes.own["mlp_bias"] = .bool(network[linear: "blocks.0.mlp.input"]?.bias != nil)
    },
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount { x = b.preNormBlock(of: x, block: block) }
      b.head(of: x)
    })
}

extension Tensor {
  /// Whether it is a vector of ones, as long as the pairs of features of any head at most.
  fileprivate var isAllOnes: Bool {
    shape.count == 1 && info.elementCount < 1 << 20 && info.type.isDecodable
      && decoded(as: Double.self).allSatisfy { $0 == 1 }
  }
}

private enum LLaMA {
  static let configuration: ConfigurationTable = .init([
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_key_value_heads", .keyValueHeads), .size("head_dim", .headWidth), .size("num_hidden_layers", .blocks),
    .size("hidden_size", .model), .size("intermediate_size", .hidden), .size("max_position_embeddings", .context),
    // Of checkpoints that were trained with LayerNorm Scaling; then what the class LlamaConfig takes.
    .init(
      "max_sequence_length",
      read: { (fields, sizes) throws(Refusal) in
        let trained = try fields.count("max_sequence_length")
        if sizes.stated(.context) == nil {
          sizes.statements.append(.init(key: "max_sequence_length", size: .context, value: trained ?? 2_048))
        }
      }),
    .size("vocab_size", .vocabulary), .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-6),
    .tied(usual: false), .rotaryBase("rope_theta", usual: 10_000),
    // Both spellings of the base: transformers moved it into an object.
    .init(
      "rope_parameters", read: readRotary,
      write: { sizes in
        sizes.rotaryBase.map { .object(["rope_theta": .number($0), "rope_type": .string("default")]) }
      }),
    .flag("attention_bias", usual: false), .flag("mlp_bias", usual: false), .endOfText(),
    .init(
      "num_attention_heads", read: { (_, sizes) throws(Refusal) in try sizes.requireEvenGroups() }),
    .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
  ])

  /// Reads the keys of transformers 5 (`rope_parameters`) and of versions before it.
  ///
  /// - Throws: `.unsupported` for any type but the plain one, and for heads that are rotated in part.
  private static func readRotary(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    for inner in try fields.rotaryObjects() {
      sizes.rotaryBase = try inner.positiveNumber("rope_theta", usual: sizes.rotaryBase)
      try requireWholeHeads(inner)
    }
    try requireWholeHeads(fields)
  }

  private static func requireWholeHeads(_ fields: Fields) throws(Refusal) {
    guard let share = fields["partial_rotary_factor"], !share.isNull, share.double != 1 else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: "partial_rotary_factor",
      "expected 1, found \(share.kind): only heads that are rotated whole are supported")
  }

  /// LLaMA as Hugging Face stores it, without the prefix `model.`: Linear matrices [out, in], a map each. `lm_head` is
  /// absent where it is tied.
  static let layout: Layout = .init(
    name: "Hugging Face LLaMA", prefix: "model.",
    buffers: [(start: "layers.", end: ".rotary_emb.inv_freq", rule: "rotary frequencies buffer")],
    tensors(
      embedding: "embed_tokens.weight", block: "layers.#", attentionNorm: "input_layernorm", query: "self_attn.q_proj",
      key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.o_proj",
      mlpNorm: "post_attention_layernorm", gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
      finalNorm: "norm", head: "lm_head", pairs: [.part, .output],
      biases: (.ifSaid("attention_bias"), .ifSaid("mlp_bias")))
  )

  /// LLaMA as llama.cpp stores it. Its rotary positions rotate neighbouring features, so the rows of queries and keys stand
  /// in another order than Hugging Face's.
  static let ggufLayout: Layout = .init(
    name: "GGUF llama",
    buffers: [(start: rotaryFactors, end: "", rule: "factors of rotary frequencies, all of them 1")],
    tensors(
      embedding: "token_embd.weight", block: "blk.#", attentionNorm: "attn_norm", query: "attn_q", key: "attn_k",
      value: "attn_v", output: "attn_output", mlpNorm: "ffn_norm", gate: "ffn_gate", up: "ffn_up", down: "ffn_down",
      finalNorm: "output_norm", head: "output", pairs: [.head, .pair, .side], biases: (.perhaps, .perhaps)))

  private static func tensors(
    embedding: String, block: String, attentionNorm: String, query: String, key: String, value: String, output: String,
    mlpNorm: String, gate: String, up: String, down: String, finalNorm: String, head: String, pairs: [Factor],
    biases: (attention: Slot.Presence, mlp: Slot.Presence)
  ) -> [[SlotPattern]] {
    func attention(
      _ name: String, _ path: String, from input: Extent, to output: Extent, factors: [Factor] = [.part, .output]
    ) -> [SlotPattern] {
      SlotPattern.linear(
        "\(block).\(name)", "blocks.#.attention.\(path)", from: input, to: output, output: factors,
        biasPresence: biases.attention)
    }
    func mlp(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
      SlotPattern.linear(
        "\(block).\(name)", "blocks.#.mlp.\(path)", from: input, to: output, biasPresence: biases.mlp)
    }
    return [
      [.table(embedding, "embedding.tokens", rows: .vocabulary)],
      SlotPattern.norm("\(block).\(attentionNorm)", "blocks.#.attention.norm", hasBias: false),
      attention(query, "query", from: .model, to: .heads, factors: pairs),
      attention(key, "key", from: .model, to: .keyValueHeads, factors: pairs),
      attention(value, "value", from: .model, to: .keyValueHeads),
      attention(output, "output", from: .heads, to: .model),
      SlotPattern.norm("\(block).\(mlpNorm)", "blocks.#.mlp.norm", hasBias: false),
      mlp(gate, "gate", from: .model, to: .hidden), mlp(up, "input", from: .model, to: .hidden),
      mlp(down, "output", from: .hidden, to: .model),
      SlotPattern.norm(finalNorm, "final.norm", hasBias: false),
      SlotPattern.unembedding(head, bias: nil),
    ]
  }

  // MARK: GGUF

  static let ggufConfiguration: ConfigurationTable = .init([
    .size("context_length", .context, required: ""), .size("embedding_length", .model),
    .size("feed_forward_length", .hidden), .size("block_count", .blocks),
    .size("attention.head_count", .heads, required: ""), .size("vocab_size", .vocabulary),
    .size("attention.head_count_kv", .keyValueHeads), .size("attention.key_length", .headWidth),
    .init("attention.value_length", .count, write: { .number($0.dHead) }),
    .init("rope.dimension_count", .count, write: { .number($0.dHead) }),
    .epsilon("attention.layer_norm_rms_epsilon", usual: nil), .rotaryBase("rope.freq_base", usual: 10_000),
  ])

  /// - Throws: `.unsupported` for experts and scaled rotary positions; `.malformed` for heads that do not divide.
  @Sendable static func checkGGUF(_ checkpoint: Checkpoint, _ sizes: Hyperparameters) throws(Refusal) {
    let fields = Fields(metadataOf: checkpoint, prefix: "llama.")
    let path = checkpoint.path
    if let count = try fields.count("expert_count"), count > 0 {
      throw Refusal(
        .unsupported, file: path, subject: "llama.expert_count", "\(count) experts: only dense MLPs are supported")
    }
    if let factors = checkpoint[rotaryFactors], !factors.isAllOnes {
      throw .scaledRotary("llama3", file: path, subject: rotaryFactors)
    }
    try sizes.requireEvenGroups()
    let width =
      sizes.stated(.headWidth) ?? sizes.stated(.model).flatMap { model in sizes.stated(.heads).map { model / $0 } }
    if let width, let rotated = try fields.count("rope.dimension_count"), rotated != width {
      throw Refusal(
        .unsupported, file: path, subject: "llama.rope.dimension_count",
        "\(rotated) of the \(width) features of a head are rotated; only all of them are supported")
    }
  }

  /// What llama.cpp divides the frequencies of rotary positions by.
  private static let rotaryFactors = "rope_freqs.weight"

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
