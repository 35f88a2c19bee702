import NormFoldFormats

extension Architecture {
  /// A decoder of torchscale 0.3.0 in the class Decoder, with the LayerNorms of Magneto (Sub-LN, arXiv 2210.06423) in front of
  /// its output maps, or without. Where a key of the config is missing, what the class DecoderConfig says counts.
  package static let torchscale: Architecture = .init(
    name: "torchscale decoder", modelType: "torchscale", className: "TorchscaleForCausalLM", normKind: .layer,
    configuration: Torchscale.configuration,
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: Torchscale.layout, reading: .init(check: Torchscale.refuseForeignParts),
    describe: FairseqDecoder.describe,
    forward: { sizes, b in
      var x = FairseqDecoder.embedding(sizes, &b)
      for block in 0..<sizes.blockCount { x = b.block(of: x, number: block) }
      b.head(of: x)
    })
}

private enum Torchscale {
  static let configuration: ConfigurationTable = .init(
    [
      .only(
        "deepnorm", .bool(false),
        because:
          "its norms stand behind the residual sum, so that they change the residual stream itself and cannot be folded"
      ),
      .init("decoder_normalize_before", .flag, read: requireNormsBefore, write: { _ in .bool(true) }),
      .init("multiway", .flag, read: requireChosenModality, write: { _ in .bool(false) }),
      .only("xpos_rel_pos", .bool(false), because: "rotary positions with decay (xPos) are not supported"),
      .only("rel_pos_buckets", .number(0), because: "biases of attention by distance are not supported"),
      .only("moe_freq", .number(0), because: "experts are not supported, only dense MLPs"),
      .only("no_output_layer", .bool(false), because: "without an output projection there are no logits"),
      .flag("subln", usual: true),
      .init(
        "max_target_positions", .count,
        read: { (fields, sizes) throws(Refusal) in
          sizes.contextWithoutTable = try fields.count("max_target_positions") ?? 1_024
        }, write: { .number($0[.context]) }),
      .activation("activation_fn", usual: .geluErf), .flag("no_scale_embedding", usual: true),
    ] + FairseqDecoder.sizes(heads: 12) + FairseqDecoder.flags)

  /// - Throws: `.unsupported` for a network of two modalities none of which was chosen.
  @Sendable private static func requireChosenModality(
    _ fields: Fields, _ sizes: inout Hyperparameters
  ) throws(Refusal) {
    guard try fields.bool("multiway") == true else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: "multiway",
      "expected false, found true: of maps that are there twice, one for each modality, none is chosen",
      advice: "choose one with \(.modality, "A"), the one that a decoder computes, or \(.modality, "B")")
  }

  /// - Throws: `.unsupported` where norms stand behind the residual sum: `subln` puts them before whatever this key says.
  @Sendable private static func requireNormsBefore(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    guard try fields.bool("decoder_normalize_before") == false, try fields.bool("subln") == false else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: "decoder_normalize_before",
      "expected true, found false: norms behind the residual sum change the residual stream itself and cannot be folded"
    )
  }

  /// - Throws: `.unsupported` for tensors of parts that the forward pass does not have, by what they are.
  @Sendable static func refuseForeignParts(_ tensors: NamedTensors, _ sizes: Hyperparameters) throws(Refusal) {
    for (part, what) in [
      (".encoder_attn.", "attention to an encoder"), (".encoder_attn_layer_norm.", "attention to an encoder"),
      (".moe_layer.", "experts"), (".A.", "maps for each modality (multiway)"),
      (".B.", "maps for each modality (multiway)"), (".xpos.", "rotary positions with decay (xPos)"),
      ("relative_attention_bias.", "biases of attention by distance"),
    ] {
      guard let name = tensors.names.filter({ $0.contains(part) }).min() else { continue }
      throw Refusal(
        .unsupported, file: tensors.checkpoint.path, subject: name,
        "belongs to \(what), and the config does not say so",
        advice: "only decoders without are read")
    }
  }

  static let layout: Layout = .init(
    name: "torchscale", positionOffset: FairseqDecoder.positionOffset,
    FairseqDecoder.embeddings
      + FairseqDecoder.block(mlp: "ffn.", innerMLPNorm: .ifSaid("subln")) + [
        SlotPattern.norm(
          "layers.#.self_attn.inner_attn_ln", "blocks.#.attention.inner.norm", of: .heads, presence: .ifSaid("subln"))
      ] + FairseqDecoder.head(finalNorm: .ifSaid("has_norms")))
}

/// The parts that decoders of fairseq and of torchscale, which is descended from it, have in common.
enum FairseqDecoder {
  /// The first position has the third row of the table.
  static let positionOffset = 2

  /// - Parameter heads: how many there are where no key says so.
  static func sizes(heads: Int) -> [ConfigurationTable.Key] {
    [
      .size("decoder_attention_heads", .heads, usual: heads), .size("decoder_layers", .blocks),
      .size("decoder_embed_dim", .model), .size("decoder_ffn_embed_dim", .hidden),
      .init(
        "vocab_size", .count,
        read: { (fields, sizes) throws(Refusal) in
          // −1 stands for what the embedding says.
          guard fields["vocab_size"]?.integer != -1, let count = try fields.count("vocab_size") else { return }
          sizes.statements.append(.init(key: fields.fullName("vocab_size"), size: .vocabulary, value: count))
        }, write: { .number($0[.vocabulary]) }),
    ]
  }

  static let flags: [ConfigurationTable.Key] = [
    .epsilon("layernorm_eps", usual: 1e-5), .tied("share_decoder_input_output_embed", usual: false),
    .flag("layernorm_embedding", usual: false), .flag("output_projection_bias", usual: false),
    .flag("no_token_positional_embeddings", usual: false), .flag("has_norms", usual: true), .endOfText(),
  ]

  /// Sets the keys that say which parts are there. The embedding is written with its scale in it. Three of the keys are this
  /// project's own: `output_projection_bias`, `no_token_positional_embeddings` and, for networks whose norms were folded,
  /// `has_norms`.
  @Sendable static func describe(_ network: Network, _ sizes: inout Hyperparameters) {
    let inner: [Path] = ["blocks.0.attention.inner.norm", "blocks.0.mlp.inner.norm"]
    sizes.own["subln"] = .bool(inner.contains { network[norm: $0] != nil })
    sizes.own["no_scale_embedding"] = .bool(true)
    sizes.own["layernorm_embedding"] = .bool(network[norm: "embedding.norm"] != nil)
    sizes.own["has_norms"] = .bool(!network.norms.isEmpty)
    sizes.own["output_projection_bias"] = .bool(network.unembedding?.bias != nil)
    sizes.own["no_token_positional_embeddings"] = .bool(network["embedding.positions"] == nil)
  }

  /// The tokens' rows, times √width where the config says so, plus those of their positions if there is a table, and the norm
  /// of both if there is one.
  static func embedding(_ sizes: Hyperparameters, _ b: inout NetworkBuilder) -> Path {
    let scale = sizes.flag("no_scale_embedding") ?? true ? 1 : Double(sizes.dModel).squareRoot()
    var x = b.embed(by: .token, at: "embedding.tokens", times: scale)
    if b.has("embedding.positions") { x = b.add(x, b.embed(by: .position, at: "embedding.positions"), at: "embedding") }
    return b.normalised(x, at: "embedding.norm")
  }

  static let embeddings: [[SlotPattern]] = [
    [
      .table("embed_tokens.weight", "embedding.tokens", rows: .vocabulary),
      .table("embed_positions.weight", "embedding.positions", rows: .positions, presence: .perhaps),
    ],
    SlotPattern.norm("layernorm_embedding", "embedding.norm", presence: .ifSaid("layernorm_embedding")),
  ]

  /// The tensors of the blocks: Linear matrices [out, in], a map each, all with biases.
  ///
  /// - Parameters:
  ///   - mlp: what stands before the names of the MLP's tensors.
  ///   - innerMLPNorm: when the norm in front of the MLP's output map is there.
  static func block(mlp: String, innerMLPNorm: Slot.Presence) -> [[SlotPattern]] {
    func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
      SlotPattern.linear("layers.#.\(name)", "blocks.#.\(path)", from: input, to: output)
    }
    return [
      SlotPattern.norm("layers.#.self_attn_layer_norm", "blocks.#.attention.norm", presence: .ifSaid("has_norms")),
      linear("self_attn.q_proj", "attention.query", from: .model, to: .heads),
      linear("self_attn.k_proj", "attention.key", from: .model, to: .heads),
      linear("self_attn.v_proj", "attention.value", from: .model, to: .heads),
      linear("self_attn.out_proj", "attention.output", from: .heads, to: .model),
      SlotPattern.norm("layers.#.final_layer_norm", "blocks.#.mlp.norm", presence: .ifSaid("has_norms")),
      linear("\(mlp)fc1", "mlp.input", from: .model, to: .hidden),
      linear("\(mlp)fc2", "mlp.output", from: .hidden, to: .model),
      SlotPattern.norm(
        "layers.#.\(mlp)ffn_layernorm", "blocks.#.mlp.inner.norm", of: .hidden, presence: innerMLPNorm),
    ]
  }

  static func head(finalNorm: Slot.Presence) -> [[SlotPattern]] {
    [
      SlotPattern.norm("layer_norm", "final.norm", presence: finalNorm),
      SlotPattern.unembedding("output_projection", bias: .ifSaid("output_projection_bias")),
    ]
  }
}
