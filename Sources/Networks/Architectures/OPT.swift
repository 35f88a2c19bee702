import NormFoldFormats

extension Architecture {
  /// OPT (arXiv 2205.01068), as Hugging Face's OPTForCausalLM computes it with its norms before attention and MLP. Where a key
  /// of the config is missing, what the class OPTConfig says counts. No key says the epsilon of the norms.
  package static let opt: Architecture = .init(
    name: "OPT", modelType: "opt", className: "OPTForCausalLM", normKind: .layer, configuration: OPT.configuration,
    carriedKeys: ["init_std", "prefix"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: OPT.layout,
    describe: { network, sizes in
      sizes.own["enable_bias"] = .bool(network[linear: "blocks.0.mlp.input"]?.bias != nil)
    },
    forward: { sizes, b in
      let tokens = b.embed(by: .token, at: "embedding.tokens")
      var x = b.add(tokens, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block) }
      b.head(of: x)
    })
}

private enum OPT {
  static let configuration: ConfigurationTable = .init([
    .only(
      "do_layer_norm_before", .bool(true),
      because: "norms behind attention and MLP change the residual stream itself and cannot be folded"),
    .only("_remove_final_layer_norm", .bool(false), because: "a network without its last norm is not supported"),
    .only("layer_norm_elementwise_affine", .bool(true), because: "norms without gains and biases are not supported"),
    .init("word_embed_proj_dim", read: refuseProjections, write: { .number($0[.model]) }),
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_hidden_layers", .blocks), .size("hidden_size", .model), .size("ffn_dim", .hidden),
    .size("max_position_embeddings", .context), .size("vocab_size", .vocabulary),
    .activation("activation_function", usual: .relu), .tied(usual: true), .flag("enable_bias", usual: true),
    .endOfText(), .constant("activation_dropout", .number(0.0)), .constant("attention_dropout", .number(0.0)),
    .constant("dropout", .number(0.0)), .constant("layerdrop", .number(0.0)), .constant("use_cache", .bool(true)),
  ])

  /// - Throws: `.unsupported` where embeddings are narrower than the residual stream, and projected.
  @Sendable private static func refuseProjections(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    guard let width = try fields.count("word_embed_proj_dim"), let model = try fields.count("hidden_size"),
      width != model
    else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: "word_embed_proj_dim",
      "expected \(model), the hidden_size, found \(width): embeddings that are projected are not supported")
  }

  /// OPT as Hugging Face stores it, without the prefix `model.`, which files of the decoder alone do not have: Linear
  /// matrices [out, in], a map each. Two rows of the table of positions stand before that of the first.
  static let layout: Layout = .init(
    name: "Hugging Face OPT", prefix: "model.", positionOffset: 2,
    [
      [
        .table("decoder.embed_tokens.weight", "embedding.tokens", rows: .vocabulary),
        .table("decoder.embed_positions.weight", "embedding.positions", rows: .positions),
      ],
      SlotPattern.norm("decoder.layers.#.self_attn_layer_norm", "blocks.#.attention.norm"),
      linear("self_attn.q_proj", "attention.query", from: .model, to: .heads),
      linear("self_attn.k_proj", "attention.key", from: .model, to: .heads),
      linear("self_attn.v_proj", "attention.value", from: .model, to: .heads),
      linear("self_attn.out_proj", "attention.output", from: .heads, to: .model),
      SlotPattern.norm("decoder.layers.#.final_layer_norm", "blocks.#.mlp.norm"),
      linear("fc1", "mlp.input", from: .model, to: .hidden), linear("fc2", "mlp.output", from: .hidden, to: .model),
      SlotPattern.norm("decoder.final_layer_norm", "final.norm"),
      SlotPattern.unembedding("lm_head", bias: nil),
    ])

  private static func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
    SlotPattern.linear(
      "decoder.layers.#.\(name)", "blocks.#.\(path)", from: input, to: output, biasPresence: .ifSaid("enable_bias"))
  }
}
