import NormFold
import NormFoldFormats
import TestSupport

/// A LLaMA can be wrong in the ways of any checkpoint, and in some of its own.
extension MatrixRow {
  private static func llama(
    _ number: Int, _ name: String, _ answer: Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { $0.allowsPartial = true },
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> MatrixRow {
    MatrixRow(number, "LLaMA: \(name)", answer, conversion: conversion) { place in
      let altered = try AlteredCheckpoint(of: "llama/random", alter: alter)
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  private static func llamaConfig(_ number: Int, _ key: String, _ value: JSONValue, _ answer: Answer) -> MatrixRow {
    llama(number, "\(key): \(value.kind)", answer) { $0.config[key] = value }
  }

  static let llamas: [MatrixRow] = [
    llama(33, "sound", .accepted()) { _ in },
    llama(
      33, "a gate and a norm are missing",
      .refused(
        3,
        "in/model.safetensors: 2 tensors are missing: layers.1.input_layernorm.weight, layers.0.mlp.gate_proj.weight; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )
    ) {
      $0.tensors["model.layers.0.mlp.gate_proj.weight"] = nil
      $0.tensors["model.layers.1.input_layernorm.weight"] = nil
    },
    llama(
      34, "a norm behind a branch",
      .refused(
        4,
        "in/model.safetensors, 'layers.0.post_feedforward_layernorm.weight': is a norm behind a branch (post, deeppost, sandwich, Mix-LN): it changes what joins the residual stream, and no map reads that alone; only norms before a branch can be folded"
      )
    ) {
      $0.tensors["model.layers.0.post_feedforward_layernorm.weight"] = .init(
        [Double](repeating: 1, count: 24), shape: [24])
    },
    llama(34, "frequencies that old versions saved", .accepted()) {
      $0.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = .init([1, 0.1, 0.01], shape: [3])
    },
    llama(
      33, "one of the scales of branches is missing",
      .refused(
        3,
        "in/model.safetensors, 'layers.0.raw_scaling_factor_mlp': this tensor is missing, and other branches have theirs; the checkpoint is incomplete"
      )
    ) { $0.tensors["model.layers.0.raw_scaling_factor_attn"] = .init([2], shape: []) },
    llama(
      35, "k_proj as wide as q_proj",
      .refused(
        3,
        "in/model.safetensors, 'model.layers.0.self_attn.k_proj.weight': expected shape [12, 24], found [36, 24]")
    ) {
      $0.tensors["model.layers.0.self_attn.k_proj.weight"] = $0.tensors.entry("model.layers.0.self_attn.q_proj.weight")
    },
    llama(
      35, "k_proj transposed",
      .refused(
        3,
        "in/model.safetensors, 'model.layers.0.self_attn.k_proj.weight': expected shape [12, 24], found [24, 12]; this is the transpose: Hugging Face LLaMA stores [out, in]"
      )
    ) {
      $0.tensors["model.layers.0.self_attn.k_proj.weight"] = .init(
        [Double](repeating: 0, count: 288), shape: [24, 12])
    },
    llamaConfig(
      37, "num_hidden_layers", .number(3),
      .refused(
        3,
        "in/config.json, 'num_hidden_layers': says 3, but the tensors have 2; the config belongs to another checkpoint, or tensors are missing"
      )),
    llamaConfig(
      38, "num_key_value_heads", .number(4),
      .refused(3, "in/config.json, 'num_key_value_heads': 4 heads of keys and values do not divide 6 heads")),
    llamaConfig(
      38, "num_key_value_heads", .number(0),
      .refused(3, "in/config.json, 'num_key_value_heads': 0 heads of keys and values do not divide 6 heads")),
    llamaConfig(
      38, "num_attention_heads", .number(0),
      .refused(3, "in/config.json, 'num_attention_heads': expected at least one head")),
    llama(
      38, "heads that do not divide the width, and no head_dim",
      .refused(3, "in/config.json, 'num_attention_heads': 10 heads do not divide the width 24")
    ) {
      $0.config["head_dim"] = nil
      $0.config["num_attention_heads"] = .number(10)
    },
    llamaConfig(
      38, "head_dim", .number(5),
      .refused(3, "in/config.json: heads of 5 features cannot be rotated in pairs by their positions")),
    llamaConfig(
      38, "head_dim", .number(0),
      .refused(3, "in/config.json: expected heads and a context of some width and length, found 0 and 48")),
    llamaConfig(
      39, "hidden_act", .string("swiglu"),
      .refused(
        4,
        "in/config.json, 'hidden_act': the activation 'swiglu' is unknown; known are gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"
      )),
    llamaConfig(39, "hidden_act", .string("relu"), .accepted()),
    llamaConfig(
      40, "rope_parameters", .object(["rope_type": .string("longrope"), "rope_theta": .number(500.0)]),
      .refused(
        4,
        "in/config.json, 'rope_parameters.rope_type': rotary positions of type 'longrope' are not supported yet; default, dynamic, linear, llama3 and yarn are"
      )),
    llamaConfig(
      40, "rope_parameters", .object(["rope_type": .string("yarn"), "rope_theta": .number(500.0)]),
      .refused(3, "in/config.json, 'factor': expected a positive, finite number, found nothing")),
    llamaConfig(
      40, "rope_parameters",
      .object(["rope_type": .string("yarn"), "factor": .number(2.0), "mscale": .number(0.7)]),
      .refused(
        4,
        "in/config.json, 'rope_parameters.mscale': magnitudes of YaRN by two scales are not supported yet")),
    llamaConfig(
      40, "rope_parameters",
      .object([
        "rope_type": .string("llama3"), "factor": .number(2.0), "low_freq_factor": .number(4.0),
        "high_freq_factor": .number(4.0),
      ]),
      .refused(
        3, "in/config.json, 'high_freq_factor': expected a number above low_freq_factor, found 4.0")),
    llamaConfig(
      40, "partial_rotary_factor", .number(0.5),
      .refused(
        4,
        "in/config.json, 'partial_rotary_factor': expected 1, found 0.5: only heads that are rotated whole are supported"
      )),
    llamaConfig(
      40, "rope_parameters", .number(1),
      .refused(3, "in/config.json, 'rope_parameters': expected an object, found 1")),
    llama(
      42, "untied, and no lm_head",
      .refused(
        3,
        "in/model.safetensors, 'lm_head.weight': this tensor is missing, and in/config.json does not say that it is tied to the embedding; a runtime may fill it with random numbers; if it is tied, set tie_word_embeddings to true"
      )
    ) { $0.config["tie_word_embeddings"] = nil },
    llama(
      43, "a scale of a branch is NaN",
      .refused(6, "in/model.safetensors, 'model.layers.0.raw_scaling_factor_attn': is nan")
    ) { content in
      for block in 0..<2 {
        content.tensors["model.layers.\(block).raw_scaling_factor_attn"] = .init([.nan], shape: [])
        content.tensors["model.layers.\(block).raw_scaling_factor_mlp"] = .init([1], shape: [])
      }
    },
    llama(
      47, "an ordinary one",
      .refused(
        5,
        "this is an ordinary LLaMA: the deviations of all its norms are computed, so none is a linear map; pass --allow-partial to fold the gains alone, --norm-scaling lns for one that was trained with LayerNorm Scaling, or --deviations to fix the deviations"
      ), conversion: { _ in }
    ) { _ in },
    llama(
      50, "a bias that the config denies",
      .refused(
        3,
        "in/model.safetensors, 'model.layers.0.self_attn.q_proj.bias': is a bias, but in/config.json does not say that there is one; a runtime would leave it out; set attention_bias to what was trained"
      )
    ) { $0.config["attention_bias"] = .bool(false) },
    llama(
      50, "a bias that the config promises",
      .refused(
        3,
        "in/model.safetensors: 1 tensor is missing: layers.1.mlp.up_proj.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )
    ) { $0.tensors["model.layers.1.mlp.up_proj.bias"] = nil },
    llamaConfig(
      52, "rms_norm_eps", .number(0),
      .refused(3, "in/config.json, 'rms_norm_eps': expected a positive, finite number, found 0")),
  ]
}
