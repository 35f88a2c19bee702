import NormFoldFormats

extension Architecture {
  /// ViT (arXiv 2010.11929), as Hugging Face's classes compute it: hidden states with a pooler, or the logits of the labels of an
  /// image. What timm and DeiT store is read as the classifier.
  package static let vit: [Architecture] = ViT.Head.allCases.map { head in
    .init(
      name: "ViT", modelType: "vit", className: head.rawValue, task: head.task, normKind: .layer,
      configuration: ViT.configuration, carriedKeys: carriedKeysOfEncoders, tokenKeys: [], layout: ViT.layout(head),
      otherForms: head == .classifier ? [ViT.timm] : [], reading: .init(check: ViT.check),
      describe: { network, sizes in
        sizes.own["qkv_bias"] = .bool(network[linear: "blocks.0.attention.query"]?.bias != nil)
      },
      forward: { sizes, b in
        func size(_ key: String) -> String { sizes.own[key]?.lastTwo.map { "\($0[0]) × \($0[1])" } ?? "" }
        guard let image = sizes.imageGrid else { preconditionFailure("the image was checked") }
        // The row of the class token is that of no patch, so that the bias of the patches is none of its own.
        let patches = b.linear(b.apply(.patches(image), at: "embedding.pixels"), at: "embedding.patches")
        let biased = b.add(
          patches, b.embed(by: .others, at: "embedding.patches.bias"), at: "embedding.patches.biased")
        let tokens = b.add(biased, b.embed(by: .first, at: "embedding.class"), at: "embedding.tokens")
        var x = b.add(tokens, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
        for block in 0..<sizes.blockCount { x = b.block(of: x, number: block, mask: .bidirectional) }
        let y = b.normalised(x, at: "final.norm")
        switch head {
        case .model:
          guard b.has("pooler") else { return b.giveAway(y) }
          b.giveAway(y, besides: [b.pooled(y)])
        case .classifier: _ = b.linear(b.apply(.select(.first), to: y, at: "classifier.first"), at: "classifier")
        }
      })
  }
}

enum ViT {
  fileprivate enum Head: String, CaseIterable {
    case model = "ViTModel"
    case classifier = "ViTForImageClassification"

    var task: Task {
      switch self {
      case .model: .features
      case .classifier: .imageClassification
      }
    }
  }

  fileprivate static let configuration: ConfigurationTable = .init([
    .only("pooler_act", .string("tanh"), because: "other activations of the pooler are not supported"),
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_hidden_layers", .blocks), .size("hidden_size", .model), .size("intermediate_size", .hidden), .labels,
    .extent("image_size", usual: 224), .extent("patch_size", usual: 16),
    .init(
      "num_channels", .count,
      read: { (fields, sizes) throws(Refusal) in
        sizes.own["num_channels"] = .number(try fields.count("num_channels") ?? 3)
      }, write: { $0.own["num_channels"] }),
    .flag("qkv_bias", usual: true), .activation("hidden_act", usual: .geluErf),
    .epsilon("layer_norm_eps", usual: 1e-12), .constant("attention_probs_dropout_prob", .number(0.0)),
    .constant("hidden_dropout_prob", .number(0.0)),
  ])

  /// - Throws: `.malformed` where patches do not fill the image, or are not as many as the positions say.
  fileprivate static func check(_ tensors: NamedTensors, _ sizes: Hyperparameters) throws(Refusal) {
    func size(_ key: String) -> String { sizes.own[key]?.lastTwo.map { "\($0[0]) × \($0[1])" } ?? "" }
    guard let image = sizes.imageGrid else {
      throw Refusal(
        .malformed, file: sizes.path, subject: "patch_size",
        "patches of \(size("patch_size")) pixels do not fill an image of \(size("image_size"))")
    }
    let names = ["embeddings.position_embeddings", "pos_embed"]
    guard let positions = names.compactMap({ tensors.peek($0) }).first?.shape, positions.count == 3,
      positions[1] != image.count + 1
    else { return }
    throw Refusal(
      .unsupported, file: tensors.checkpoint.path, subject: names.first { tensors.peek($0) != nil },
      "has \(positions[1]) positions, expected one for the class token and \(image.count) for the patches of an image of "
        + "\(image.height) × \(image.width)",
      advice: "give the size of the images that it was trained on")
  }

  // MARK: Tensors

  /// ViT as Hugging Face stores it, behind the prefix `vit.` where a classifier follows: Linear matrices [out, in], the patches'
  /// as the kernel of a convolution [out, channels, height, width].
  fileprivate static func layout(_ head: Head) -> Layout {
    func linear(
      _ name: String, _ path: String, to output: Extent = .model, from input: Extent = .model,
      bias: Slot.Presence = .always
    )
      -> [SlotPattern]
    {
      SlotPattern.linear("encoder.layer.#.\(name)", "blocks.#.\(path)", from: input, to: output, biasPresence: bias)
    }
    let embeddings = embeddings(
      classToken: "embeddings.cls_token", positions: "embeddings.position_embeddings",
      patches: "embeddings.patch_embeddings.projection")
    let last: [SlotPattern]
    switch head {
    case .model:
      last = SlotPattern.linear("pooler.dense", "pooler", from: .model, to: .model, biasPresence: .perhaps).map {
        $0.with(.perhaps)
      }
    case .classifier:
      last = SlotPattern.linear("classifier", "classifier", from: .model, to: .labels).map(\.withoutPrefix)
    }
    return .init(
      name: "Hugging Face ViT", prefix: head == .model ? "" : "vit.",
      buffers: head == .model
        ? [] : [(start: "pooler.", end: "", rule: "pooler, which \(head.rawValue) does not have")],
      [
        embeddings,
        SlotPattern.norm("encoder.layer.#.layernorm_before", "blocks.#.attention.norm"),
        linear("attention.attention.query", "attention.query", to: .heads, bias: .ifSaid("qkv_bias")),
        linear("attention.attention.key", "attention.key", to: .heads, bias: .ifSaid("qkv_bias")),
        linear("attention.attention.value", "attention.value", to: .heads, bias: .ifSaid("qkv_bias")),
        linear("attention.output.dense", "attention.output", from: .heads),
        SlotPattern.norm("encoder.layer.#.layernorm_after", "blocks.#.mlp.norm"),
        linear("intermediate.dense", "mlp.input", to: .hidden), linear("output.dense", "mlp.output", from: .hidden),
        SlotPattern.norm("layernorm", "final.norm"), last,
      ])
  }

  private static func embeddings(classToken: String, positions: String, patches: String) -> [SlotPattern] {
    [
      SlotPattern.table(classToken, "embedding.class", rows: .single).withLeadingAxes(1),
      SlotPattern.table(positions, "embedding.positions", rows: .positions).withLeadingAxes(1),
      SlotPattern.weight(
        patches + ".weight", ["embedding.patches"], from: .patch, to: [.model], axes: [[.part, .output], [.input]]),
      SlotPattern.table(patches + ".bias", "embedding.patches.bias", rows: .single).withLeadingAxes(-1),
    ]
  }

  /// timm's names; the three maps of attention are one tensor, and a branch may end in scales of its features.
  private static let timmLayout = Layout(
    name: "timm ViT",
    [
      embeddings(classToken: "cls_token", positions: "pos_embed", patches: "patch_embed.proj"),
      SlotPattern.norm("blocks.#.norm1", "blocks.#.attention.norm"),
      SlotPattern.linear(
        "blocks.#.attn.qkv", "blocks.#.attention.query", "blocks.#.attention.key", "blocks.#.attention.value",
        from: .model, to: .heads, .heads, .heads, biasPresence: .ifSaid("qkv_bias")),
      SlotPattern.linear("blocks.#.attn.proj", "blocks.#.attention.output", from: .heads, to: .model),
      [.vector("blocks.#.ls1.gamma", "blocks.#.attention.output.featureScale", of: .model, presence: .perhaps)],
      SlotPattern.norm("blocks.#.norm2", "blocks.#.mlp.norm"),
      SlotPattern.linear("blocks.#.mlp.fc1", "blocks.#.mlp.input", from: .model, to: .hidden),
      SlotPattern.linear("blocks.#.mlp.fc2", "blocks.#.mlp.output", from: .hidden, to: .model),
      [.vector("blocks.#.ls2.gamma", "blocks.#.mlp.output.featureScale", of: .model, presence: .perhaps)],
      SlotPattern.norm("norm", "final.norm"),
      SlotPattern.linear("head", "classifier", from: .model, to: .labels),
    ])

  // MARK: timm

  /// A state dict of timm, beside the config.json that timm writes: `{"architecture": "vit_tiny_patch16_224", "model_args": …}`.
  fileprivate static let timm = StorageForm(
    recognises: { (content) throws(Refusal) in
      guard content.checkpoint.container != .gguf, let json = content.presentConfiguration, json["model_type"] == nil,
        let name = json["architecture"]?.string
      else { return false }
      return name.hasPrefix("vit_") || name.hasPrefix("deit_")
    },
    read: { (content) throws(Refusal) in try hyperparameters(ofTimm: content) }, layout: { _ in timmLayout },
    reading: .init(check: check))

  /// Arguments of timm's class that the tensors say again, or that speak of training.
  private static let knownArguments: Set<String> = [
    "img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias",
    "init_values", "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate",
    "drop_path_rate",
    "weight_init", "fix_init",
  ]

  private static func hyperparameters(ofTimm content: CheckpointContent) throws(Refusal) -> Hyperparameters {
    let (json, path) = (try content.configuration(), content.configurationPath)
    let arguments = json["model_args"]
    let name = json["architecture"]?.string ?? ""
    func refusal(_ subject: String, _ problem: String, _ advice: Message = "") -> Refusal {
      Refusal(.unsupported, file: path, subject: subject, problem, advice: advice)
    }
    for member in arguments?.members ?? [] where !knownArguments.contains(member.key) && !member.value.isNull {
      throw refusal("model_args.\(member.key)", "\(member.value.kind) is not supported yet")
    }
    if let pool = json["global_pool"], !pool.isNull, pool != .string("token") {
      throw refusal("global_pool", "\(pool.kind) is not supported yet", "only classifiers of the class token are")
    }
    if name.contains("gelu") { throw refusal("architecture", "'\(name)' has another activation than the exact GELU") }
    var sizes = Hyperparameters(path: path)
    (sizes.epsilon, sizes.activation) = (1e-6, .geluErf)
    let usualHeads = [("_tiny_", 3), ("_small_", 6), ("_base_", 12), ("_large_", 16), ("_huge_", 16)]
    if let heads = arguments?["num_heads"]?.count {
      sizes.statements.append(.init(key: "model_args.num_heads", size: .heads, value: heads))
    } else if let (_, heads) = usualHeads.first(where: { name.contains($0.0) }) {
      sizes.statements.append(.init(key: "architecture", size: .heads, value: heads))
    } else {
      throw refusal(
        "architecture", "'\(name)' does not say how many heads there are",
        "write the number into config.json: \"model_args\": {\"num_heads\": …}")
    }
    func tensor(_ end: String) -> [Int]? {
      content.checkpoint.tensors.first { $0.name == end || $0.name.hasSuffix("." + end) }?.shape
    }
    guard let patches = tensor("patch_embed.proj.weight"), patches.count == 4 else {
      throw Refusal(
        .malformed, file: content.checkpoint.path, subject: "patch_embed.proj.weight", "this tensor is missing",
        advice: "a ViT cannot be read without it")
    }
    sizes.own["num_channels"] = .number(patches[1])
    sizes.own["patch_size"] = .array(patches[2...].map { .number($0) })
    sizes.own["qkv_bias"] = .bool(tensor("blocks.0.attn.qkv.bias") != nil)
    if let given = (arguments?["img_size"] ?? json["pretrained_cfg"]?["input_size"]), let image = given.lastTwo {
      sizes.own["image_size"] = .array(image.map { .number($0) })
    } else {
      // A square, as many patches high as it is wide.
      let count = (tensor("pos_embed")?.dropFirst().first ?? 1) - 1
      let side = Int(Double(max(0, count)).squareRoot().rounded())
      sizes.own["image_size"] = .array([.number(side * patches[2]), .number(side * patches[3])])
    }
    return sizes
  }
}

extension JSONValue {
  /// The height and width that a number or the end of a list says.
  fileprivate var lastTwo: [Int]? {
    if let count { return [count, count] }
    guard let counts = array?.map(\.count), counts.count >= 2, !counts.contains(nil) else { return nil }
    return counts.suffix(2).compactMap(\.self)
  }
}

extension ConfigurationTable.Key {
  /// A height and a width: one number where they are the same.
  fileprivate static func extent(_ name: String, usual: Int) -> Key {
    Key(
      name,
      read: { (fields, sizes) throws(Refusal) in
        guard let value = fields[name], !value.isNull else {
          sizes.own[name] = .array([.number(usual), .number(usual)])
          return
        }
        guard let pair = value.lastTwo, value.array?.count ?? 2 == 2 else {
          throw fields.refusal(name, expected: "a number of pixels, or a height and a width")
        }
        sizes.own[name] = .array(pair.map { .number($0) })
      },
      write: { sizes in
        guard let pair = sizes.own[name]?.lastTwo else { return nil }
        return pair[0] == pair[1] ? .number(pair[0]) : sizes.own[name]
      })
  }
}

extension Hyperparameters {
  /// The image that the network reads, in patches; nil where it reads none, or where patches do not fill it.
  package var imageGrid: ImageGrid? {
    guard let image = own["image_size"]?.lastTwo, let patch = own["patch_size"]?.lastTwo,
      let channels = own["num_channels"]?.count
    else { return nil }
    return ImageGrid(channels: channels, height: image[0], width: image[1], patchHeight: patch[0], patchWidth: patch[1])
  }
}
