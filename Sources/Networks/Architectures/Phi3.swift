import NormFoldFormats

extension Architecture {
  /// Phi-3 (arXiv 2404.14219), as Hugging Face's Phi3ForCausalLM computes it: a LLaMA with fused matrices, which may look back over
  /// a window only. Positions of type `longrope` are refused.
  package static let phi3: Architecture = .init(
    name: "Phi-3", modelType: "phi3", className: "Phi3ForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 4_096) + [
        .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-5), .tied(usual: false),
      ] + ConfigurationTable.Key.rotary(usualBase: 10_000, hasShare: true) + RotaryDecoder.slidingWindow(usual: nil) + [
        .endOfText(), .constant("attention_dropout", .number(0.0)), .constant("embd_pdrop", .number(0.0)),
        .constant("resid_pdrop", .number(0.0)), .constant("use_cache", .bool(true)),
      ]),
    carriedKeys: ["initializer_range", "original_max_position_embeddings"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Phi-3", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(
        .huggingFace.fusing(attention: "self_attn.qkv_proj", gate: "mlp.gate_up_proj"))),
    gguf: RotaryDecoder.gguf(
      "phi3",
      layout: .init(name: "GGUF phi3", RotaryDecoder.tensors(.gguf.fusing(attention: "attn_qkv", gate: "ffn_up"))),
      rotatesWholeHeads: false,
      // Versions of llama.cpp refuse a file that does not say that there is no window.
      ownKeys: [.init("attention.sliding_window", .count, write: { _ in .number(0) })]),
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount {
        x = b.block(of: x, number: block, mask: sizes.causalMask(block: block))
      }
      b.head(of: x)
    })
}
