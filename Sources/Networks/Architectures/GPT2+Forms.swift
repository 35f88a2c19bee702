import NormFoldFormats

/// Forms in which GPT-2 is stored besides Hugging Face's and llama.cpp's.
extension GPT2 {
  // MARK: nanoGPT

  /// GPT-2 as nanoGPT stores it: Linear matrices [out, in], hyperparameters in `model_args`, the exact GELU, a tied
  /// unembedding.
  static let nanoGPTForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      content.checkpoint.container == .pytorch && content.checkpoint.metadata["model_args.n_head"] != nil
    },
    read: { (content) throws(Refusal) in
      let fields = Fields(metadataOf: content.checkpoint, prefix: "model_args.")
      var sizes = Hyperparameters(path: content.checkpoint.path)
      try nanoGPTConfiguration.read(fields, into: &sizes)
      if fields["bias"]?.bool ?? true { sizes.own["bias"] = .bool(true) }
      sizes.activation = .geluErf
      sizes.endOfText = 50_256
      sizes.isScheduledRemoval = true
      return sizes
    },
    layout: { _ in
      layout(
        name: "nanoGPT", isTransposed: true, biases: .ifSaid("bias"), headBias: .beyond(className: "GPT of nanoGPT"))
    }, reading: reading)

  private static let nanoGPTConfiguration: ConfigurationTable = .init([
    .size("n_head", .heads, required: ""), .size("n_layer", .blocks), .size("n_embd", .model),
    .size("block_size", .context), .size("vocab_size", .vocabulary),
  ])

  // MARK: Without a model type

  /// Configs that name no model type are GPT-2's.
  static let unnamedForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf else { return false }
      // timm's configs say an architecture instead.
      let configuration = try content.configuration()
      return (configuration["model_type"]?.isNull ?? true) && configuration["architecture"] == nil
    },
    read: { (content) throws(Refusal) in try stated(in: content, by: configuration) },
    layout: { _ in Architecture.gpt2.layout }, reading: reading)

  private static func stated(
    in content: CheckpointContent, by table: ConfigurationTable
  ) throws(Refusal) -> Hyperparameters {
    let fields = Fields(json: try content.configuration(), path: content.configurationPath)
    var sizes = Hyperparameters(path: fields.path)
    try table.read(fields, into: &sizes)
    return sizes
  }

  // MARK: What this project writes for transformers

  /// The `model_type` of what this project writes for transformers.
  package static let foldedModelType = "gpt2_folded"

  /// GPT-2 with norms folded away: those that are kept are named in the config, and slopes of leaky ReLUs by block.
  static let foldedForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf else { return false }
      return try content.configuration()["model_type"]?.string == foldedModelType
    },
    read: { (content) throws(Refusal) in
      var sizes = try stated(in: content, by: configuration)
      let fields = Fields(json: try content.configuration(), path: content.configurationPath)
      sizes.isFolded = true
      sizes.own["kept_norms"] = try keptNorms(fields)
      sizes.normKind = try fields.choice("norm_kind") ?? .layer
      try readSlopes(fields, into: &sizes)
      return sizes
    },
    layout: { _ in layout(name: "Hugging Face GPT-2", isTransposed: false, norms: .perhaps, headBias: .perhaps) },
    reading: .init(complete: { (_, sizes) throws(Refusal) in try requireSlopes(of: sizes, key: "leaky_relu_slopes") }))

  private static func keptNorms(_ fields: Fields) throws(Refusal) -> JSONValue? {
    guard let value = fields["kept_norms"], !value.isNull else { return nil }
    guard let members = value.members else { throw fields.refusal("kept_norms", expected: "an object") }
    for member in members where member.value.string.flatMap(Dialect.KeptPath.init) == nil {
      throw fields.refusal("kept_norms", expected: "an object of all, queries_keys or values")
    }
    return value
  }

  private static func readSlopes(_ fields: Fields, into sizes: inout Hyperparameters) throws(Refusal) {
    guard let slopes = try fields.numbers("leaky_relu_slopes") else { return }
    guard case .leakyReLU = sizes.activation else {
      throw Refusal(
        .malformed, file: fields.path, subject: "leaky_relu_slopes",
        "there are slopes, but the activation is \(sizes.activation.configName)")
    }
    sizes.own["leaky_relu_slopes"] = .array(slopes.map { .number($0) })
  }

  private static func requireSlopes(of sizes: Hyperparameters, key: String) throws(Refusal) {
    guard let slopes = sizes.own["leaky_relu_slopes"]?.array, slopes.count != sizes.blockCount else { return }
    throw Refusal(
      .malformed, file: sizes.path, subject: key,
      "expected \(sizes.blockCount) slopes, one for each block, found \(slopes.count)")
  }

  // MARK: TransformerLens

  /// Arguments of HookedTransformerConfig that are written or understood, or that change no logit, whatever their value.
  private static let transformerLensKeys: Set<String> = [
    "act_fn", "d_head", "d_mlp", "d_model", "d_vocab", "default_prepend_bos", "device", "eps", "init_weights",
    "model_name",
    "n_ctx", "n_heads", "n_layers", "normalization_type", "original_architecture", "positional_embedding_type",
    "scale_attn_by_inverse_layer_idx", "seed", "tokenizer_name", "tokenizer_prepends_bos", "use_attn_scale",
    "checkpoint_index", "dtype", "init_mode", "initializer_range", "n_devices", "n_params",
  ]

  /// The arguments that say what a rotation would be, and positions are learned.
  private static let rotaryPrefixes = ["rotary_", "yarn_", "NTK_"]

  /// Returns whether an argument asks for nothing that a GPT-2 does not have: a network that was built in TransformerLens stores all
  /// arguments, most of them null or false. Any other may stand for an architecture that is none of ours.
  private static func isPlain(_ key: String, _ value: JSONValue, _ fields: Fields) -> Bool {
    if transformerLensKeys.contains(key) || rotaryPrefixes.contains(where: key.hasPrefix) { return true }
    switch (key, value) {
    case (_, .null), (_, .bool(false)): return true
    case ("attention_dir", .string("causal")): return true
    case ("attn_scores_soft_cap", .number(let literal)), ("output_logits_soft_cap", .number(let literal)):
      return Double(literal).map { $0 <= 0 } ?? false
    case ("d_vocab_out", .number(let literal)): return literal == "-1" || value == fields["d_vocab"]
    case ("attn_scale", .number(let literal)):
      // Scores are divided by it, and -1 stands for √dHead.
      guard let scale = Double(literal), case .number(let size)? = fields["d_head"], let size = Double(size) else {
        return false
      }
      return scale == -1 || abs(scale * scale - size) <= 1e-6 * size
    default: return false
    }
  }

  /// The norms that HookedTransformer puts in the places of norms: `normalization_type`, where that is not null.
  private enum TransformerLensNorms: String, CaseIterable {
    case layer = "LN"
    /// A LayerNorm whose gain and bias are in the weights.
    case bare = "LNPre"
  }

  /// A GPT-2 as TransformerLens's HookedTransformer stores it, with its config.
  static let transformerLensForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf else { return false }
      // A config of transformers says its model type, and may have a key of this name too.
      let configuration = try content.configuration()
      return configuration["normalization_type"] != nil && configuration["model_type"] == nil
    },
    read: { (content) throws(Refusal) in
      let fields = Fields(json: try content.configuration(), path: content.configurationPath)
      let unknown = fields.members.filter { !isPlain($0.key, $0.value, fields) }.map(\.key)
      guard unknown.isEmpty else {
        throw Refusal(
          .unsupported, file: fields.path,
          "\(unknown.count) argument\(unknown.count == 1 ? "" : "s") of HookedTransformerConfig not supported yet: "
            + unknown.joined(separator: ", "))
      }
      if let found = fields["positional_embedding_type"], found != .string("standard") {
        throw Refusal(
          .unsupported, file: fields.path, subject: "positional_embedding_type",
          "expected \"standard\", found \(found.kind)",
          advice: "of TransformerLens, only networks with learned positions are read")
      }
      var sizes = Hyperparameters(path: fields.path)
      let norms = try transformerLensNorms(fields)
      sizes.isFolded = norms != .layer
      sizes.own["normalization_type"] = norms.map { .string($0.rawValue) }
      if norms == .bare { sizes.own["kept_norms"] = .string(Dialect.KeptPath.all.rawValue) }
      sizes.epsilon = try fields.positiveNumber("eps", usual: 1e-5)
      sizes.isTied = false
      let heads = try fields.requiredCount("n_heads")
      _ = try fields.requiredCount("n_layers")
      let width = try fields.requiredCount("d_model")
      let dHead = try fields.requiredCount("d_head")
      guard heads > 0, width % heads == 0, dHead == width / heads else {
        throw Refusal(
          .unsupported, file: fields.path, subject: "d_head",
          "expected \(heads) heads that make up the width \(width), found \(dHead) each")
      }
      try transformerLensSizes.read(fields, into: &sizes)
      guard fields["act_fn"]?.string != nil else {
        throw Refusal(.malformed, file: fields.path, subject: "act_fn", "is missing")
      }
      sizes.activation = try fields.activation("act_fn", usual: .geluTanh)
      sizes.own["scale_attn_weights"] = .bool(try fields.bool("use_attn_scale") ?? true)
      sizes.own["scale_attn_by_inverse_layer_idx"] = .bool(try fields.bool("scale_attn_by_inverse_layer_idx") ?? false)
      return sizes
    },
    layout: { sizes in
      let norms = sizes.own["normalization_type"]?.string.flatMap(TransformerLensNorms.init)
      return transformerLensLayout(norms: norms.map { $0 == .layer ? .always : .perhaps })
    })

  /// The same tensors beside a config of transformers, which says nothing of norms.
  static let transformerLensNamesForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.tensors.contains(where: { $0.name.hasSuffix("blocks.0.attn.W_Q") }) else { return false }
      return content.presentConfiguration?["model_type"]?.string == "gpt2"
    },
    read: { (content) throws(Refusal) in
      var sizes = try stated(in: content, by: configuration)
      sizes.isTied = false
      return sizes
    },
    layout: { _ in transformerLensLayout(norms: .always) })

  private static func transformerLensNorms(_ fields: Fields) throws(Refusal) -> TransformerLensNorms? {
    let key = "normalization_type"
    guard let name = try fields.string(key) else { return nil }
    guard let norms = TransformerLensNorms(rawValue: name) else {
      let known = TransformerLensNorms.allCases.map { "\"\($0.rawValue)\"" }
      throw Refusal(
        .unsupported, file: fields.path, subject: key,
        "expected \((["null"] + known).listed("or")), found \(JSONValue.string(name).kind)")
    }
    return norms
  }

  private static let transformerLensSizes: ConfigurationTable = .init([
    .size("n_heads", .heads), .size("n_layers", .blocks), .size("d_model", .model), .size("d_mlp", .hidden),
    .size("n_ctx", .context), .size("d_vocab", .vocabulary),
  ])

  /// A GPT-2 as TransformerLens's HookedTransformer names it: each head with matrices of its own, and an unembedding that
  /// always has a bias. The causal mask, which its state dict has too, is no parameter.
  ///
  /// - Parameter norms: when there are tensors of norms; nil for never.
  package static func transformerLensLayout(norms: Slot.Presence?) -> Layout {
    func norm(_ name: String, _ path: String) -> [SlotPattern] {
      guard let norms else { return [] }
      return [("w", "weight"), ("b", "bias")].map { end, parameter in
        SlotPattern(
          tensor: "\(name).\(end)", parameters: ["\(path).\(parameter)"], input: nil, outputs: [.model],
          axes: [[.output]], presence: norms)
      }
    }
    func intoHeads(_ name: String, _ path: String) -> [SlotPattern] {
      [
        .weight(
          "blocks.#.attn.W_\(name)", ["blocks.#.attention.\(path)"], from: .model, to: [.heads],
          axes: [[.head], [.input], [.headFeature]]),
        .bias(
          "blocks.#.attn.b_\(name)", ["blocks.#.attention.\(path)"], to: [.heads], axes: [[.head], [.headFeature]]),
      ]
    }
    func map(
      _ weight: String, _ bias: String, _ path: String, from input: Extent, to output: Extent,
      axes: [[Factor]] = [[.input], [.output]]
    ) -> [SlotPattern] {
      [.weight(weight, [path], from: input, to: [output], axes: axes), .bias(bias, [path], to: [output])]
    }
    return Layout(
      name: "TransformerLens",
      buffers: [
        (start: "blocks.", end: ".attn.mask", rule: "causal mask buffer"),
        (start: "blocks.", end: ".attn.IGNORE", rule: "causal mask constant"),
      ],
      [
        [
          .table("embed.W_E", "embedding.tokens", rows: .vocabulary),
          .table("pos_embed.W_pos", "embedding.positions", rows: .positions),
        ],
        norm("blocks.#.ln1", "blocks.#.attention.norm"), norm("blocks.#.ln2", "blocks.#.mlp.norm"),
        norm("ln_final", "final.norm"), intoHeads("Q", "query"), intoHeads("K", "key"), intoHeads("V", "value"),
        map(
          "blocks.#.attn.W_O", "blocks.#.attn.b_O", "blocks.#.attention.output", from: .heads, to: .model,
          axes: [[.head], [.headFeature], [.output]]),
        map("blocks.#.mlp.W_in", "blocks.#.mlp.b_in", "blocks.#.mlp.input", from: .model, to: .hidden),
        map("blocks.#.mlp.W_out", "blocks.#.mlp.b_out", "blocks.#.mlp.output", from: .hidden, to: .model),
        [
          .weight("unembed.W_U", ["unembedding"], from: .model, to: [.vocabulary], axes: [[.input], [.output]]),
          .bias("unembed.b_U", ["unembedding"], to: [.vocabulary], presence: .perhaps),
        ],
      ])
  }

  // MARK: relu-revival-normfree

  /// The ways in which learned slopes of leaky ReLUs are stored: `learnable_lrelu_mode`.
  private enum Slopes: String, CaseIterable {
    /// One number [1] in every block; the word notwithstanding, each learned its own.
    case global
    /// One number for each block [blocks] in every block, of which it reads its own.
    case perLayer = "per_layer"
  }

  /// Networks of Nandan91/relu-revival-normfree (arXiv 2410.09637). Their blocks have LayerNorms or, without norms, read the
  /// residual stream as it is, mean and all; the last norm is there either way. Queries and keys are fused, values apart. A
  /// leaky ReLU may have learned its slope, which is then a tensor of its block.
  static let normFreeForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf else { return false }
      let json = try content.configuration()
      let type = json["model_type"]
      return json["norm_type"].map { !$0.isNull } ?? false && (type?.isNull ?? true || type?.string == "gpt2")
    },
    read: { (content) throws(Refusal) in
      let fields = Fields(json: try content.configuration(), path: content.configurationPath)
      var sizes = Hyperparameters(path: fields.path)
      switch try fields.string("norm_type") {
      case "ln": sizes.isWithoutBlockNorms = false
      case "free": sizes.isWithoutBlockNorms = true
      default:
        throw Refusal(
          .unsupported, file: fields.path, subject: "norm_type",
          "expected ln or free, found \(fields["norm_type"]?.kind ?? "nothing")")
      }
      try normFreeConfiguration.read(fields, into: &sizes)
      switch try fields.string("activation_function") {
      case "leaky_relu": sizes.activation = .leakyReLU(negativeSlope: try fields.requiredNumber("lrelu_neg_slope"))
      case "learnable_lrelu":
        guard let mode: Slopes = try fields.choice("learnable_lrelu_mode") else {
          throw Refusal(
            .malformed, file: fields.path, subject: "learnable_lrelu_mode", "is missing",
            advice: "it says whether each block has one slope or one of many: global or per_layer")
        }
        sizes.own["learnable_lrelu_mode"] = .string(mode.rawValue)
      default: sizes.activation = try fields.activation("activation_function", usual: .geluTanh)
      }
      return sizes
    },
    layout: { sizes in
      layout(
        name: sizes.isWithoutBlockNorms ? "norm-free GPT-2" : "GPT-2 with qk_attn and v_attn", isTransposed: false,
        hasSplitValues: true, hasBlockNorms: !sizes.isWithoutBlockNorms)
    },
    reading: .init(complete: { (tensors, sizes) throws(Refusal) in
      guard let slopes = try takeSlopes(from: &tensors, sizes) else { return }
      sizes.own["leaky_relu_slopes"] = .array(slopes.map { .number($0) })
      try requireSlopes(of: sizes, key: "n_layer")
    }))

  /// `n_ctx` is the length that they were trained on, and their attention knows no scale but 1/√dHead or none.
  private static let normFreeConfiguration: ConfigurationTable = .init(
    sizeKeys + [
      .size("n_positions", .context), .epsilon("layer_norm_epsilon", usual: 1e-5), .tied(usual: true),
      .flag("scale_attn_weights", usual: true), .endOfText(),
    ])

  /// Takes the learned slopes of all blocks; nil where none was learned.
  ///
  /// - Throws: `.malformed` for a tensor that is missing or has another shape; `.unsupported` for one of integers;
  ///   `.nonFinite` for a slope that is no number.
  private static func takeSlopes(
    from tensors: inout NamedTensors, _ sizes: Hyperparameters
  ) throws(Refusal) -> [Double]? {
    guard let mode = sizes.own["learnable_lrelu_mode"]?.string.flatMap(Slopes.init) else { return nil }
    let file = tensors.checkpoint.path
    var slopes: [Double] = []
    for block in 0..<sizes.blockCount {
      let name = "h.\(block).mlp.act.slopes"
      guard let tensor = tensors.take(name) else {
        throw Refusal(
          .malformed, file: file, subject: name, "this tensor is missing",
          advice: "the config says that the slopes were learned")
      }
      let expected = mode == .global ? [1] : [sizes.blockCount]
      try tensor.requireWeights(in: file)
      guard tensor.shape == expected else {
        throw Refusal(
          .malformed, file: file, subject: tensor.name, "expected shape \(expected), found \(tensor.shape)",
          advice: "learnable_lrelu_mode is \(mode.rawValue)")
      }
      let slope = tensor.decoded(as: Double.self)[mode == .global ? 0 : block]
      guard slope.isFinite else {
        throw Refusal(
          .nonFinite, file: file, subject: tensor.name, "the slope is \(slope)",
          advice: "the training run that wrote it may have diverged")
      }
      slopes.append(slope)
    }
    return slopes
  }
}
