import Glibc
import NormFoldFormats

extension Architecture {
  /// The RetNets of XATL (arXiv 2404.02684), which have the embeddings, norms and MLPs of a Pythia and retention (arXiv
  /// 2307.08621) for attention, in the names and keys of that work's class RetNetForCausalLM, or in those of lit-gpt. Where a
  /// key of the config is missing, what the class counts.
  ///
  /// What is computed is what the networks were trained with: the kernels of lit_gpt/model.py. The class without these kernels
  /// turns pairs of neighbours by the angles of other pairs.
  package static let retNet: Architecture = .init(
    name: "RetNet", modelType: "retnet", className: "RetNetForCausalLM", normKind: .layer,
    classEpsilon: 1e-6, configuration: RetNet.configuration,
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: RetNet.layout, otherForms: [RetNet.litForm], reading: .init(check: RetNet.refuseForeignParts),
    describe: { network, sizes in
      sizes.own["use_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
      sizes.own["lm_head_bias"] = .bool(network.unembedding?.bias != nil)
      sizes.own["groupnorm_affine"] = .bool(network[norm: "blocks.0.attention.group.norm"] != nil)
      sizes.own["layernorm_embedding"] = .bool(network[norm: "embedding.norm"] != nil)
      sizes.own["has_norms"] = .bool(network[norm: "blocks.0.attention.norm"] != nil)
      sizes.own["no_scale_embedding"] = .bool(true)
      var read = network.node(at: "blocks.0.mlp.input")?.operands.first
      while let norm = read, network[norm: norm] != nil { read = network.node(at: norm)?.operands.first }
      sizes.own["parallel_residual"] = .bool(read != "blocks.0.middle")
    },
    forward: { sizes, b in
      var x = FairseqDecoder.embedding(sizes, &b)
      for block in 0..<sizes.blockCount {
        let path: Path = "blocks.\(block)"
        let retained = RetNet.retention(
          of: b.normalised(x, at: path.appending("attention.norm")), sizes, &b, at: path.appending("attention"))
        let middle = b.add(x, retained, at: path.appending("middle"))
        let read = sizes.flag("parallel_residual") ?? false ? x : middle
        x = b.add(middle, b.mlp(of: b.normalised(read, at: path.appending("mlp.norm")), block: block), at: path)
      }
      b.head(of: x)
    })
}

private enum RetNet {
  /// silu(uW_g + b_g) ⊙ norm(retention(uW_q, uW_k, uW_v)), through the output map.
  static func retention(
    of u: Path, _ sizes: Hyperparameters, _ b: inout NetworkBuilder, at path: Path
  ) -> Path {
    let (headCount, width) = (sizes.headCount, sizes.rotary?.width ?? 0)
    // Angles 10000^(−i/(pairs − 1)), the last of them 1/10000, and not the 10000^(−i/pairs) of others.
    let base = width > 2 ? pow(10_000, Double(width) / Double(width - 2)) : 10_000
    let rotary = Rotary(base: base, width: width, pairsNeighbours: true)
    func rotated(_ name: String) -> Path {
      b.apply(
        .rotate(rotary, headCount: headCount), to: b.linear(u, at: path.appending(name)),
        at: path.appending(name + ".rotated"))
    }
    let (query, key) = (rotated("query"), rotated("key"))
    let value = b.linear(u, at: path.appending("value"))
    let attention = Attention(
      headCount: headCount, keyValueHeadCount: headCount, scale: sizes.standardAttentionScale,
      weighting: .decaying((0..<headCount).map { 1 - exp2(-5 - Double($0)) }))
    let mixed = b.apply(.attend(attention), to: query, key, value, at: path.appending("mixed"))
    let normed = b.normalised(mixed, headCount: headCount, kind: .layer, at: path.appending("group.norm"))
    // Without numbers of its own it is another norm, which no tensor says is there.
    let heads =
      normed == mixed
      ? b.weightlessNorm(of: mixed, kind: .rms, headCount: headCount, at: path.appending("group")) : normed
    let gate = b.apply(
      .activate(.silu), to: b.linear(u, at: path.appending("gate")), at: path.appending("activation"))
    return b.linear(
      b.apply(.multiply, to: gate, heads, at: path.appending("hidden")), at: path.appending("output"))
  }

  // MARK: The class of XATL

  static let configuration: ConfigurationTable = .init([
    .size("decoder_retention_heads", .heads, usual: 3), .size("decoder_layers", .blocks),
    .size("decoder_embed_dim", .model), .size("decoder_ffn_embed_dim", .hidden), .size("vocab_size", .vocabulary),
    // Retention itself has no end; the networks were trained on so many.
    .size("max_position_embeddings", .context, usual: 2_048),
    .init(
      "decoder_value_embed_dim", .count,
      read: { (fields, _) throws(Refusal) in
        guard let width = try fields.count("decoder_value_embed_dim"),
          let model = try fields.count("decoder_embed_dim"),
          width != model
        else { return }
        throw Refusal(
          .unsupported, file: fields.path, subject: "decoder_value_embed_dim",
          "expected \(model), the decoder_embed_dim, found \(width): values of another width are not supported")
      }, write: { .number($0[.model]) }),
    .activation("activation_fn", usual: .geluErf), .epsilon("layernorm_eps", usual: 1e-6), .tied(usual: false),
    .said("use_rms_norm", false, because: "the norms of XATL's networks are LayerNorms"),
    .said("use_glu", false, because: "the MLPs of XATL's networks have no gate"),
    .said("subln", false, because: "the MLPs of XATL's networks have no norm inside"),
    .only("decoder_normalize_before", .bool(true), because: normsBehind),
    .only("deepnorm", .bool(false), because: normsBehind),
    .only("use_lm_decay", .bool(false), because: otherDecay),
    .only("retnet_stability_update", .bool(false), because: "weights that are divided by their sums are not supported"),
    .only("shared_attention_norm", .bool(false), because: sharedNorm),
    .none("retnet_bottleneck", because: bottleneck), .none("hybrid_attention_layers", because: hybrid),
    .turned("rotary_percentage", usual: 1), .flag("use_bias", usual: false),
    .flag("groupnorm_affine", usual: false), .flag("lm_head_bias", usual: false),
    .flag("parallel_residual", usual: false), .flag("layernorm_embedding", usual: false),
    .flag("no_scale_embedding", usual: true), .flag("has_norms", usual: true), .endOfText(),
  ])

  private static let normsBehind =
    "norms behind the residual sum change the residual stream itself and cannot be folded"
  private static let otherDecay = "only heads that decay by 1 - 2^(-5-h) are supported"
  private static let sharedNorm = "one norm for both branches is not supported"
  private static let bottleneck = "a map between the heads and their gate is not supported"
  private static let hybrid = "layers with attention among those with retention are not supported"

  static let layout: Layout = .init(
    name: "RetNet", prefix: "model.",
    buffers: [
      (start: "retnet_rel_pos.", end: "angle", rule: "rotary frequencies buffer"),
      (start: "retnet_rel_pos.", end: "decay", rule: "decay buffer"),
    ],
    [
      [.table("embed_tokens.weight", "embedding.tokens", rows: .vocabulary)],
      SlotPattern.norm("layernorm_embedding", "embedding.norm", presence: .ifSaid("layernorm_embedding")),
      SlotPattern.norm("layers.#.retention_layer_norm", "blocks.#.attention.norm", presence: .ifSaid("has_norms")),
      linear("retention.q_proj", "query"), linear("retention.k_proj", "key"), linear("retention.v_proj", "value"),
      linear("retention.g_proj", "gate"), linear("retention.out_proj", "output"),
      groupNorm("layers.#.retention.group_norm"),
      SlotPattern.norm("layers.#.final_layer_norm", "blocks.#.mlp.norm", presence: .ifSaid("has_norms")),
      SlotPattern.linear("layers.#.ffn.fc1", "blocks.#.mlp.input", from: .model, to: .hidden),
      SlotPattern.linear("layers.#.ffn.fc2", "blocks.#.mlp.output", from: .hidden, to: .model),
      SlotPattern.norm("layer_norm", "final.norm", presence: .ifSaid("has_norms")),
      SlotPattern.unembedding("lm_head", bias: .ifSaid("lm_head_bias")),
    ])

  private static func linear(_ name: String, _ path: String) -> [SlotPattern] {
    SlotPattern.linear(
      "layers.#.\(name)", "blocks.#.attention.\(path)", from: .model, to: .heads, biasPresence: .ifSaid("use_bias"))
  }

  private static func groupNorm(_ name: String) -> [SlotPattern] {
    SlotPattern.norm(
      name, "blocks.#.attention.group.norm", of: .head, presence: .ifSaid("groupnorm_affine"), biasPresence: .perhaps)
  }

  /// - Throws: `.unsupported` for tensors of parts that the forward pass does not have, by what they are.
  @Sendable static func refuseForeignParts(_ tensors: NamedTensors, _ sizes: Hyperparameters) throws(Refusal) {
    for (part, what) in [
      (".down_proj.", "a map between the heads and their gate"), (".ffn.gate.", "a gate of the MLP"),
      (".ffn_layernorm.", "a norm inside the MLP"), (".attn.attn.", "attention, which hybrids have in some layers"),
      (".A_log", "a state space (Mamba)"), (".in_proj.", "a state space (Mamba)"),
    ] {
      guard let name = tensors.checkpoint.tensors.map(\.name).filter({ $0.contains(part) }).min() else { continue }
      throw Refusal(
        .unsupported, file: tensors.checkpoint.path, subject: name,
        "belongs to \(what), and the config does not say so", advice: "only RetNets without are read")
    }
  }

  // MARK: lit-gpt

  /// The form in which the training program stores the network, with the keys of its class Config in `config.json`.
  static let litForm = StorageForm(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf, let json = content.presentConfiguration else { return false }
      return json["model_type"] == nil && json["use_retention"]?.bool == true
    },
    read: { (content) throws(Refusal) in
      let fields = Fields(json: try content.configuration(), path: content.configurationPath)
      var sizes = Hyperparameters(path: fields.path)
      try litConfiguration.read(fields, into: &sizes)
      // FusedMLP is always made with gelu_approx, whatever the key gelu_approximate says.
      sizes.activation = .geluTanh
      sizes.isTied = false
      return sizes
    },
    layout: { _ in litLayout }, reading: .init(check: refuseForeignParts))

  private static let litConfiguration: ConfigurationTable = .init([
    .size("n_head", .heads, usual: 32), .size("n_layer", .blocks), .size("n_embd", .model),
    .size("intermediate_size", .hidden), .size("padded_vocab_size", .vocabulary),
    .size("block_size", .context, usual: 4_096), .epsilon("norm_eps", usual: 1e-5),
    .only("_norm_class", .string("LayerNorm"), because: "the norms of XATL's networks are LayerNorms"),
    .only("_mlp_class", .string("GptNeoxMLP"), because: "the MLPs of XATL's networks have no gate"),
    .only("use_lm_decay", .bool(false), because: otherDecay),
    .only("shared_attention_norm", .bool(false), because: sharedNorm),
    .only("condense_ratio", .number(1), because: "positions that are divided are not supported"),
    .only("use_bda", .bool(false), because: "attention within documents alone is not supported"),
    .only("use_mamba", .bool(false), because: "state spaces (Mamba) are not supported"),
    .none("retnet_bottleneck", because: bottleneck), .none("hybrid_attention_layers", because: hybrid),
    .init(
      "n_query_groups",
      read: { (fields, _) throws(Refusal) in
        guard let count = try fields.count("n_query_groups"), let heads = try fields.count("n_head"), count != heads
        else { return }
        throw Refusal(
          .unsupported, file: fields.path, subject: "n_query_groups",
          "expected \(heads), the n_head, found \(count): heads that share keys and values are not supported")
      }),
    .turned("rotary_percentage", usual: 0.25), .flag("parallel_residual", usual: true),
    .flag("bias", as: "use_bias", usual: true), .flag("use_ln_for_groupnorm", as: "groupnorm_affine", usual: false),
    .flag("lm_head_bias", usual: false), .flag("layernorm_embedding", usual: false),
    .flag("no_scale_embedding", usual: true), .endOfText("_eos_token_id"),
  ])

  /// Queries, keys and values are fused head by head, as in GPT-NeoX.
  private static let litLayout: Layout = .init(
    name: "lit-gpt RetNet",
    [
      [.table("transformer.wte.weight", "embedding.tokens", rows: .vocabulary)],
      SlotPattern.norm("ln_e", "embedding.norm", presence: .ifSaid("layernorm_embedding")),
      SlotPattern.norm("transformer.h.#.norm_1", "blocks.#.attention.norm"),
      SlotPattern.linear(
        "transformer.h.#.attn.reten", "blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value",
        from: .model, to: .heads, .heads, .heads, output: [.head, .part, .headFeature],
        biasPresence: .ifSaid("use_bias")),
      litLinear("attn.gate_proj", "attention.gate", from: .model, to: .heads),
      litLinear("attn.proj", "attention.output", from: .heads, to: .model),
      groupNorm("transformer.h.#.attn.group_norm"),
      SlotPattern.norm("transformer.h.#.norm_2", "blocks.#.mlp.norm"),
      litLinear("mlp.mlp.fc1", "mlp.input", from: .model, to: .hidden),
      litLinear("mlp.mlp.fc2", "mlp.output", from: .hidden, to: .model),
      SlotPattern.norm("transformer.ln_f", "final.norm"),
      SlotPattern.unembedding("lm_head", bias: .ifSaid("lm_head_bias")),
    ])

  private static func litLinear(
    _ name: String, _ path: String, from input: Extent, to output: Extent
  ) -> [SlotPattern] {
    SlotPattern.linear(
      "transformer.h.#.\(name)", "blocks.#.\(path)", from: input, to: output, biasPresence: .ifSaid("use_bias"))
  }
}

extension ConfigurationTable.Key {
  /// A choice of which one answer is known, and for which a missing key stands for the other.
  fileprivate static func said(_ name: String, _ value: Bool, because reason: String) -> Key {
    Key(
      name, .flag,
      read: { (fields, _) throws(Refusal) in
        guard try fields.bool(name) != value else { return }
        throw Refusal(
          .unsupported, file: fields.path, subject: name,
          "expected \(value), found \(fields[name]?.kind ?? "nothing, which the class takes for \(!value)"): \(reason)")
      }, write: { _ in .bool(value) })
  }

  /// The share of each head's features that is rotated, by angles that no key says.
  fileprivate static func turned(_ name: String, usual: Double) -> Key {
    let share = Key.rotaryShare(name, usual: usual)
    return Key(
      name, .number,
      read: { (fields, sizes) throws(Refusal) in
        try share.read?(fields, &sizes)
        sizes.rotaryBase = 10_000
      }, write: share.write)
  }

  /// A key that must be missing, null or an empty array.
  fileprivate static func none(_ name: String, because reason: String) -> Key {
    Key(
      name,
      read: { (fields, _) throws(Refusal) in
        guard let found = fields[name], !found.isNull, found.array?.isEmpty != true else { return }
        throw Refusal(
          .unsupported, file: fields.path, subject: name, "expected null, found \(found.kind): \(reason)")
      }, write: { _ in .null })
  }

  /// A choice that has another name in the architecture's own config.
  fileprivate static func flag(_ name: String, as own: String, usual: Bool) -> Key {
    Key(
      name, .flag,
      read: { (fields, sizes) throws(Refusal) in sizes.own[own] = .bool(try fields.bool(name) ?? usual) })
  }
}
