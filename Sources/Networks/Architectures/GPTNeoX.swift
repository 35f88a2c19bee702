import NormFoldFormats

extension Architecture {
  /// GPT-NeoX (arXiv 2204.06745), which Pythia is, as Hugging Face's GPTNeoXForCausalLM computes it. Where a key of the config
  /// is missing, what the class GPTNeoXConfig says counts.
  package static let gptNeoX: Architecture = .init(
    name: "GPT-NeoX", modelType: "gpt_neox", className: "GPTNeoXForCausalLM", normKind: .layer,
    configuration: GPTNeoX.configuration, carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText)], layout: GPTNeoX.layout,
    gguf: GGUFDescription(
      architecture: "gptneox", configuration: GPTNeoX.ggufConfiguration, layout: GPTNeoX.ggufLayout,
      activation: .geluTanh),
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.output"]?.bias != nil)
      var read = network.node(at: "blocks.0.mlp.input")?.operands.first
      while let norm = read, network[norm: norm] != nil { read = network.node(at: norm)?.operands.first }
      sizes.own["use_parallel_residual"] = .bool(read != "blocks.0.middle")
    },
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      // Attention and MLP read the same stream, or the MLP reads what attention left.
      let form: BlockForm = sizes.flag("use_parallel_residual") ?? true ? .parallel : .preNorm
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block, form: form) }
      b.head(of: x)
    })
}

private enum GPTNeoX {
  static let configuration: ConfigurationTable = .init([
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_hidden_layers", .blocks), .size("hidden_size", .model), .size("intermediate_size", .hidden),
    .size("max_position_embeddings", .context, usual: 2_048), .size("vocab_size", .vocabulary),
    .activation("hidden_act", usual: .geluErf), .epsilon("layer_norm_eps", usual: 1e-5), .tied(usual: false),
    // The keys of versions before 5 are written: those after it read them, too, and llama.cpp's converter reads no others.
    .rotaryBase("rotary_emb_base", usual: 10_000), .rotaryShare("rotary_pct", usual: 0.25), .rotaryParameters,
    .flag("use_parallel_residual", usual: true), .flag("attention_bias", usual: true), .endOfText(),
    .constant("attention_dropout", .number(0.0)), .constant("hidden_dropout", .number(0.0)),
    .constant("use_cache", .bool(true)),
  ])

  /// Constants that versions of the class saved: causal masks, the number that they masked with, rotary frequencies.
  private static let buffers = [
    (start: "layers.", end: ".attention.bias", rule: "causal mask buffer"),
    (start: "layers.", end: ".attention.masked_bias", rule: "causal mask constant"),
    (start: "layers.", end: ".rotary_emb.inv_freq", rule: "rotary frequencies buffer"),
    (start: "rotary_emb.", end: "inv_freq", rule: "rotary frequencies buffer"),
  ]

  /// GPT-NeoX as Hugging Face stores it, without the prefix `gpt_neox.`: Linear matrices [out, in]. Queries, keys and values
  /// are fused head by head: rows of the queries of the first head, of its keys, of its values, then those of the second.
  static let layout: Layout = .init(
    name: "Hugging Face GPT-NeoX", prefix: "gpt_neox.", buffers: buffers,
    otherNames: ["lm_head.weight": "embed_out.weight"],
    tensors(
      embedding: "embed_in.weight", block: "layers.#", attentionNorm: "input_layernorm",
      fused: "attention.query_key_value", order: [.head, .part, .headFeature], output: "attention.dense",
      mlpNorm: "post_attention_layernorm", up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h",
      finalNorm: "final_layer_norm", attentionBiases: .ifSaid("attention_bias"))
      + [SlotPattern.unembedding("embed_out", bias: nil)])

  /// GPT-NeoX as llama.cpp stores it: queries of all heads, then keys, then values. The unembedding is never left out, nor is
  /// any bias.
  static let ggufLayout: Layout = .init(
    name: "GGUF gptneox",
    tensors(
      embedding: "token_embd.weight", block: "blk.#", attentionNorm: "attn_norm", fused: "attn_qkv",
      order: [.part, .output], output: "attn_output", mlpNorm: "ffn_norm", up: "ffn_up", down: "ffn_down",
      finalNorm: "output_norm", attentionBiases: .always)
      + [SlotPattern.unembedding("output", presence: .always, bias: nil)])

  private static func tensors(
    embedding: String, block: String, attentionNorm: String, fused: String, order: [Factor], output: String,
    mlpNorm: String, up: String, down: String, finalNorm: String, attentionBiases: Slot.Presence
  ) -> [[SlotPattern]] {
    [
      [.table(embedding, "embedding.tokens", rows: .vocabulary)],
      SlotPattern.norm("\(block).\(attentionNorm)", "blocks.#.attention.norm"),
      SlotPattern.linear(
        "\(block).\(fused)", "blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value",
        from: .model, to: .heads, .heads, .heads, output: order, biasPresence: attentionBiases),
      SlotPattern.linear(
        "\(block).\(output)", "blocks.#.attention.output", from: .heads, to: .model, biasPresence: attentionBiases),
      SlotPattern.norm("\(block).\(mlpNorm)", "blocks.#.mlp.norm"),
      SlotPattern.linear("\(block).\(up)", "blocks.#.mlp.input", from: .model, to: .hidden),
      SlotPattern.linear("\(block).\(down)", "blocks.#.mlp.output", from: .hidden, to: .model),
      SlotPattern.norm(finalNorm, "final.norm"),
    ]
  }

  static let ggufConfiguration: ConfigurationTable = .init([
    .size("context_length", .context, required: ""), .size("embedding_length", .model),
    .size("feed_forward_length", .hidden), .size("block_count", .blocks),
    .size("attention.head_count", .heads, required: ""), .size("vocab_size", .vocabulary),
    .flag("use_parallel_residual", usual: true), .epsilon("attention.layer_norm_epsilon", usual: nil),
    .rotaryWidth("rope.dimension_count"), .rotaryBase("rope.freq_base", usual: 10_000),
  ])
}
