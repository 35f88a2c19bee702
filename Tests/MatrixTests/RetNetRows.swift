import NormFold
import NormFoldFormats
import TestSupport

/// RetNets of XATL, whose class and whose training program can be told to do much that is not computed.
extension MatrixRow {
  private static func retNet(
    _ number: Int, _ name: String, of fixture: String = "xatl", _ answer: Answer,
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> MatrixRow {
    MatrixRow(number, "RetNet: \(name)", answer, conversion: { $0.normForm = .unit }) { place in
      let altered = try AlteredCheckpoint(of: "retnet/\(fixture)", alter: alter)
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  private static func retNetKey(
    _ name: String, of fixture: String = "xatl", _ value: JSONValue?, _ sentence: String
  ) -> MatrixRow {
    retNet(40, "\(name) in \(fixture)", of: fixture, .refused(4, "in/config.json, '\(name)': \(sentence)")) {
      $0.config[name] = value
    }
  }

  private static func retNetPart(_ name: String, of fixture: String = "xatl", _ what: String) -> MatrixRow {
    retNet(
      34, name, of: fixture,
      .refused(
        4,
        "in/model.safetensors, '\(name)': belongs to \(what), and the config does not say so; only RetNets without are read"
      )
    ) { $0.tensors[name] = .init([Double](repeating: 1, count: 32), shape: [32]) }
  }

  private static let lit = "lit/lit_model.pth"
  private static let behind =
    "norms behind the residual sum change the residual stream itself and cannot be folded"

  static let retNets: [MatrixRow] = [
    retNet(33, "sound", .accepted()) { _ in },
    retNet(33, "sound, as the training program stores it", of: lit, .accepted()) { _ in },
    retNet(33, "keys and buffers that the class writes", .accepted()) {
      for key in ["deepnorm", "use_lm_decay", "retnet_stability_update", "shared_attention_norm"] {
        $0.config[key] = .bool(false)
      }
      $0.config["retnet_bottleneck"] = .null
      $0.config["hybrid_attention_layers"] = .array([])
      $0.config["forward_impl"] = .string("parallel")
      $0.config["recurrent_chunk_size"] = .number(512)
      $0.tensors["model.retnet_rel_pos.angle"] = .init([1, 0.0001], shape: [2])
      $0.tensors["model.retnet_rel_pos.decay"] = .init([1, 1, 1, 1], shape: [4])
    },
    retNetKey(
      "use_rms_norm", nil,
      "expected false, found nothing, which the class takes for true: the norms of XATL's networks are LayerNorms"),
    retNetKey("use_glu", .bool(true), "expected false, found true: the MLPs of XATL's networks have no gate"),
    retNetKey("subln", .bool(true), "expected false, found true: the MLPs of XATL's networks have no norm inside"),
    retNetKey("deepnorm", .bool(true), "expected false, found true: \(behind)"),
    retNetKey("decoder_normalize_before", .bool(false), "expected true, found false: \(behind)"),
    retNetKey(
      "use_lm_decay", .bool(true),
      "expected false, found true: only heads that decay by 1 - 2^(-5-h) are supported"),
    retNetKey(
      "retnet_stability_update", .bool(true),
      "expected false, found true: weights that are divided by their sums are not supported"),
    retNetKey(
      "shared_attention_norm", .bool(true), "expected false, found true: one norm for both branches is not supported"),
    retNetKey(
      "retnet_bottleneck", .number(16),
      "expected null, found 16: a map between the heads and their gate is not supported"),
    retNetKey(
      "hybrid_attention_layers", of: lit, .array([.number(1)]),
      "expected null, found an array: layers with attention among those with retention are not supported"),
    retNetKey(
      "decoder_value_embed_dim", .number(64),
      "expected 32, the decoder_embed_dim, found 64: values of another width are not supported"),
    retNetKey(
      "_mlp_class", of: lit, .string("LLaMAMLP"),
      "expected \"GptNeoxMLP\", found \"LLaMAMLP\": the MLPs of XATL's networks have no gate"),
    retNetKey(
      "_norm_class", of: lit, .string("FusedRMSNorm"),
      "expected \"LayerNorm\", found \"FusedRMSNorm\": the norms of XATL's networks are LayerNorms"),
    retNetKey(
      "n_query_groups", of: lit, .number(2),
      "expected 4, the n_head, found 2: heads that share keys and values are not supported"),
    retNetKey(
      "use_mamba", of: lit, .bool(true), "expected false, found true: state spaces (Mamba) are not supported"),
    retNetPart("model.layers.0.retention.down_proj.weight", "a map between the heads and their gate"),
    retNetPart(
      "transformer.h.1.attn.attn.weight", of: lit, "attention, which hybrids have in some layers"),
    retNetPart("transformer.h.1.attn.A_log", of: lit, "a state space (Mamba)"),
    retNet(
      38, "three heads",
      .refused(3, "in/config.json, 'decoder_retention_heads': 3 heads do not divide the width 32")
    ) { $0.config["decoder_retention_heads"] = .number(3) },
    retNet(
      38, "heads of which three features are turned",
      .refused(
        3, "in/config.json: 3 of the 8 features of a head cannot be rotated in pairs by their positions")
    ) { $0.config["rotary_percentage"] = .number("0.4") },
    retNet(
      33, "a gate is missing",
      .refused(
        3,
        "in/model.safetensors: 2 tensors are missing: layers.1.retention.g_proj.weight, layers.1.retention.g_proj.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )
    ) {
      $0.tensors["model.layers.1.retention.g_proj.weight"] = nil
      $0.tensors["model.layers.1.retention.g_proj.bias"] = nil
    },
    retNet(
      35, "gains of heads that the config does not speak of",
      .refused(
        3,
        "in/model.safetensors, 'model.layers.0.retention.group_norm.weight': is of a norm, but in/config.json does not say that there is one; a runtime would leave it out; set groupnorm_affine to what was trained"
      )
    ) {
      $0.tensors["model.layers.0.retention.group_norm.weight"] = .init([Double](repeating: 1, count: 8), shape: [8])
    },
    retNet(
      35, "a gain for every feature of all heads", of: "affine",
      .refused(3, "in/model.safetensors, 'model.layers.0.retention.group_norm.weight': expected shape [8], found [32]")
    ) {
      $0.tensors["model.layers.0.retention.group_norm.weight"] = .init([Double](repeating: 1, count: 32), shape: [32])
    },
  ]
}
