import NormFoldFormats

extension Architecture {
  /// Gemma (arXiv 2403.08295), as Hugging Face's GemmaForCausalLM computes it: gains are stored less one, and the embedding
  /// is multiplied by the root of its width before the first block, but not where it is the unembedding.
  ///
  /// The root is exact here. transformers rounds it to the type that it computes in.
  package static let gemma: Architecture = .init(
    name: "Gemma", modelType: "gemma", className: "GemmaForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 8_192, keyValueHeads: 16, headWidth: 256) + Gemma.activation
        + [.epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: true)]
        + ConfigurationTable.Key.rotary(usualBase: 10_000) + [
          .flag("attention_bias", usual: false), Gemma.causal, .endOfText(),
          .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
        ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Gemma", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(
        .huggingFace, biases: .init(inputs: .ifSaid("attention_bias"), output: .ifSaid("attention_bias")), offset: 1)),
    // Whole gains, and no unembedding of its own.
    gguf: RotaryDecoder.gguf(
      "gemma", layout: .init(name: "GGUF gemma", RotaryDecoder.tensors(.gguf, hasHead: false)), activation: .geluTanh),
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
    },
    forward: { sizes, b in
      let tokens = b.embed(by: .token, at: "embedding.tokens")
      var x = b.apply(.scale(Double(sizes.dModel).squareRoot()), to: tokens, at: "embedding")
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block) }
      b.head(of: x)
    })
}

enum Gemma {
  /// The activation under the keys of transformers 5 and of versions before, in the word that programs look for.
  static let activation: [ConfigurationTable.Key] = [
    .init(
      "hidden_act",
      read: { (fields, sizes) throws(Refusal) in
        sizes.activation = try fields.activation("hidden_act", usual: .geluTanh)
      }, write: word),
    .init("hidden_activation", write: word),
  ]

  private static let word: @Sendable (Hyperparameters) -> JSONValue? = {
    .string($0.activation == .geluTanh ? "gelu_pytorch_tanh" : $0.activation.configName)
  }

  /// Refuses attention that looks ahead.
  static let causal: ConfigurationTable.Key = .init(
    "use_bidirectional_attention",
    read: { (fields, _) throws(Refusal) in
      guard try fields.bool("use_bidirectional_attention") == true else { return }
      throw Refusal(
        .unsupported, file: fields.path, subject: "use_bidirectional_attention",
        "expected false, found true: only attention that does not look ahead is supported")
    })
}
