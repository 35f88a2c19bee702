import Formats
import Networks

extension Model {
  /// The members of a `config.json` that Hugging Face's LlamaConfig reads, for this network.
  ///
  /// - Parameter epsilon: of every norm.
  /// - Throws: `.unsupported` where the layers differ in what the class has one of.
  func llamaConfiguration(
    of network: Network, epsilon: Double, type: ElementType, target: String
  ) throws(Refusal) -> JSONValue {
    let sizes = network.dimensions
    let (rotary, activation) = try network.uniformRotary(target: target)
    let base = JSONValue.number(rotary.base)
    var members: [(String, JSONValue)] = [
      ("architectures", .array([.string("LlamaForCausalLM")])),
      ("attention_bias", .bool(network.blocks[0].attention.query.bias != nil)), ("attention_dropout", .number(0.0)),
      ("head_dim", .number(sizes.dHead)), ("hidden_act", .string(activation.configName)),
      ("hidden_size", .number(sizes.dModel)), ("intermediate_size", .number(sizes.dMLP)),
      ("max_position_embeddings", .number(sizes.contextLength)),
      ("mlp_bias", .bool(network.blocks[0].mlp.input.bias != nil)),
      ("model_type", .string(Architecture.llama.modelType)), ("num_attention_heads", .number(sizes.headCount)),
      ("num_hidden_layers", .number(network.blocks.count)), ("num_key_value_heads", .number(sizes.keyValueHeadCount)),
      ("rms_norm_eps", .number(epsilon)),
      // Both spellings: transformers moved the base into an object.
      ("rope_parameters", .object(["rope_theta": base, "rope_type": .string("default")])), ("rope_theta", base),
      ("tie_word_embeddings", .bool(network.isTied)), ("use_cache", .bool(true)),
      ("vocab_size", .number(sizes.vocabularySize)),
    ]
    if let range = configuration.json?["initializer_range"] { members.append(("initializer_range", range)) }
    for (key, fallback) in [
      ("bos_token_id", beginOfText), ("eos_token_id", endOfText), ("pad_token_id", nil),
    ] {
      let own = configuration.json?[key]
      // A list where there are several ways to end; −1 for none, which transformers would look up.
      let isValid =
        own?.count.map { $0 < sizes.vocabularySize }
        ?? own?.array?.allSatisfy { ($0.count ?? sizes.vocabularySize) < sizes.vocabularySize } ?? false
      members.append((key, (isValid ? own : nil) ?? fallback.map { .number($0) } ?? .null))
    }
    return .huggingFaceConfiguration(members, type: type)
  }

  /// The token that a text begins with, where a GGUF file says so.
  private var beginOfText: Int? {
    checkpoint.metadata["tokenizer.ggml.bos_token_id"]?.integer.flatMap {
      (0..<network.dimensions.vocabularySize).contains($0) ? $0 : nil
    }
  }
}
