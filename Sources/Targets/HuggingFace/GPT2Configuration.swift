import Formats
import Networks

extension Model {
  /// The members of a `config.json` that Hugging Face's GPT2Config reads, for this network.
  ///
  /// - Parameters:
  ///   - head: the members that come first: class names and model type.
  ///   - epsilon: of every norm; nil where there are none.
  func gpt2Configuration(
    of network: Network, head: [(String, JSONValue)], epsilon: Double?, isTied: Bool, type: ElementType
  ) -> JSONValue {
    let sizes = network.dimensions
    var members = head
    members += [
      ("activation_function", .string(network.blocks[0].mlp.activation.configName)),
      ("attn_pdrop", .number(0.0)), ("embd_pdrop", .number(0.0)), ("resid_pdrop", .number(0.0)),
    ]
    // A residual stream that leaves one feature out is narrower than its heads.
    let headsWidth = sizes.headCount * sizes.dHead
    if let epsilon { members.append(("layer_norm_epsilon", .number(epsilon))) }
    members += [
      ("n_ctx", .number(sizes.contextLength)), ("n_embd", .number(headsWidth)), ("n_head", .number(sizes.headCount)),
      ("n_inner", sizes.dMLP == 4 * headsWidth ? .null : .number(sizes.dMLP)),
      ("n_layer", .number(network.blocks.count)), ("n_positions", .number(sizes.contextLength)),
      ("reorder_and_upcast_attn", .bool(false)),
      ("scale_attn_by_inverse_layer_idx", .bool(configuration.scalesAttentionByInverseBlock)),
      ("scale_attn_weights", .bool(configuration.scalesAttention)),
      ("tie_word_embeddings", .bool(isTied)), ("use_cache", .bool(true)), ("vocab_size", .number(sizes.vocabularySize)),
    ]
    // Of the source's own words, those that do not speak of weights.
    for key in ["pad_token_id", "initializer_range", "task_specific_params"] {
      if let value = configuration.json?[key] { members.append((key, value)) }
    }
    // Said even where it is unknown: to transformers a missing key means token 50256.
    for key in ["bos_token_id", "eos_token_id"] {
      let own = configuration.json?[key]?.count.flatMap { $0 < sizes.vocabularySize ? $0 : nil }
      members.append((key, (own ?? endOfText).map { .number($0) } ?? .null))
    }
    return .huggingFaceConfiguration(members, type: type)
  }
}
