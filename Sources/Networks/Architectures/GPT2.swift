import NormFoldFormats

extension Architecture {
  /// GPT-2 (Radford et al. 2019), as Hugging Face's GPT2LMHeadModel computes it.
  package static let gpt2: Architecture = .init(
    name: "GPT-2", modelType: "gpt2", className: "GPT2LMHeadModel", normKind: .layer,
    configuration: GPT2.configuration,
    carriedKeys: ["pad_token_id", "initializer_range", "task_specific_params"],
    // Said even where they are unknown: to transformers a missing key means token 50256.
    tokenKeys: [("bos_token_id", .endOfText), ("eos_token_id", .endOfText)],
    layout: GPT2.layout(name: "Hugging Face GPT-2", isTransposed: false),
    gguf: GGUFDescription(
      architecture: "gpt2", configuration: GPT2.ggufConfiguration, layout: GPT2.ggufLayout, activation: .geluTanh),
    otherForms: [
      GPT2.nanoGPTForm, GPT2.transformerLensForm, GPT2.transformerLensNamesForm, GPT2.foldedForm, GPT2.normFreeForm,
      GPT2.unnamedForm,
    ],
    reading: GPT2.reading,
    forward: { sizes, b in
      let tokens = b.embed(by: .token, at: "embedding.tokens")
      var x = b.add(tokens, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
      for block in 0..<sizes.blockCount {
        x = b.block(
          of: x, number: block, attentionScale: GPT2.attentionScale(sizes, block: block),
          activation: GPT2.activation(sizes, block: block))
      }
      b.head(of: x)
    })
}

/// The keys of GPT-2's config and the names of its tensors.
enum GPT2 {
  private static let usualHeads: Message = "the tensors do not say how many heads there are"

  static let keys: [ConfigurationTable.Key] = [
    .activation("activation_function", usual: .geluTanh),
    .constant("attn_pdrop", .number(0.0)), .constant("embd_pdrop", .number(0.0)),
    .constant("resid_pdrop", .number(0.0)),
    .epsilon("layer_norm_epsilon", usual: 1e-5),
    .size("n_ctx", .context), .size("n_positions", .context),
  ]

  static let sizeKeys: [ConfigurationTable.Key] = [
    .size("n_head", .heads, required: usualHeads), .size("n_layer", .blocks),
    .size("n_embd", .model, isWritten: false),
    // A residual stream that leaves one feature out is narrower than its heads.
    .written("n_embd") { .number($0.headCount * $0.dHead) },
    .size("n_inner", .hidden, isWritten: false),
    .written("n_inner") { $0[.hidden] == 4 * $0.headCount * $0.dHead ? .null : .number($0[.hidden]) },
    .size("vocab_size", .vocabulary),
  ]

  static let choiceKeys: [ConfigurationTable.Key] = [
    .tied(usual: true), .flag("scale_attn_weights", usual: true),
    .flag("scale_attn_by_inverse_layer_idx", usual: false),
    .constant("reorder_and_upcast_attn", .bool(false)), .constant("use_cache", .bool(true)), .endOfText(),
  ]

  /// A key of GPT2Config each.
  static let configuration: ConfigurationTable = .init(sizeKeys + keys + choiceKeys)

  static let ggufConfiguration: ConfigurationTable = .init([
    .size("context_length", .context), .size("embedding_length", .model), .size("feed_forward_length", .hidden),
    .size("block_count", .blocks), .size("attention.head_count", .heads, required: ""),
    .size("vocab_size", .vocabulary), .epsilon("attention.layer_norm_epsilon", usual: nil),
  ])

  /// 1/√dHead unless the config says otherwise.
  static func attentionScale(_ sizes: Hyperparameters, block: Int) -> Double {
    let scale = sizes.flag("scale_attn_weights") ?? true ? sizes.standardAttentionScale : 1
    return sizes.flag("scale_attn_by_inverse_layer_idx") ?? false ? scale / Double(block + 1) : scale
  }

  /// The config's, with a slope of the block's own where leaky ReLUs have one each.
  static func activation(_ sizes: Hyperparameters, block: Int) -> Activation {
    guard let slope = sizes.own["leaky_relu_slopes"]?.array?[block].double else { return sizes.activation }
    return .leakyReLU(negativeSlope: slope)
  }

  /// Constants of the causal mask, which old versions of the class saved.
  private static let buffers = [
    (start: "h.", end: ".attn.bias", rule: "causal mask buffer"),
    (start: "h.", end: ".attn.masked_bias", rule: "causal mask constant"),
  ]

  /// GPT-2 without the prefix `transformer.`: queries, keys and values fused. `lm_head` is absent where it is tied; its bias
  /// exists in folded checkpoints only.
  ///
  /// - Parameters:
  ///   - isTransposed: whether matrices are stored [out, in], as Linear does, and not [in, out], as Conv1D.
  ///   - hasSplitValues: whether the values have a tensor of their own.
  ///   - hasBlockNorms: whether norms stand in the blocks.
  ///   - norms: whether norms must be there.
  ///   - biases: whether biases must be there.
  ///   - headBias: whether the unembedding has one.
  static func layout(
    name: String, isTransposed: Bool, hasSplitValues: Bool = false, hasBlockNorms: Bool = true,
    norms: Slot.Presence = .always, biases: Slot.Presence = .always,
    headBias: Slot.Presence = .beyond(className: "GPT2LMHeadModel")
  ) -> Layout {
    let (query, key, value) = ("blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value")
    func norm(_ tensor: String, _ path: String) -> [SlotPattern] {
      .init(SlotPattern.norm(tensor, path, presence: norms, biasPresence: norms == .always ? biases : norms))
    }
    func linear(_ tensor: String, _ paths: [String], from input: Extent, to outputs: [Extent]) -> [SlotPattern] {
      let output: [Factor] = [.part, .output]
      return [
        .weight(
          tensor + ".weight", paths, from: input, to: outputs,
          axes: isTransposed ? [output, [.input]] : [[.input], output]),
        .bias(tensor + ".bias", paths, to: outputs, presence: biases),
      ]
    }
    let inputs =
      hasSplitValues
      ? [
        linear("h.#.attn.qk_attn", [query, key], from: .model, to: [.heads, .heads]),
        linear("h.#.attn.v_attn", [value], from: .model, to: [.heads]),
      ] : [linear("h.#.attn.c_attn", [query, key, value], from: .model, to: [.heads, .heads, .heads])]
    return Layout(
      name: name, prefix: "transformer.", buffers: buffers,
      [
        [.table("wte.weight", "embedding.tokens", rows: .vocabulary)],
        [.table("wpe.weight", "embedding.positions", rows: .positions)],
        hasBlockNorms ? norm("h.#.ln_1", "blocks.#.attention.norm") : [],
      ] + inputs + [
        linear("h.#.attn.c_proj", ["blocks.#.attention.output"], from: .heads, to: [.model]),
        hasBlockNorms ? norm("h.#.ln_2", "blocks.#.mlp.norm") : [],
        linear("h.#.mlp.c_fc", ["blocks.#.mlp.input"], from: .model, to: [.hidden]),
        linear("h.#.mlp.c_proj", ["blocks.#.mlp.output"], from: .hidden, to: [.model]),
        norm("ln_f", "final.norm"),
        // A Linear, whatever the others are.
        SlotPattern.unembedding("lm_head", bias: headBias),
      ])
  }

  /// GPT-2 as llama.cpp stores it: matrices [out, in] as numpy sees them; the unembedding never has a bias.
  ///
  /// That norms are fixed is said by a large epsilon only. Training checkpoints with FakeLayerNorm never come in this
  /// layout: llama.cpp's converter has no names for their buffers, and its loader refuses tensors that it does not know.
  static let ggufLayout: Layout = .init(
    name: "GGUF gpt2",
    [
      [
        .table("token_embd.weight", "embedding.tokens", rows: .vocabulary),
        .table("position_embd.weight", "embedding.positions", rows: .positions),
      ],
      SlotPattern.norm("blk.#.attn_norm", "blocks.#.attention.norm"),
      SlotPattern.linear(
        "blk.#.attn_qkv", "blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value",
        from: .model, to: .heads, .heads, .heads),
      SlotPattern.linear("blk.#.attn_output", "blocks.#.attention.output", from: .heads, to: .model),
      SlotPattern.norm("blk.#.ffn_norm", "blocks.#.mlp.norm"),
      SlotPattern.linear("blk.#.ffn_up", "blocks.#.mlp.input", from: .model, to: .hidden),
      SlotPattern.linear("blk.#.ffn_down", "blocks.#.mlp.output", from: .hidden, to: .model),
      SlotPattern.norm("output_norm", "final.norm"),
      SlotPattern.unembedding("output", bias: nil),
    ])

  /// Only a config of relu-revival-normfree says whether blocks with split values have norms.
  static let reading: StorageForm.Reading = .init(
    check: { (tensors, sizes) throws(Refusal) in
      let name = "h.0.attn.qk_attn.weight"
      guard tensors.names.contains(name) else { return }
      throw Refusal(
        .malformed, file: sizes.path, subject: "norm_type",
        "is missing, and only it says whether the blocks of a network with '\(name)' have norms",
        advice: "set it to ln or free, as in the training run")
    })
}
