import NormFoldFormats

extension Architecture {
  /// Gemma 2 (arXiv 2408.00118), as Hugging Face's Gemma2ForCausalLM computes it: a Gemma with norms behind both branches, too,
  /// whose scores and logits are capped, and which looks back over a window in every other block.
  package static let gemma2: Architecture = .init(
    name: "Gemma 2", modelType: "gemma2", className: "Gemma2ForCausalLM", normKind: .rms,
    configuration: .init(
      RotaryDecoder.sizes(context: 8_192, keyValueHeads: 4, headWidth: 256) + Gemma2.activation
        + [.epsilon("rms_norm_eps", usual: 1e-6), .tied(usual: true)]
        + ConfigurationTable.Key.rotary(usualBase: 10_000)
        + RotaryDecoder.slidingWindow(usual: 4_096, blocks: .everyOther, listsLayers: true) + [
          Gemma2.scale, Gemma2.cap(Gemma2.scores, usual: 50), Gemma2.cap(Gemma2.logits, usual: 30),
          .flag("attention_bias", usual: false), Gemma.causal, .endOfText(),
          .constant("attention_dropout", .number(0.0)), .constant("use_cache", .bool(true)),
        ]),
    carriedKeys: ["initializer_range"],
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: .init(
      name: "Hugging Face Gemma 2", prefix: "model.", buffers: RotaryDecoder.buffers,
      RotaryDecoder.tensors(
        .huggingFace, biases: .init(inputs: .ifSaid("attention_bias"), output: .ifSaid("attention_bias")),
        norms: Gemma2.norms(
          "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
        offset: 1)),
    // Whole gains, and no unembedding of its own.
    gguf: RotaryDecoder.gguf(
      "gemma2",
      layout: .init(
        name: "GGUF gemma2",
        RotaryDecoder.tensors(
          .gguf, norms: Gemma2.norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), hasHead: false)),
      activation: .geluTanh, ownKeys: Gemma2.ggufKeys, hasWindow: true),
    describe: { network, sizes in
      sizes.own["attention_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
      sizes.own[Gemma2.scores] = network.attentions.first?.attention.softCap.map { .number($0) } ?? .null
      sizes.own[Gemma2.logits] = network.logitCap.map { .number($0) } ?? .null
    },
    forward: { sizes, b in
      let tokens = b.embed(by: .token, at: "embedding.tokens")
      var x = b.apply(.scale(Double(sizes.dModel).squareRoot()), to: tokens, at: "embedding")
      for block in 0..<sizes.blockCount {
        x = b.block(
          of: x, number: block, attentionScale: 1 / Gemma2.scaledWidth(sizes).squareRoot(),
          attentionCap: sizes.own[Gemma2.scores]?.double, mask: sizes.causalMask(block: block))
      }
      b.head(of: x, softCap: sizes.own[Gemma2.logits]?.double)
    })
}

private enum Gemma2 {
  static let scores = "attn_logit_softcapping"
  static let logits = "final_logit_softcapping"
  private static let scaleKey = "query_pre_attn_scalar"

  static func norms(
    _ attention: String, _ behindAttention: String, _ mlp: String, _ behindMLP: String
  ) -> [RotaryDecoder.BlockNorm] {
    [
      (attention, "attention.norm", .model), (behindAttention, "attention.output.norm", .model),
      (mlp, "mlp.norm", .model), (behindMLP, "mlp.output.norm", .model),
    ]
  }

  /// The number whose root scores are divided by. llama.cpp has no key for it: to it a network of 46 blocks is the one of
  /// 27B, whose number is the share of a head in the stream, and that of all others is the width of a head.
  static func scaledWidth(_ sizes: Hyperparameters) -> Double {
    sizes.own[scaleKey]?.double ?? Double(sizes.blockCount == 46 ? sizes.dModel / sizes.headCount : sizes.dHead)
  }

  static let scale: ConfigurationTable.Key = .init(
    scaleKey, .number,
    read: { (fields, sizes) throws(Refusal) in
      sizes.own[scaleKey] = .number(try fields.positiveNumber(scaleKey, usual: 256))
    },
    // The class takes whole numbers.
    write: { sizes in
      let width = scaledWidth(sizes)
      return width == width.rounded() && width < 1e9 ? JSONValue.number(Int(width)) : JSONValue.number(width)
    })

  /// The key of a bound that scores or logits stay below: null is no cap.
  static func cap(_ key: String, usual: Double) -> ConfigurationTable.Key {
    .init(
      key, .number,
      read: { (fields, sizes) throws(Refusal) in
        if let value = fields[key], value.isNull { return }
        sizes.own[key] = .number(try fields.positiveNumber(key, usual: usual))
      },
      write: { $0.own[key] ?? .null })
  }

  static let ggufKeys: [ConfigurationTable.Key] = [
    .init(
      "attention.sliding_window", .count,
      read: { (fields, sizes) throws(Refusal) in
        let width = try fields.count("attention.sliding_window") ?? 4_096
        if width > 0, width < sizes.stated(.context) ?? 0 { sizes.window = .init(width: width, blocks: .everyOther) }
      },
      write: { .number($0.window?.width ?? $0.contextLength) }),
    cap(scores, usual: 50), cap(logits, usual: 30),
  ]

  /// The class has its activation under a key of its own.
  static let activation: [ConfigurationTable.Key] = [
    .init(
      "hidden_activation",
      read: { (fields, sizes) throws(Refusal) in
        sizes.activation = try fields.activation("hidden_activation", usual: .geluTanh)
      },
      write: { .string($0.activation == .geluTanh ? "gelu_pytorch_tanh" : $0.activation.configName) })
  ]
}
