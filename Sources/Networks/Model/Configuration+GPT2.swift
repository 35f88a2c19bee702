import Formats

extension Configuration {
  /// Hugging Face's `config.json` of a GPT-2.
  ///
  /// - Throws: `.malformed` for a field of the wrong type; `.unsupported` for an activation that we do not know.
  init(gpt2 json: JSONValue, path: String) throws(Refusal) {
    let fields = Fields(json: json, path: path)
    self.path = path
    self.json = json
    modelType = try fields.string("model_type")
    headCount = try fields.requiredCount("n_head", advice: "the tensors do not say how many heads there are")
    blockCount = try fields.count("n_layer")
    dModel = try fields.count("n_embd")
    dMLP = try fields.count("n_inner")
    let positions = try fields.count("n_positions")
    let context = try fields.count("n_ctx")
    contextLength = positions ?? context
    olderContextLength = context
    vocabularySize = try fields.count("vocab_size")
    epsilon = try fields.positiveNumber("layer_norm_epsilon", usual: 1e-5)
    isTied = try fields.bool("tie_word_embeddings") ?? true
    scalesAttention = try fields.bool("scale_attn_weights") ?? true
    scalesAttentionByInverseBlock = try fields.bool("scale_attn_by_inverse_layer_idx") ?? false
    endOfText = try fields.count("eos_token_id")
    keptNorms = try fields.keptNorms("kept_norms")
    let isFolded = modelType == Model.foldedModelType
    if isFolded { normKind = try fields.choice("norm_kind") ?? .layer }
    if let hasBlockNorms = try fields.hasBlockNorms("norm_type") {
      try readNormFreeTraining(fields, hasBlockNorms: hasBlockNorms)
    } else {
      activation = try fields.activation("activation_function")
      if isFolded { leakySlopes = try fields.slopes("leaky_relu_slopes") }
    }
    guard leakySlopes == nil || activation.configName == Activation.leakyReLU(negativeSlope: 0).configName else {
      throw Refusal(
        .malformed, file: path, subject: "leaky_relu_slopes",
        "there are slopes, but the activation is \(activation.configName)")
    }
  }

  /// Of those models `n_ctx` is the length that they were trained on, and their attention knows no scale but 1/√dHead or
  /// none.
  private mutating func readNormFreeTraining(_ fields: Fields, hasBlockNorms: Bool) throws(Refusal) {
    olderContextLength = nil
    contextLength = try fields.count("n_positions")
    scalesAttentionByInverseBlock = false
    var slopes: NormFreeTraining.Slopes?
    switch try fields.string("activation_function") {
    case "leaky_relu": activation = .leakyReLU(negativeSlope: try fields.requiredNumber("lrelu_neg_slope"))
    case "learnable_lrelu":
      guard let mode: NormFreeTraining.Slopes = try fields.choice("learnable_lrelu_mode") else {
        throw Refusal(
          .malformed, file: path, subject: "learnable_lrelu_mode", "is missing",
          advice: "it says whether each block has one slope or one of many: global or per_layer")
      }
      slopes = mode
    default: activation = try fields.activation("activation_function")
    }
    normFree = NormFreeTraining(hasBlockNorms: hasBlockNorms, slopes: slopes)
  }

  /// What a nanoGPT checkpoint keeps in `model_args`; nil where it is not one. nanoGPT's GELU is the exact one, its
  /// unembedding tied.
  init?(nanoGPT checkpoint: Checkpoint) throws(Refusal) {
    guard checkpoint.container == .pytorch, checkpoint.metadata["model_args.n_head"] != nil else { return nil }
    let metadata = Metadata(checkpoint: checkpoint, prefix: "model_args.")
    path = checkpoint.path
    json = nil
    headCount = try metadata.requiredCount("n_head")
    blockCount = try metadata.count("n_layer")
    dModel = try metadata.count("n_embd")
    contextLength = try metadata.count("block_size")
    vocabularySize = try metadata.count("vocab_size")
    biases = checkpoint.metadata["model_args.bias"]?.bool ?? true ? .everywhere : .asStored
    activation = .geluErf
    endOfText = 50_256
    keyNames = [
      "n_layer": "model_args.n_layer", "n_head": "model_args.n_head", "n_embd": "model_args.n_embd",
      "n_positions": "model_args.block_size", "vocab_size": "model_args.vocab_size",
    ]
  }

  /// The keys `gpt2.*` of a GGUF file.
  init(ggufGPT2 checkpoint: Checkpoint) throws(Refusal) {
    let metadata = Metadata(checkpoint: checkpoint, prefix: "gpt2.")
    path = checkpoint.path
    json = nil
    headCount = try metadata.requiredCount("attention.head_count")
    blockCount = try metadata.count("block_count")
    dModel = try metadata.count("embedding_length")
    dMLP = try metadata.count("feed_forward_length")
    contextLength = try metadata.count("context_length")
    vocabularySize = try metadata.count("vocab_size")
    epsilon = try metadata.positiveNumber("attention.layer_norm_epsilon")
    isTied = checkpoint["output.weight"] == nil
    endOfText = checkpoint.metadata["tokenizer.ggml.eos_token_id"]?.integer
    keyNames = [
      "n_layer": "gpt2.block_count", "n_head": "gpt2.attention.head_count", "n_embd": "gpt2.embedding_length",
      "n_inner": "gpt2.feed_forward_length", "n_positions": "gpt2.context_length", "vocab_size": "gpt2.vocab_size",
    ]
  }
}
