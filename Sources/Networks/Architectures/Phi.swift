import NormFoldFormats

extension Architecture {
  /// Phi (arXiv 2306.11644), as Hugging Face's PhiForCausalLM computes it: attention and MLP read one norm of the stream that
  /// enters the block, and the unembedding has a bias. Where a key of the config is missing, what the class PhiConfig says
  /// counts.
  package static let phi: Architecture = .init(
    name: "Phi", modelType: "phi", className: "PhiForCausalLM", normKind: .layer, configuration: Phi.configuration,
    carriedKeys: ["initializer_range"],
    // All of them are said: PhiConfig has tokens of its own for those that are missing.
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: Phi.layout,
    gguf: GGUFDescription(
      architecture: "phi2", configuration: Phi.ggufConfiguration, layout: Phi.ggufLayout, activation: .geluTanh,
      check: { (_, sizes) throws(Refusal) in try sizes.requireEvenGroups() }),
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount {
        x = b.block(of: x, number: block, form: .parallelBehindOneNorm)
      }
      b.head(of: x)
    })
}

private enum Phi {
  static let configuration: ConfigurationTable = .init([
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_key_value_heads", .keyValueHeads), .size("num_hidden_layers", .blocks), .size("hidden_size", .model),
    .size("intermediate_size", .hidden), .size("max_position_embeddings", .context, usual: 2_048),
    .size("vocab_size", .vocabulary), .activation("hidden_act", usual: .geluTanh),
    .epsilon("layer_norm_eps", usual: 1e-5), .tied(usual: false), .rotaryBase("rope_theta", usual: 10_000),
    .rotaryShare("partial_rotary_factor", usual: 0.5), .rotaryParameters,
    .only("qk_layernorm", .bool(false), because: "norms of queries and keys are not supported yet"), .endOfText(),
    .init("num_attention_heads", read: { (_, sizes) throws(Refusal) in try sizes.requireEvenGroups() }),
    .constant("attention_dropout", .number(0.0)), .constant("embd_pdrop", .number(0.0)),
    .constant("resid_pdrop", .number(0.0)), .constant("use_cache", .bool(true)),
  ])

  /// Phi as Hugging Face stores it, without the prefix `model.`: Linear matrices [out, in], a map each, all with biases.
  static let layout: Layout = .init(
    name: "Hugging Face Phi", prefix: "model.",
    buffers: [(start: "layers.", end: ".rotary_emb.inv_freq", rule: "rotary frequencies buffer")],
    tensors(
      embedding: "embed_tokens.weight", block: "layers.#", norm: "input_layernorm", query: "self_attn.q_proj",
      key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.dense", up: "mlp.fc1", down: "mlp.fc2",
      finalNorm: "final_layernorm")
      + [SlotPattern.unembedding("lm_head", bias: .always)])

  /// Phi as llama.cpp stores it, which rotates the same pairs of features. The unembedding is never left out.
  static let ggufLayout: Layout = .init(
    name: "GGUF phi2",
    tensors(
      embedding: "token_embd.weight", block: "blk.#", norm: "attn_norm", query: "attn_q", key: "attn_k",
      value: "attn_v", output: "attn_output", up: "ffn_up", down: "ffn_down", finalNorm: "output_norm")
      + [SlotPattern.unembedding("output", presence: .always, bias: .always)])

  private static func tensors(
    embedding: String, block: String, norm: String, query: String, key: String, value: String, output: String,
    up: String, down: String, finalNorm: String
  ) -> [[SlotPattern]] {
    func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
      SlotPattern.linear("\(block).\(name)", "blocks.#.\(path)", from: input, to: output)
    }
    return [
      [.table(embedding, "embedding.tokens", rows: .vocabulary)],
      SlotPattern.norm("\(block).\(norm)", "blocks.#.attention.norm"),
      linear(query, "attention.query", from: .model, to: .heads),
      linear(key, "attention.key", from: .model, to: .keyValueHeads),
      linear(value, "attention.value", from: .model, to: .keyValueHeads),
      linear(output, "attention.output", from: .heads, to: .model),
      linear(up, "mlp.input", from: .model, to: .hidden), linear(down, "mlp.output", from: .hidden, to: .model),
      SlotPattern.norm(finalNorm, "final.norm"),
    ]
  }

  static let ggufConfiguration: ConfigurationTable = .init([
    .size("context_length", .context, required: ""), .size("embedding_length", .model),
    .size("feed_forward_length", .hidden), .size("block_count", .blocks),
    .size("attention.head_count", .heads, required: ""), .size("attention.head_count_kv", .keyValueHeads),
    .size("vocab_size", .vocabulary), .epsilon("attention.layer_norm_epsilon", usual: nil),
    .rotaryWidth("rope.dimension_count"), .rotaryBase("rope.freq_base", usual: 10_000),
  ])
}
