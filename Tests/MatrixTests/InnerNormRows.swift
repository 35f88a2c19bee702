import Formats
import NormFold
import TestSupport

/// Decoders of torchscale, which can ask for much that is not computed.
extension MatrixRow {
  private static func torchscale(
    _ number: Int, _ name: String, _ answer: Answer,
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> MatrixRow {
    MatrixRow(
      number, "torchscale: \(name)", answer, conversion: { $0.normForm = .unit }
    ) { place in
      let altered = try AlteredCheckpoint(of: "torchscale/sub-ln", alter: alter)
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  private static func key(_ name: String, _ value: JSONValue, _ sentence: String) -> MatrixRow {
    torchscale(40, name, .refused(4, "in/config.json, '\(name)': \(sentence)")) { $0.config[name] = value }
  }

  private static func foreign(_ name: String, _ what: String) -> MatrixRow {
    torchscale(
      34, name,
      .refused(
        4,
        "in/model.safetensors, '\(name)': belongs to \(what), and the config does not say so; only decoders without are read"
      )
    ) { $0.tensors[name] = .init([Double](repeating: 1, count: 32), shape: [32]) }
  }

  static let innerNorms: [MatrixRow] = [
    torchscale(33, "sound", .accepted()) { _ in },
    torchscale(33, "all keys that DecoderConfig writes", .accepted()) {
      for key in ["deepnorm", "multiway", "xpos_rel_pos", "bert_init", "fsdp", "no_output_layer", "use_xmoe"] {
        $0.config[key] = .bool(false)
      }
      for key in ["rel_pos_buckets", "max_rel_pos", "moe_freq", "ddp_rank"] { $0.config[key] = .number(0) }
      $0.config["max_target_positions"] = .number(1_024)
      $0.config["moe_second_expert_policy"] = .string("random")
      $0.config["vocab_size"] = .number(-1)
      // `subln` puts norms before whatever this says.
      $0.config["decoder_normalize_before"] = .bool(false)
    },
    key(
      "deepnorm", .bool(true),
      "expected false, found true: its norms stand behind the residual sum, so that they change the residual stream itself and cannot be folded"
    ),
    key(
      "multiway", .bool(true),
      "expected false, found true: of maps that are there twice, one for each modality, none is chosen"),
    key(
      "xpos_rel_pos", .bool(true), "expected false, found true: rotary positions with decay (xPos) are not supported"),
    key("rel_pos_buckets", .number(32), "expected 0, found 32: biases of attention by distance are not supported"),
    key("moe_freq", .number(2), "expected 0, found 2: experts are not supported, only dense MLPs"),
    key(
      "no_output_layer", .bool(true), "expected false, found true: without an output projection there are no logits"),
    torchscale(
      40, "norms behind the sum",
      .refused(
        4,
        "in/config.json, 'decoder_normalize_before': expected true, found false: norms behind the residual sum change the residual stream itself and cannot be folded"
      )
    ) {
      $0.config["decoder_normalize_before"] = .bool(false)
      $0.config["subln"] = .bool(false)
    },
    torchscale(
      35, "subln false beside its norms",
      .refused(
        3,
        "in/model.safetensors, 'layers.0.ffn.ffn_layernorm.weight': is of a norm, but in/config.json says that there is none; a runtime would leave it out; set subln to what was trained"
      )
    ) { $0.config["subln"] = .bool(false) },
    torchscale(
      33, "a norm inside a branch is missing",
      .refused(
        3,
        "in/model.safetensors: 2 tensors are missing: layers.1.self_attn.inner_attn_ln.weight, layers.1.self_attn.inner_attn_ln.bias; the checkpoint is incomplete; a runtime would fill them with random numbers"
      )
    ) {
      $0.tensors["layers.1.self_attn.inner_attn_ln.weight"] = nil
      $0.tensors["layers.1.self_attn.inner_attn_ln.bias"] = nil
    },
    torchscale(
      35, "a norm inside the MLP as wide as the stream",
      .refused(
        3, "in/model.safetensors, 'layers.0.ffn.ffn_layernorm.weight': expected shape [64], found [32]")
    ) { $0.tensors["layers.0.ffn.ffn_layernorm.weight"] = .init([Double](repeating: 1, count: 32), shape: [32]) },
    torchscale(
      38, "five heads",
      .refused(3, "in/config.json, 'decoder_attention_heads': 5 heads do not divide the width 32")
    ) { $0.config["decoder_attention_heads"] = .number(5) },
    foreign("layers.0.encoder_attn.q_proj.bias", "attention to an encoder"),
    foreign("layers.1.moe_layer.gate.wg.weight", "experts"),
    foreign("layers.0.ffn.A.fc1.bias", "maps for each modality (multiway)"),
    foreign("layers.0.self_attn.xpos.scale", "rotary positions with decay (xPos)"),
    foreign(
      "self_attn_relative_position.relative_attention_bias.weight", "biases of attention by distance"),
  ]
}
