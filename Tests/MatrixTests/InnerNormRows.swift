import NormFold
import NormFoldFormats
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

  static let innerNorms: [MatrixRow] =
    [
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
        "expected false, found true: of maps that are there twice, one for each modality, none is chosen; choose one with --modality A, the one that a decoder computes, or --modality B"
      ),
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
          "in/model.safetensors, 'layers.0.ffn.ffn_layernorm.weight': is of a norm, but in/config.json does not say that there is one; a runtime would leave it out; set subln to what was trained"
        )
      ) { $0.config["subln"] = .bool(false) },
      torchscale(
        33, "a norm inside a branch is missing",
        .refused(
          3,
          "in/model.safetensors: 2 tensors are missing: layers.1.self_attn.inner_attn_ln.weight, layers.1.self_attn.inner_attn_ln.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
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
    ] + normFormers

  private static func normFormer(
    _ number: Int, _ name: String, _ answer: Answer,
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> MatrixRow {
    MatrixRow(number, "NormFormer: \(name)", answer, conversion: { $0.normForm = .unit }) { place in
      // The same tensors as torchscale's, without norms in front of the output maps of attention.
      let altered = try AlteredCheckpoint(of: "torchscale/sub-ln") { content in
        content.config["model_type"] = .string("normformer")
        content.config["decoder_normalize_before"] = .bool(true)
        content.config["scale_fc"] = .bool(true)
        content.config["no_scale_embedding"] = .bool(true)
        for block in 0..<2 {
          content.tensors["layers.\(block).self_attn.inner_attn_ln.weight"] = nil
          content.tensors["layers.\(block).self_attn.inner_attn_ln.bias"] = nil
        }
        try alter(&content)
      }
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  private static func normFormerKey(_ name: String, _ value: JSONValue, _ sentence: String) -> MatrixRow {
    normFormer(40, name, .refused(4, "in/config.json, '\(name)': \(sentence)")) { $0.config[name] = value }
  }

  private static let normFormers: [MatrixRow] = [
    normFormer(33, "sound", .accepted()) { _ in },
    normFormerKey(
      "decoder_normalize_before", .bool(false),
      "expected true, found false: norms behind the residual sum change the residual stream itself and cannot be folded"
    ),
    normFormerKey(
      "adaptive_input", .bool(true), "expected false, found true: embeddings of several widths are not supported"),
    normFormerKey(
      "character_embeddings", .bool(true), "expected false, found true: embeddings of characters are not supported"),
    normFormerKey("base_layers", .number(1), "expected 0, found 1: experts (BASE layers) are not supported"),
    normFormerKey(
      "adaptive_softmax_cutoff", .string("100"),
      "expected null, found \"100\": an unembedding in clusters is not supported"),
    normFormerKey(
      "decoder_output_dim", .number(16),
      "expected 32, the decoder_embed_dim, found 16: embeddings that are projected are not supported"),
    normFormerKey(
      "activation_fn", .string("swish"),
      "the activation 'swish' is unknown; known are relu, relu_squared, gelu, gelu_fast and gelu_accurate"),
    normFormerKey("max_target_positions", .number(1 << 20), "expected at most 32768 positions, found 1048576"),
    normFormer(
      35, "head scales that the config does not speak of",
      .refused(
        3,
        "in/model.safetensors, 'layers.0.c_attn': is a scale, but in/config.json does not say that there is one; a runtime would leave it out; set scale_heads to what was trained"
      )
    ) { $0.tensors["layers.0.c_attn"] = .init([1, 1, 1, 1], shape: [4]) },
    normFormer(
      35, "three head scales for four heads",
      .refused(3, "in/model.safetensors, 'layers.0.c_attn': expected shape [4], found [3]")
    ) {
      $0.config["scale_heads"] = .bool(true)
      for block in 0..<2 { $0.tensors["layers.\(block).c_attn"] = .init([1, 1, 1], shape: [3]) }
    },
    normFormer(
      33, "a scale of the stream is missing",
      .refused(
        3,
        "in/model.safetensors: 1 tensor is missing: layers.1.w_resid; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )
    ) {
      $0.config["scale_resids"] = .bool(true)
      $0.tensors["layers.0.w_resid"] = .init([Double](repeating: 1, count: 32), shape: [32])
    },
    normFormer(
      34, "an encoder",
      .refused(
        4,
        "in/model.safetensors, 'encoder.layers.0.fc1.bias': belongs to an encoder, or to attention to one; only language models with a decoder alone are read"
      )
    ) { $0.tensors["encoder.layers.0.fc1.bias"] = .init([1], shape: [1]) },
  ]
}
