import NormFoldFormats

extension Architecture {
  /// Qwen2 and Qwen2.5 (arXiv 2407.10671), as Hugging Face's Qwen2ForCausalLM computes them: a LLaMA whose queries, keys and
  /// values have biases.
  package static let qwen2: Architecture = .init(
    name: "Qwen2", modelType: "qwen2", className: "Qwen2ForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 32_768, keyValueHeads: 32) + [
        .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: false),
      ] + ConfigurationTable.Key.rotary(usualBase: 10_000)
        + RotaryDecoder.slidingWindow(
          usual: 4_096, switchedBy: "use_sliding_window", blocks: nil, listsLayers: true) + [
          .endOfText(), .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
        ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Qwen2", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(.huggingFace, biases: .init(inputs: .always))),
    gguf: RotaryDecoder.gguf(
      "qwen2",
      layout: .init(name: "GGUF qwen2", RotaryDecoder.tensors(.gguf, biases: .init(inputs: .always)))),
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount {
        x = b.block(of: x, number: block, mask: sizes.causalMask(block: block))
      }
      b.head(of: x)
    })
}
