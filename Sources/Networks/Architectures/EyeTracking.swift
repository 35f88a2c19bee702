import NormFoldFormats

extension Architecture {
  /// A RoBERTa that predicts how long eyes rest on the words of a sentence, with numbers of each word beside its text (CMCL 2021): the
  /// mean of the states of a word's tokens goes through two maps, the numbers of the word through a map and one layer of
  /// PyTorch's TransformerEncoderLayer, and both meet in front of the last map.
  ///
  /// That layer reads [1, words, width] with its first axis for the sequence: it attends, word by word, over the sentences of
  /// the batch. For one sentence, the only case in which an answer does not depend on its neighbours, attention is the map of its
  /// values followed by that of its output, and queries and keys do nothing.
  package static let eyeTracking = Architecture(
    name: "Eye-tracking RoBERTa", modelType: "eye-tracking-roberta", className: "EyeTrackingRoBERTa",
    task: .wordRegression, normKind: .layer, configuration: EyeTracking.configuration,
    tokenKeys: [("bos_token_id", nil), ("eos_token_id", nil)], layout: EyeTracking.layout,
    otherForms: [EyeTracking.stateDict],
    describe: { network, sizes in sizes[.model] = network.width(of: "embedding") },
    forward: { sizes, b in
      let states = b.robertaEncoder(sizes)
      let word = b.apply(.select(.word), to: states, at: "language.word")
      let inner = b.apply(.activate(.geluErf), to: b.linear(word, at: "language.input"), at: "language.activation")
      let language = b.linear(inner, at: "language.output")
      let numbers = b.apply(
        .features(width: sizes[extent: .own(EyeTracking.featureCount)]), at: "features.numbers")
      let x = b.apply(
        .activate(.geluErf), to: b.linear(numbers, at: "features.input"), at: "features.activation")
      let attended = b.linear(x, through: "features.value", at: "features.attended")
      let y = b.normalised(b.add(x, attended, at: "features.middle"), at: "features.attention.norm")
      let hidden = b.apply(
        .activate(.relu), to: b.linear(y, at: "features.mlp.input"), at: "features.mlp.activation")
      let z = b.normalised(
        b.add(y, b.linear(hidden, at: "features.mlp.output"), at: "features.sum"), at: "features.mlp.norm")
      let mean = b.apply(.scale(0.5), to: b.add(language, z, at: "words"), at: "words.mean")
      _ = b.linear(mean, at: "classifier")
    })
}

private enum EyeTracking {
  /// Keys of sizes that the tensors say.
  static let (featureCount, innerWidth, wordWidth, hiddenWidth) = (
    "word_feature_count", "language_width", "word_width", "word_hidden_width"
  )
  private static let features = "feature_model.transformerlayer."

  static let configuration: ConfigurationTable = .init(
    Architecture.roberta[0].configuration.keys
      + [featureCount, innerWidth, wordWidth, hiddenWidth].map { name in
        .init(
          name, .count,
          read: { (fields, sizes) throws(Refusal) in
            sizes.own[name] = .number(try fields.requiredCount(name, advice: "write what the tensors have"))
          }, write: { $0.own[name] })
      })

  static let layout = Layout(
    name: "eye-tracking RoBERTa", prefix: "base_model.roberta.",
    buffers: [
      (start: "embeddings.position_ids", end: "", rule: "numbers of the positions"),
      (start: "pooler.", end: "", rule: "pooler, which nothing reads"),
      (start: "base_model.classifier.", end: "", rule: "classifier of tokens, which nothing reads"),
      (start: "feature_model.transformer.", end: "", rule: "layers that are never run"),
    ],
    BERT.encoder + [
      linear("languageheadlayer.mid", "language.input", from: .model, to: .own(innerWidth)),
      linear("languageheadlayer.out", "language.output", from: .own(innerWidth), to: .own(wordWidth)),
      linear("feature_model.inp", "features.input", from: .own(featureCount), to: .own(wordWidth)),
      // Queries and keys of one sentence decide nothing.
      [
        .weight(
          features + "self_attn.in_proj_weight", ["features.query", "features.key", "features.value"],
          from: .own(wordWidth), to: [.own(wordWidth), .own(wordWidth), .own(wordWidth)],
          axes: [[.part, .output], [.input]]
        ).withoutPrefix,
        .bias(
          features + "self_attn.in_proj_bias", ["features.query", "features.key", "features.value"],
          to: [.own(wordWidth), .own(wordWidth), .own(wordWidth)]
        ).withoutPrefix,
      ],
      linear(features + "self_attn.out_proj", "features.attended", from: .own(wordWidth), to: .own(wordWidth)),
      norm("norm1", "features.attention.norm"),
      linear(features + "linear1", "features.mlp.input", from: .own(wordWidth), to: .own(hiddenWidth)),
      linear(features + "linear2", "features.mlp.output", from: .own(hiddenWidth), to: .own(wordWidth)),
      norm("norm2", "features.mlp.norm"), linear("out", "classifier", from: .own(wordWidth), to: .labels),
    ])

  private static func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
    SlotPattern.linear(name, path, from: input, to: output).map(\.withoutPrefix)
  }

  private static func norm(_ name: String, _ path: String) -> [SlotPattern] {
    SlotPattern.norm(features + name, path, of: .own(wordWidth)).map(\.withoutPrefix)
  }

  /// A state dict of both parts, beside the config.json of its RoBERTa.
  static let stateDict = StorageForm(
    recognises: { (content) throws(Refusal) in
      content.checkpoint.container != .gguf && content.presentConfiguration?["model_type"]?.string == "roberta"
        && (content.shape("languageheadlayer.mid.weight") != nil || content.shape("feature_model.inp.weight") != nil)
    },
    read: { (content) throws(Refusal) in
      var sizes = Hyperparameters(path: content.configurationPath)
      let fields = Fields(json: try content.configuration(), path: content.configurationPath)
      try Architecture.roberta[0].configuration.read(fields, into: &sizes)
      // The labels of the config are those of a classifier that nothing reads.
      sizes.statements.removeAll { $0.size == .labels }
      for name in ["languageheadlayer.dense.weight", "feature_model.dense.weight"] where content.shape(name) != nil {
        throw Refusal(
          .unsupported, file: content.checkpoint.path, subject: name,
          "is of an older form with one map more in both parts, which is not read")
      }
      for (key, name, axis) in [
        (featureCount, "feature_model.inp.weight", 1), (wordWidth, "feature_model.inp.weight", 0),
        (innerWidth, "languageheadlayer.mid.weight", 0), (hiddenWidth, features + "linear1.weight", 0),
      ] {
        guard let shape = content.shape(name) else {
          throw Refusal(
            .malformed, file: content.checkpoint.path, subject: name, "this tensor is missing",
            advice: "the checkpoint is incomplete")
        }
        guard shape.count == 2 else {
          throw Refusal(
            .malformed, file: content.checkpoint.path, subject: name, "expected a matrix, found shape \(shape)")
        }
        sizes.own[key] = .number(shape[axis])
      }
      return sizes
    },
    layout: { _ in layout })
}

extension CheckpointContent {
  /// The shape of the tensor of this name, whatever program put something before it.
  fileprivate func shape(_ name: String) -> [Int]? {
    checkpoint.tensors.first { $0.name == name || $0.name.hasSuffix("." + name) }?.shape
  }
}
