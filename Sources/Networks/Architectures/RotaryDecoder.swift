import NormFoldFormats

/// The keys of configs and the names of tensors that LLaMA and the architectures that were made after it have in
/// common.
enum RotaryDecoder {
  // MARK: The config

  /// The sizes. Where a key is missing, what the class of transformers says counts.
  ///
  /// - Parameters:
  ///   - keyValueHeads: the usual number of heads of keys and values, which a null does not stand for; nil for that of the
  ///     queries.
  ///   - headWidth: the usual width of a head; nil for its share of the residual stream.
  static func sizes(context: Int?, keyValueHeads: Int? = nil, headWidth: Int? = nil) -> [ConfigurationTable.Key] {
    [
      .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
      .init(
        "num_key_value_heads",
        read: { (fields, sizes) throws(Refusal) in
          let usual = fields["num_key_value_heads"] == nil ? keyValueHeads : nil
          if let count = try fields.count("num_key_value_heads") ?? usual {
            sizes.statements.append(.init(key: "num_key_value_heads", size: .keyValueHeads, value: count))
          }
          try sizes.requireEvenGroups()
        },
        write: { .number($0.keyValueHeadCount) }),
      .size("head_dim", .headWidth, usual: headWidth), .size("num_hidden_layers", .blocks),
      .size("hidden_size", .model), .size("intermediate_size", .hidden),
      .size("max_position_embeddings", .context, usual: context), .size("vocab_size", .vocabulary),
    ]
  }

  /// The keys that say how far attention looks back. A window that covers the context is none.
  ///
  /// - Parameters:
  ///   - usual: the window where the key is missing.
  ///   - switchedBy: the key without which the window does not count; nil where it always does.
  ///   - blocks: the blocks that have it where no `layer_types` say so; nil for those from `max_window_layers` on.
  ///   - listsLayers: whether the class looks at `layer_types`.
  static func slidingWindow(
    usual: Int?, switchedBy flag: String? = nil, blocks: Hyperparameters.Window.Blocks? = .all,
    listsLayers: Bool = false
  ) -> [ConfigurationTable.Key] {
    let window = ConfigurationTable.Key(
      "sliding_window",
      read: { (fields, sizes) throws(Refusal) in
        if let flag, try fields.bool(flag) != true { return }
        let layers = fields["layer_types"]?.array?.map { $0.string == "sliding_attention" }
        if let layers, !layers.contains(true) { return }
        let context = sizes.stated(.context) ?? 0
        let isSaid = fields["sliding_window"] != nil
        guard let width = isSaid ? try fields.count("sliding_window") : usual, width < context else { return }
        guard width > 0 else { throw fields.refusal("sliding_window", expected: "a window of one token or more") }
        let first = try fields.count("max_window_layers") ?? 28
        let usual = blocks ?? .from(first)
        sizes.window = .init(width: width, blocks: listsLayers ? layers.map { .listed($0) } ?? usual : usual)
      },
      write: { sizes in
        if let window = sizes.window { return .number(window.width) }
        return flag == nil ? blocks == .everyOther ? .number(sizes.contextLength) : .null : nil
      })
    let layers = ConfigurationTable.Key(
      "layer_types",
      write: { sizes in
        guard listsLayers, sizes.window != nil || blocks == .everyOther else { return nil }
        let window = sizes.window ?? .init(width: 0, blocks: .everyOther)
        return .array(
          (0..<sizes.blockCount).map { .string(window.includes(block: $0) ? "sliding_attention" : "full_attention") })
      })
    return [window, layers] + (flag.map { [.written($0) { .bool($0.window != nil) }] } ?? [])
  }

  // MARK: Tensors

  /// A norm of the block: its tensor without `.weight`, its path, its width.
  typealias BlockNorm = (tensor: String, path: String, width: Extent)

  struct Names {
    var embedding: String
    var block: String
    var attentionNorm: String
    var query: String
    var key: String
    var value: String
    var output: String
    var mlpNorm: String
    var gate: String
    var up: String
    var down: String
    var finalNorm: String
    var head: String
    /// One matrix of queries, keys and values, one below the other, and one of gate and input, where there are such.
    var fusedAttention: String?
    var fusedGate: String?

    /// The same with fused matrices.
    func fusing(attention: String, gate: String) -> Names {
      var result = self
      (result.fusedAttention, result.fusedGate) = (attention, gate)
      return result
    }

    /// The norms in front of both branches.
    var preNorms: [BlockNorm] { [(attentionNorm, "attention.norm", .model), (mlpNorm, "mlp.norm", .model)] }

    /// The names that Hugging Face transformers gives to the tensors, without the prefix `model.`.
    static let huggingFace: Names = .init(
      embedding: "embed_tokens.weight", block: "layers.#", attentionNorm: "input_layernorm", query: "self_attn.q_proj",
      key: "self_attn.k_proj", value: "self_attn.v_proj", output: "self_attn.o_proj",
      mlpNorm: "post_attention_layernorm", gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
      finalNorm: "norm", head: "lm_head")

    static let gguf: Names = .init(
      embedding: "token_embd.weight", block: "blk.#", attentionNorm: "attn_norm", query: "attn_q", key: "attn_k",
      value: "attn_v", output: "attn_output", mlpNorm: "ffn_norm", gate: "ffn_gate", up: "ffn_up", down: "ffn_down",
      finalNorm: "output_norm", head: "output")
  }

  /// When biases are there; nil where there is no place for one.
  struct Biases {
    /// The biases of queries, keys and values.
    var inputs: Slot.Presence?
    var output: Slot.Presence?
    var mlp: Slot.Presence?
  }

  /// Constants that versions of the classes saved.
  static let buffers = [(start: "layers.", end: ".rotary_emb.inv_freq", rule: "rotary frequencies buffer")]

  /// - Parameters:
  ///   - pairs: the factors of the rows of queries and keys.
  ///   - norms: those of a block; nil for ``Names/preNorms``.
  ///   - offset: what is added to the stored gains.
  ///   - hasHead: whether there is a place for an unembedding of its own.
  static func tensors(
    _ names: Names, pairs: [Factor] = [.part, .output], biases: Biases = .init(), norms: [BlockNorm]? = nil,
    offset: Double = 0, hasHead: Bool = true
  ) -> [[SlotPattern]] {
    func linear(
      _ name: String, _ path: String, from input: Extent, to output: Extent, factors: [Factor] = [.part, .output],
      _ bias: Slot.Presence?
    ) -> [SlotPattern] {
      SlotPattern.linear(
        "\(names.block).\(name)", "blocks.#.\(path)", from: input, to: output, output: factors, biasPresence: bias)
    }
    func ownNorms(of branch: String) -> [SlotPattern] {
      (norms ?? names.preNorms).filter { $0.path.hasPrefix(branch) }.flatMap { norm in
        SlotPattern.norm(
          "\(names.block).\(norm.tensor)", "blocks.#.\(norm.path)", hasBias: false, of: norm.width, offset: offset)
      }
    }
    let attention =
      names.fusedAttention.map { name in
        SlotPattern.linear(
          "\(names.block).\(name)", "blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value",
          from: .model, to: .heads, .keyValueHeads, .keyValueHeads, biasPresence: biases.inputs)
      }
      ?? linear(names.query, "attention.query", from: .model, to: .heads, factors: pairs, biases.inputs)
      + linear(names.key, "attention.key", from: .model, to: .keyValueHeads, factors: pairs, biases.inputs)
      + linear(names.value, "attention.value", from: .model, to: .keyValueHeads, biases.inputs)
    let hidden =
      names.fusedGate.map { name in
        SlotPattern.linear(
          "\(names.block).\(name)", "blocks.#.mlp.gate", "blocks.#.mlp.input", from: .model, to: .hidden, .hidden,
          biasPresence: biases.mlp)
      }
      ?? linear(names.gate, "mlp.gate", from: .model, to: .hidden, biases.mlp)
      + linear(names.up, "mlp.input", from: .model, to: .hidden, biases.mlp)
    return [
      [.table(names.embedding, "embedding.tokens", rows: .vocabulary)],
      ownNorms(of: "attention"),
      attention,
      linear(names.output, "attention.output", from: .heads, to: .model, biases.output),
      ownNorms(of: "mlp"),
      hidden,
      linear(names.down, "mlp.output", from: .hidden, to: .model, biases.mlp),
      SlotPattern.norm(names.finalNorm, "final.norm", hasBias: false, offset: offset),
      hasHead ? SlotPattern.unembedding(names.head, bias: nil) : [],
    ]
  }

  // MARK: GGUF

  /// The keys that llama.cpp reads for all of them.
  static let ggufConfiguration: ConfigurationTable = .init(
    [
      .size("context_length", .context, required: ""), .size("embedding_length", .model),
      .size("feed_forward_length", .hidden), .size("block_count", .blocks),
      .size("attention.head_count", .heads, required: ""), .size("vocab_size", .vocabulary),
      .size("attention.head_count_kv", .keyValueHeads), .size("attention.key_length", .headWidth),
      .init("attention.value_length", .count, write: { .number($0.dHead) }),
      .rotaryWidth("rope.dimension_count"), .epsilon("attention.layer_norm_rms_epsilon", usual: nil),
      .rotaryBase("rope.freq_base", usual: 10_000),
    ] + ConfigurationTable.Key.ggufRotaryScaling)

  /// - Throws: `.unsupported` for experts, sliding windows where the architecture has none, and heads that are rotated in part where the architecture rotates
  ///   them whole; `.malformed` for heads that do not divide.
  private static func checkGGUF(
    _ architecture: String, rotatesWholeHeads: Bool, hasWindow: Bool, _ checkpoint: Checkpoint, _ sizes: Hyperparameters
  ) throws(Refusal) {
    let fields = Fields(metadataOf: checkpoint, prefix: architecture + ".")
    let path = checkpoint.path
    if let count = try fields.count("expert_count"), count > 0 {
      throw Refusal(
        .unsupported, file: path, subject: fields.fullName("expert_count"),
        "\(count) experts: only dense MLPs are supported")
    }
    let context = sizes.stated(.context) ?? 0
    if !hasWindow, let window = try fields.count("attention.sliding_window"), window > 0, window < context {
      throw Refusal(
        .unsupported, file: path, subject: fields.fullName("attention.sliding_window"),
        "llama.cpp's \(architecture) has no windows, and this one looks back over \(window) of \(context) positions")
    }
    try sizes.requireEvenGroups()
    let width =
      sizes.stated(.headWidth) ?? sizes.stated(.model).flatMap { model in sizes.stated(.heads).map { model / $0 } }
    if rotatesWholeHeads, let width, let rotated = try fields.count("rope.dimension_count"), rotated != width {
      throw Refusal(
        .unsupported, file: path, subject: fields.fullName("rope.dimension_count"),
        "\(rotated) of the \(width) features of a head are rotated; only all of them are supported")
    }
  }

  /// Such an architecture of llama.cpp.
  static func gguf(
    _ architecture: String, layout: Layout, activation: Activation = .silu, rotatesWholeHeads: Bool = true,
    rotaryDivisors: String? = nil, ownKeys: [ConfigurationTable.Key] = [], hasWindow: Bool = false
  ) -> GGUFDescription {
    GGUFDescription(
      architecture: architecture, configuration: .init(ggufConfiguration.keys + ownKeys), layout: layout,
      activation: activation,
      rotaryDivisors: rotaryDivisors, hasWindow: hasWindow,
      check: { (checkpoint, sizes) throws(Refusal) in
        try checkGGUF(
          architecture, rotatesWholeHeads: rotatesWholeHeads, hasWindow: hasWindow, checkpoint, sizes)
      })
  }
}
