import Formats

extension Configuration {
  /// Arguments of HookedTransformerConfig that we write or understand, or that change no logit. Any other may stand for
  /// an architecture that is none of ours.
  private static let transformerLensKeys: Set<String> = [
    "act_fn", "d_head", "d_mlp", "d_model", "d_vocab", "default_prepend_bos", "device", "init_weights", "model_name",
    "n_ctx", "n_heads", "n_layers", "normalization_type", "original_architecture", "positional_embedding_type",
    "scale_attn_by_inverse_layer_idx", "seed", "tokenizer_name", "use_attn_scale",
  ]

  init(transformerLens json: JSONValue, path: String) throws(Refusal) {
    let fields = Fields(json: json, path: path)
    self.path = path
    self.json = nil
    isTransformerLens = true
    let unknown = (json.members ?? []).map(\.key).filter { !Self.transformerLensKeys.contains($0) }
    guard unknown.isEmpty else {
      throw Refusal(
        .unsupported, file: path,
        "\(unknown.count) argument\(unknown.count == 1 ? "" : "s") of HookedTransformerConfig not supported yet: "
          + unknown.joined(separator: ", "))
    }
    for (key, expected) in [
      ("normalization_type", JSONValue.null), ("positional_embedding_type", .string("standard")),
    ] {
      guard let found = json[key], found != expected else { continue }
      throw Refusal(
        .unsupported, file: path, subject: key, "expected \(expected.kind), found \(found.kind)",
        advice: "of TransformerLens, only networks without norms and with learned positions are read")
    }
    headCount = try fields.requiredCount("n_heads")
    blockCount = try fields.requiredCount("n_layers")
    let dModel = try fields.requiredCount("d_model")
    let dHead = try fields.requiredCount("d_head")
    guard headCount > 0, dModel % headCount == 0, dHead == dModel / headCount else {
      throw Refusal(
        .unsupported, file: path, subject: "d_head",
        "expected \(headCount) heads that make up the width \(dModel), found \(dHead) each")
    }
    self.dModel = dModel
    dMLP = try fields.count("d_mlp")
    contextLength = try fields.count("n_ctx")
    vocabularySize = try fields.count("d_vocab")
    guard json["act_fn"]?.string != nil else {
      throw Refusal(.malformed, file: path, subject: "act_fn", "is missing")
    }
    activation = try fields.activation("act_fn")
    isTied = false
    scalesAttention = try fields.bool("use_attn_scale") ?? true
    scalesAttentionByInverseBlock = try fields.bool("scale_attn_by_inverse_layer_idx") ?? false
    keyNames = [
      "n_layer": "n_layers", "n_head": "n_heads", "n_embd": "d_model", "n_inner": "d_mlp", "n_positions": "n_ctx",
      "vocab_size": "d_vocab",
    ]
  }
}
