import NormFoldFormats

extension Architecture {
  /// Qwen3 (arXiv 2505.09388), as Hugging Face's Qwen3ForCausalLM computes it: a LLaMA that norms each head of queries and
  /// keys before it rotates it. The gains of these norms stay: what reads them is a rotation.
  package static let qwen3: Architecture = .init(
    name: "Qwen3", modelType: "qwen3", className: "Qwen3ForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 32_768, keyValueHeads: 32, headWidth: 128) + [
        .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: false),
      ] + ConfigurationTable.Key.rotary(usualBase: 10_000)
        + RotaryDecoder.slidingWindow(
          usual: 4_096, switchedBy: "use_sliding_window", blocks: nil, listsLayers: true) + [
          .flag("attention_bias", usual: false), .endOfText(), .constant("attention_dropout", .number(0.0)),
          .constant("use_cache", .bool(true)),
        ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Qwen3", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(
        .huggingFace, biases: .init(inputs: .ifSaid("attention_bias"), output: .ifSaid("attention_bias")),
        norms: RotaryDecoder.Names.huggingFace.preNorms + Qwen3.norms("self_attn.q_norm", "self_attn.k_norm"))),
    gguf: RotaryDecoder.gguf(
      "qwen3",
      layout: .init(
        name: "GGUF qwen3",
        RotaryDecoder.tensors(
          .gguf, norms: RotaryDecoder.Names.gguf.preNorms + Qwen3.norms("attn_q_norm", "attn_k_norm")))),
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
    },
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount {
        x = b.block(of: x, number: block, normsHeads: true, mask: sizes.causalMask(block: block))
      }
      b.head(of: x)
    })
}

private enum Qwen3 {
  static func norms(_ query: String, _ key: String) -> [RotaryDecoder.BlockNorm] {
    [(query, "attention.query.norm", .head), (key, "attention.key.norm", .head)]
  }
}
