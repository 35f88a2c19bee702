import Glibc
import NormFoldFormats

extension Architecture {
  /// NormFormer (arXiv 2110.09456) as the TransformerLanguageModel of fairseq 0.12.2 computes it, and without its options an
  /// ordinary decoder of fairseq: norms before the branches, and where the config says so a norm inside the MLP, a norm behind
  /// attention, a number for each head's share of what attention writes, and a vector for the stream that passes the MLP by.
  package static let normFormer: Architecture = .init(
    name: "fairseq decoder", modelType: "normformer", className: "NormFormerForCausalLM", normKind: .layer,
    configuration: .init(NormFormer.keys),
    tokenKeys: [("bos_token_id", .beginOfText), ("eos_token_id", .endOfText), ("pad_token_id", nil)],
    layout: NormFormer.layout(name: "NormFormer", mlp: "ffn."), otherForms: [NormFormer.fairseqForm],
    reading: .init(check: NormFormer.refuseEncoder),
    describe: { network, sizes in
      FairseqDecoder.describe(network, &sizes)
      sizes.own["scale_fc"] = .bool(network[norm: "blocks.0.mlp.inner.norm"] != nil)
      sizes.own["scale_attn"] = .bool(network[norm: "blocks.0.attention.outer.norm"] != nil)
      sizes.own["scale_resids"] = .bool(network["blocks.0.residual"] != nil)
      // They are part of the output maps.
      sizes.own["scale_heads"] = .bool(false)
      sizes.own["has_final_norm"] = .bool(network[norm: "final.norm"] != nil)
    },
    forward: { sizes, b in
      var x = FairseqDecoder.embedding(sizes, &b)
      for block in 0..<sizes.blockCount {
        let path: Path = "blocks.\(block)"
        let attended = b.attention(of: b.normalised(x, at: path.appending("attention.norm")), block: block)
        let written = b.normalised(attended, at: path.appending("attention.outer.norm"))
        let middle = b.add(x, written, at: path.appending("middle"))
        let hidden = b.mlp(of: b.normalised(middle, at: path.appending("mlp.norm")), block: block)
        x = b.add(b.scaled(middle, at: path.appending("residual")), hidden, at: path)
      }
      b.head(of: x)
    })
}

private enum NormFormer {
  /// A table of positions that is computed is held in memory.
  private static let maximumContext = 1 << 15

  static let keys: [ConfigurationTable.Key] =
    [
      .init("decoder_normalize_before", .flag, read: requireNormsBefore, write: { _ in .bool(true) }),
      .only("adaptive_input", .bool(false), because: "embeddings of several widths are not supported"),
      .only("character_embeddings", .bool(false), because: "embeddings of characters are not supported"),
      .only("base_layers", .number(0), because: "experts (BASE layers) are not supported"),
      .init("adaptive_softmax_cutoff", read: refuseAdaptiveSoftmax),
      .init(
        "decoder_input_dim", .count,
        read: { (fields, sizes) throws(Refusal) in
          try requireWidth("decoder_input_dim", fields)
        }),
      .init(
        "decoder_output_dim", .count,
        read: { (fields, sizes) throws(Refusal) in
          try requireWidth("decoder_output_dim", fields)
        }),
      .flag("scale_fc", usual: false), .flag("scale_attn", usual: false), .flag("scale_heads", usual: false),
      .flag("scale_resids", usual: false), .flag("decoder_learned_pos", usual: false),
    ] + FairseqDecoder.sizes(heads: 8) + [
      .init(
        "max_target_positions", .count,
        read: { (fields, sizes) throws(Refusal) in
          var count = try fields.count("max_target_positions")
          if count == nil { count = try fields.count("tokens_per_sample") }
          guard count ?? 0 <= maximumContext else {
            throw Refusal(
              .unsupported, file: fields.path, subject: fields.fullName("max_target_positions"),
              "expected at most \(maximumContext) positions, found \(count ?? 0)")
          }
          sizes.contextWithoutTable = count ?? 1_024
        }, write: { .number($0[.context]) }),
      .init("activation_fn", read: readActivation, write: { .string($0.activation.configName) }),
      .flag("no_scale_embedding", usual: false),
    ] + FairseqDecoder.flags + [
      .init(
        "no_decoder_final_norm", .flag,
        read: { (fields, sizes) throws(Refusal) in
          let isLeftOut = try fields.bool("no_decoder_final_norm") ?? false
          sizes.own["has_final_norm"] = .bool(!isLeftOut && sizes.flag("has_norms") ?? true)
        }, write: { .bool($0.flag("has_final_norm") == false) })
    ]

  /// - Throws: `.unsupported` where norms stand behind the residual sum, which is what a missing key means.
  @Sendable private static func requireNormsBefore(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    guard try fields.bool("decoder_normalize_before") != true else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: fields.fullName("decoder_normalize_before"),
      "expected true, found \(fields["decoder_normalize_before"]?.kind ?? "nothing"): norms behind the residual sum change "
        + "the residual stream itself and cannot be folded")
  }

  @Sendable private static func refuseAdaptiveSoftmax(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal)
  {
    guard let found = fields["adaptive_softmax_cutoff"], !found.isNull else { return }
    throw Refusal(
      .unsupported, file: fields.path, subject: fields.fullName("adaptive_softmax_cutoff"),
      "expected null, found \(found.kind): an unembedding in clusters is not supported")
  }

  /// - Throws: `.unsupported` where embeddings are narrower or wider than the residual stream, and projected.
  private static func requireWidth(_ key: String, _ fields: Fields) throws(Refusal) {
    guard let width = try fields.count(key), let model = try fields.count("decoder_embed_dim"), width != model else {
      return
    }
    throw Refusal(
      .unsupported, file: fields.path, subject: fields.fullName(key),
      "expected \(model), the decoder_embed_dim, found \(width): embeddings that are projected are not supported")
  }

  /// The activations by fairseq's names, and by those that transformers has for them.
  @Sendable private static func readActivation(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    switch try fields.string("activation_fn") {
    case "relu", nil: sizes.activation = .relu
    case "relu_squared", "relu2": sizes.activation = .reluSquared
    case "gelu": sizes.activation = .geluErf
    case "gelu_fast", "gelu_accurate", "gelu_new": sizes.activation = .geluTanh
    case let name?:
      throw Refusal(
        .unsupported, file: fields.path, subject: fields.fullName("activation_fn"),
        "the activation '\(name)' is unknown",
        advice: "known are relu, relu_squared, gelu, gelu_fast and gelu_accurate")
    }
  }

  // MARK: Tensors

  /// - Parameters:
  ///   - mlp: what stands before the names of the MLP's tensors.
  ///   - buffers: tensors that are no parameters.
  static func layout(
    name: String, prefix: String = "", mlp: String, buffers: [(start: String, end: String, rule: String)] = []
  ) -> Layout {
    Layout(
      name: name, prefix: prefix, buffers: buffers, positionOffset: FairseqDecoder.positionOffset,
      FairseqDecoder.embeddings
        + FairseqDecoder.block(mlp: mlp, innerMLPNorm: .ifSaid("scale_fc")) + [
          [
            .vector(
              "layers.#.c_attn", "blocks.#.attention.output.scale", of: .headCount, presence: .ifSaid("scale_heads"))
          ],
          SlotPattern.norm("layers.#.attn_ln", "blocks.#.attention.outer.norm", presence: .ifSaid("scale_attn")),
          [.vector("layers.#.w_resid", "blocks.#.residual.scale", of: .model, presence: .ifSaid("scale_resids"))],
        ] + FairseqDecoder.head(finalNorm: .ifSaid("has_final_norm")))
  }

  // MARK: fairseq

  /// A checkpoint of fairseq: the state dict under `model`, its arguments under `cfg.model` or, before version 0.10.1, `args`.
  static let fairseqForm: StorageForm = .init(
    recognises: { (content) throws(Refusal) in
      content.checkpoint.container == .pytorch && prefix(of: content.checkpoint) != nil
        && content.checkpoint.tensors.contains { $0.name.contains("decoder.layers.") }
    },
    read: { (content) throws(Refusal) in
      let checkpoint = content.checkpoint
      let fields = Fields(metadataOf: checkpoint, prefix: prefix(of: checkpoint) ?? "")
      var sizes = Hyperparameters(path: checkpoint.path)
      try ConfigurationTable(keys).read(fields, into: &sizes)
      // "Earlier checkpoints did not normalize after the stack of layers": fairseq leaves the norm out of them.
      if version(of: checkpoint) <= 2 {
        sizes.own["has_final_norm"] = .bool(false)
        sizes.own["is_old"] = .bool(true)
      }
      return sizes
    },
    layout: { sizes in
      var buffers = [
        (start: "version", end: "", rule: "version of the decoder"),
        (start: "embed_positions._float_tensor", end: "", rule: "buffer of positions that are computed"),
      ]
      if sizes.flag("is_old") == true {
        buffers.append(
          (start: "layer_norm.", end: "", rule: "last norm, which fairseq leaves out where decoder.version is below 3"))
      }
      return layout(name: "fairseq", prefix: "decoder.", mlp: "", buffers: buffers)
    },
    reading: .init(check: refuseEncoder, parameters: sinusoidalPositions))

  private static func prefix(of checkpoint: Checkpoint) -> String? {
    ["cfg.model.", "args."].first { checkpoint.metadata[$0 + "decoder_layers"] != nil }
  }

  /// The number that upgrades of state dicts go by; 1 where there is none, as in fairseq.
  private static func version(of checkpoint: Checkpoint) -> Double {
    let name = "decoder.version"
    guard let tensor = checkpoint.tensors.first(where: { $0.name == name || $0.name.hasSuffix("." + name) }),
      tensor.info.elementCount > 0, tensor.info.type.isDecodable
    else { return 1 }
    return tensor.decoded(as: Double.self)[0]
  }

  @Sendable static func refuseEncoder(_ tensors: NamedTensors, _ sizes: Hyperparameters) throws(Refusal) {
    guard
      let name = tensors.names.filter({ $0.hasPrefix("encoder.") || $0.contains(".encoder_attn") }).min()
    else { return }
    throw Refusal(
      .unsupported, file: tensors.checkpoint.path, subject: name,
      "belongs to an encoder, or to attention to one", advice: "only language models with a decoder alone are read")
  }

  /// The table of positions where none is learned: halves of sines and cosines, position t at t + 2. The steps are those of
  /// fairseq's SinusoidalPositionalEmbedding, in float32 like there, each rounded correctly.
  @Sendable private static func sinusoidalPositions(_ sizes: Hyperparameters) -> [String: Parameter] {
    guard sizes.flag("decoder_learned_pos") != true, sizes.flag("no_token_positional_embeddings") != true else {
      return [:]
    }
    let (width, count) = (sizes.dModel, sizes.contextLength)
    let half = width / 2
    let step = Float(-log(10_000.0) / Double(half - 1))
    let frequencies = (0..<half).map { Float(exp(Double(Float($0) * step))) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * width * 4)
    for position in 0..<count {
      let angles = frequencies.map { Double(Float(position + FairseqDecoder.positionOffset) * $0) }
      // A width that is odd has a zero at the end.
      for value in angles.map(sin) + angles.map(cos) + [Double](repeating: 0, count: width % 2) {
        let bits = Float(value).bitPattern
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: bits >> shift)) }
      }
    }
    let file = MappedFile(copying: bytes, path: "sinusoidal positions")
    let info = TensorInfo(name: "sinusoidal positions", type: .f32, shape: [count, width])
    return ["embedding.positions.weight": .stored(Tensor(info: info, file: file, byteOffset: 0))]
  }
}
