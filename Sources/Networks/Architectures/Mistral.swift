import NormFoldFormats

extension Architecture {
  /// Mistral (arXiv 2310.06825), as Hugging Face's MistralForCausalLM computes it: a LLaMA without biases, which may look back
  /// over a window only. llama.cpp stores it as a LLaMA, which has none.
  package static let mistral: Architecture = .init(
    name: "Mistral", modelType: "mistral", className: "MistralForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 131_072, keyValueHeads: 8) + [
        .activation("hidden_act", usual: .silu), .epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: false),
      ] + ConfigurationTable.Key.rotary(usualBase: 10_000) + RotaryDecoder.slidingWindow(usual: 4_096) + [
        .endOfText(), .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
      ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Mistral", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(.huggingFace)),
    forward: { sizes, b in
      var x = b.embed(by: .token, at: "embedding.tokens")
      for block in 0..<sizes.blockCount {
        x = b.block(of: x, number: block, mask: sizes.causalMask(block: block))
      }
      b.head(of: x)
    })
}
