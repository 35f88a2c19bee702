import NormFoldFormats

extension Architecture {
  /// OLMo 2 (arXiv 2501.00656), as Hugging Face's Olmo2ForCausalLM computes it: norms stand behind the branches, where a sum
  /// reads them, and on all queries and all keys, where a rotation does. Of all gains the last one alone can be folded.
  package static let olmo2: Architecture = .init(
    name: "OLMo 2", modelType: "olmo2", className: "Olmo2ForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 2_048) + [
        .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-5), .tied(usual: false),
      ] + ConfigurationTable.Key.rotary(usualBase: 10_000) + [
        .flag("attention_bias", usual: false), .endOfText(), .constant("attention_dropout", .number(0.0)),
        .constant("use_cache", .bool(true)),
      ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face OLMo 2", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(
        .huggingFace, biases: .init(inputs: .ifSaid("attention_bias"), output: .ifSaid("attention_bias")),
        norms: OLMo2.norms(
          "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm", "post_feedforward_layernorm"))),
    gguf: RotaryDecoder.gguf(
      "olmo2",
      layout: .init(
        name: "GGUF olmo2",
        RotaryDecoder.tensors(
          .gguf, norms: OLMo2.norms("attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm")))),
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
    },
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block) }
      b.head(of: x)
    })
}

private enum OLMo2 {
  static func norms(
    _ query: String, _ key: String, _ attention: String, _ mlp: String
  ) -> [RotaryDecoder.BlockNorm] {
    [
      (query, "attention.query.norm", .heads), (key, "attention.key.norm", .keyValueHeads),
      (attention, "attention.output.norm", .model), (mlp, "mlp.output.norm", .model),
    ]
  }
}
