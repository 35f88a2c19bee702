import Formats

extension Configuration {
  /// What the class LlamaConfig takes for a context that nobody names.
  private static let usualContextLength = 2_048

  /// Hugging Face's `config.json` of a LLaMA. Where a key is missing, what the class LlamaConfig says counts.
  ///
  /// - Throws: `.malformed` for a field of the wrong type or heads that do not divide; `.unsupported` for an activation
  ///   or rotary positions that we do not know.
  init(llama json: JSONValue, path: String) throws(Refusal) {
    let fields = Fields(json: json, path: path)
    self.path = path
    self.json = json
    architecture = .llama
    modelType = Architecture.llama.modelType
    headCount = try fields.requiredCount(
      "num_attention_heads", advice: "the tensors do not say how many heads there are")
    keyValueHeadCount = try fields.count("num_key_value_heads")
    dHead = try fields.count("head_dim")
    blockCount = try fields.count("num_hidden_layers")
    dModel = try fields.count("hidden_size")
    dMLP = try fields.count("intermediate_size")
    // The second name is that of checkpoints trained with LayerNorm Scaling.
    let positions = try fields.count("max_position_embeddings")
    let trained = try fields.count("max_sequence_length")
    contextLength = positions ?? trained ?? Self.usualContextLength
    vocabularySize = try fields.count("vocab_size")
    activation = try fields.activation("hidden_act", usual: .silu)
    epsilon = try fields.positiveNumber("rms_norm_eps", usual: 1e-6)
    isTied = try fields.bool("tie_word_embeddings") ?? false
    rotary = try fields.rotary()
    let attention = try fields.bool("attention_bias") ?? false
    let mlp = try fields.bool("mlp_bias") ?? false
    biases = .ofMaps(attention: attention, mlp: mlp)
    // Several where there are several ways to end.
    endOfText = json["eos_token_id"]?.array?.first?.count ?? json["eos_token_id"]?.count
    keyNames = [
      "n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embd": "hidden_size",
      "n_inner": "intermediate_size",
    ]
    try requireDivision(of: "num_attention_heads", by: "num_key_value_heads")
  }

  /// The keys `llama.*` of a GGUF file.
  ///
  /// - Throws: `.unsupported` for experts and scaled rotary positions.
  init(ggufLLaMA checkpoint: Checkpoint) throws(Refusal) {
    let metadata = Metadata(checkpoint: checkpoint, prefix: "llama.")
    path = checkpoint.path
    json = nil
    architecture = .llama
    modelType = Architecture.llama.modelType
    headCount = try metadata.requiredCount("attention.head_count")
    keyValueHeadCount = try metadata.count("attention.head_count_kv")
    dHead = try metadata.count("attention.key_length")
    blockCount = try metadata.count("block_count")
    dModel = try metadata.count("embedding_length")
    dMLP = try metadata.count("feed_forward_length")
    contextLength = try metadata.requiredCount("context_length")
    vocabularySize = try metadata.count("vocab_size")
    activation = .silu
    epsilon = try metadata.positiveNumber("attention.layer_norm_rms_epsilon")
    isTied = checkpoint["output.weight"] == nil
    biases = .asStored
    endOfText = checkpoint.metadata["tokenizer.ggml.eos_token_id"]?.integer
    keyNames = [
      "n_layer": "llama.block_count", "n_head": "llama.attention.head_count", "n_embd": "llama.embedding_length",
      "n_inner": "llama.feed_forward_length", "vocab_size": "llama.vocab_size",
    ]
    rotary = Rotary(
      base: checkpoint.metadata["llama.rope.freq_base"] == nil ? 10_000 : try metadata.positiveNumber("rope.freq_base"))
    if let count = try metadata.count("expert_count"), count > 0 {
      throw Refusal(
        .unsupported, file: path, subject: "llama.expert_count", "\(count) experts: only dense MLPs are supported")
    }
    let scaling = checkpoint.metadata["llama.rope.scaling.type"]?.string ?? "none"
    guard scaling == "none", checkpoint.metadata["llama.rope.scale_linear"] == nil else {
      throw .scaledRotary(scaling == "none" ? "linear" : scaling, file: path, subject: "llama.rope.scaling.type")
    }
    guard checkpoint["rope_freqs.weight"] == nil else {
      throw .scaledRotary("llama3", file: path, subject: "rope_freqs.weight")
    }
    try requireDivision(of: "llama.attention.head_count", by: "llama.attention.head_count_kv")
    if let width = dHead ?? dModel.map({ $0 / headCount }), let turned = try metadata.count("rope.dimension_count"),
      turned != width
    {
      throw Refusal(
        .unsupported, file: path, subject: "llama.rope.dimension_count",
        "\(turned) of the \(width) features of a head are turned; only all of them are supported")
    }
  }

  /// - Throws: `.malformed` where heads of the queries cannot share those of keys and values evenly.
  private func requireDivision(of heads: String, by groups: String) throws(Refusal) {
    guard headCount > 0 else { throw Refusal(.malformed, file: path, subject: heads, "expected at least one head") }
    guard let count = keyValueHeadCount else { return }
    guard count > 0, headCount % count == 0 else {
      throw Refusal(
        .malformed, file: path, subject: groups, "\(count) heads of keys and values do not divide \(headCount) heads")
    }
  }
}

extension Fields {
  /// Under the keys of transformers 5 (`rope_parameters`) and of versions before it.
  ///
  /// - Throws: `.unsupported` for any type but the plain one.
  fileprivate func rotary() throws(Refusal) -> Rotary {
    var base = try positiveNumber("rope_theta", usual: 10_000)
    for key in ["rope_scaling", "rope_parameters"] {
      guard let value = json[key], !value.isNull else { continue }
      guard value.members != nil else {
        throw Refusal(.malformed, file: path, subject: key, "expected an object, found \(value.kind)")
      }
      let inner = Fields(json: value, path: path)
      let (newer, older) = (try inner.string("rope_type"), try inner.string("type"))
      let type = newer ?? older ?? "default"
      guard type == "default" else { throw .scaledRotary(type, file: path, subject: "\(key).rope_type") }
      base = try inner.positiveNumber("rope_theta", usual: base)
      try inner.requireWholeHeads()
    }
    try requireWholeHeads()
    return Rotary(base: base)
  }

  private func requireWholeHeads() throws(Refusal) {
    guard let share = json["partial_rotary_factor"], !share.isNull, share.double != 1 else { return }
    throw Refusal(
      .unsupported, file: path, subject: "partial_rotary_factor",
      "expected 1, found \(share.kind): only heads that are turned whole are supported")
  }
}

extension Refusal {
  fileprivate static func scaledRotary(_ type: String, file: String, subject: String) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: subject, "rotary positions of type '\(type)' are not supported yet",
      advice: "only plain ones are (default)")
  }
}
