import Foundation
import Logging
import NormFold
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// Networks trained without norms, and forms of norms.
extension MatrixRow {
  /// A network of norm-free, changed.
  private static func normFree(
    _ number: Int, _ name: String, of form: String = "relu", _ answer: Answer,
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> MatrixRow {
    MatrixRow(number, name, answer, conversion: { $0.allowsPartial = true }) { place in
      let altered = try AlteredCheckpoint(of: "norm-free/" + form, alter: alter)
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  private static func key(
    _ number: Int, _ key: String, _ value: JSONValue, of form: String = "relu", _ answer: Answer
  ) -> MatrixRow {
    normFree(number, "\(form), \(key): \(value.kind)", of: form, answer) { $0.config[key] = value }
  }

  static let normFree: [MatrixRow] = [
    normFree(37, "n_ctx, the length trained on, below n_positions", .accepted()) { _ in },
    key(
      37, "n_positions", .number(16),
      .refused(
        3,
        "in/config.json, 'n_positions': says 16, but the tensors have 24; the config belongs to another checkpoint, or tensors are missing"
      )),
    normFree(
      37, "norm_type missing",
      .refused(
        3,
        "in/config.json, 'norm_type': is missing, and only it says whether the blocks of a network with 'h.0.attn.qk_attn.weight' have norms; set it to ln or free, as in the training run"
      )
    ) { $0.config["norm_type"] = nil },
    key(
      37, "norm_type", .string("rms"), .refused(4, "in/config.json, 'norm_type': expected ln or free, found \"rms\"")),
    key(37, "norm_type", .bool(true), .refused(3, "in/config.json, 'norm_type': expected a string, found true")),
    key(
      33, "norm_type", .string("ln"),
      .refused(
        3,
        "in/model.safetensors: 8 tensors are missing: h.0.ln_1.weight, h.1.ln_1.weight, h.0.ln_1.bias, h.1.ln_1.bias, h.0.ln_2.weight, h.1.ln_2.weight, h.0.ln_2.bias, h.1.ln_2.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )),
    key(
      34, "norm_type", .string("free"), of: "ln",
      .refused(
        4,
        "in/model.safetensors: 8 tensors of unknown meaning: transformer.h.0.ln_1.bias, transformer.h.0.ln_1.weight, transformer.h.0.ln_2.bias, transformer.h.0.ln_2.weight, transformer.h.1.ln_1.bias, transformer.h.1.ln_1.weight, transformer.h.1.ln_2.bias, transformer.h.1.ln_2.weight; if they take no part in the network, pass --ignore with their names"
      )),
    normFree(
      34, "queries, keys and values in one",
      .refused(
        3,
        "in/model.safetensors: 1 tensor is missing: h.0.attn.qk_attn.weight; the checkpoint is incomplete; a runtime may fill them with random numbers"
      )
    ) {
      $0.tensors.rename("transformer.h.0.attn.qk_attn.weight", to: "transformer.h.0.attn.c_attn.weight")
    },
    key(39, "activation_function", .string("gelu_new"), .accepted()),
    key(
      39, "activation_function", .string("prelu"),
      .refused(
        4,
        "in/config.json, 'activation_function': the activation 'prelu' is unknown; known are gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"
      )),
    key(
      39, "lrelu_neg_slope", .string("0.1"), of: "leaky",
      .refused(3, "in/config.json, 'lrelu_neg_slope': expected a finite number, found \"0.1\"")),
    key(
      39, "lrelu_neg_slope", .number("1e999"), of: "leaky",
      .refused(3, "in/config.json, 'lrelu_neg_slope': expected a finite number, found 1e999")),
    normFree(
      39, "lrelu_neg_slope missing", of: "leaky",
      .refused(3, "in/config.json, 'lrelu_neg_slope': expected a finite number, found nothing")
    ) { $0.config["lrelu_neg_slope"] = nil },
    key(
      39, "learnable_lrelu_mode", .string("both"), of: "global",
      .refused(4, "in/config.json, 'learnable_lrelu_mode': expected global or per_layer, found \"both\"")),
    normFree(
      39, "learnable_lrelu_mode missing", of: "global",
      .refused(
        3,
        "in/config.json, 'learnable_lrelu_mode': is missing; it says whether each block has one slope or one of many: global or per_layer"
      )
    ) {
      $0.config["learnable_lrelu_mode"] = nil
    },
    key(
      35, "learnable_lrelu_mode", .string("per_layer"), of: "global",
      .refused(
        3,
        "in/model.safetensors, 'transformer.h.0.mlp.act.slopes': expected shape [2], found [1]; learnable_lrelu_mode is per_layer"
      )),
    key(
      35, "learnable_lrelu_mode", .string("global"), of: "per-layer",
      .refused(
        3,
        "in/model.safetensors, 'transformer.h.0.mlp.act.slopes': expected shape [1], found [2]; learnable_lrelu_mode is global"
      )),
    key(
      34, "activation_function", .string("relu"), of: "global",
      .refused(
        4,
        "in/model.safetensors: 2 tensors of unknown meaning: transformer.h.0.mlp.act.slopes, transformer.h.1.mlp.act.slopes; if they take no part in the network, pass --ignore with their names"
      )),
    normFree(
      33, "a slope missing", of: "global",
      .refused(
        3,
        "in/model.safetensors, 'h.1.mlp.act.slopes': this tensor is missing; the config says that the slopes were learned"
      )
    ) {
      $0.tensors["transformer.h.1.mlp.act.slopes"] = nil
    },
    normFree(
      43, "a slope that is NaN", of: "per-layer",
      .refused(
        6,
        "in/model.safetensors, 'transformer.h.1.mlp.act.slopes': the slope is nan; the training run that wrote it may have diverged"
      )
    ) {
      $0.tensors.change("transformer.h.1.mlp.act.slopes") { $0[1] = .nan }
    },
    normFree(43, "a slope that no one reads is NaN", of: "per-layer", .accepted()) {
      $0.tensors.change("transformer.h.1.mlp.act.slopes") { $0[0] = .nan }
    },
  ]

  /// A folded checkpoint whose config has one more key.
  private static func folded(_ number: Int, _ key: String, _ value: JSONValue, _ answer: Answer) -> MatrixRow {
    MatrixRow(
      number, "folded, \(key): \(value.kind)", of: "vanilla", answer, conversion: { $0.allowsPartial = true },
      alter: {
        $0.config["model_type"] = .string("gpt2_folded")
        $0.config["activation_function"] = .string(key == "leaky_relu_slopes" ? "leaky_relu" : "gelu_new")
        $0.config[key] = value
      })
  }

  private static func form(
    _ number: Int, _ form: NormForm, of fixture: String, for target: String = "transformers", _ answer: Answer
  ) -> MatrixRow {
    MatrixRow(
      number, "\(fixture) to \(form.rawValue) for \(target)", copyOf: fixture, answer,
      conversion: {
        $0.targets = [target]
        $0.normForm = form
      }, change: { _ in })
  }

  static let forms: [MatrixRow] = [
    folded(
      37, "norm_kind", .string("batch"),
      .refused(4, "in/config.json, 'norm_kind': expected layer or rms or crms, found \"batch\"")),
    folded(37, "norm_kind", .number(1), .refused(3, "in/config.json, 'norm_kind': expected a string, found 1")),
    folded(
      37, "norm_kind", .string("crms"),
      .refused(
        3,
        "in/config.json, 'n_embd': says 32, but the tensors have 33; the config belongs to another checkpoint, or tensors are missing"
      )),
    folded(
      37, "kept_norms", .object(["h.7.ln_1": .string("all")]),
      .refused(3, "in/config.json, 'kept_norms.h.7.ln_1': there is no such norm")),
    folded(
      39, "leaky_relu_slopes", .array([.number(0.1)]),
      .refused(3, "in/config.json, 'leaky_relu_slopes': expected 2 slopes, one for each block, found 1")),
    folded(
      39, "leaky_relu_slopes", .array([.number(0.1), .null]),
      .refused(3, "in/config.json, 'leaky_relu_slopes': expected an array of finite numbers, found an array")),
    folded(
      39, "leaky_relu_slopes", .number(0.1),
      .refused(3, "in/config.json, 'leaky_relu_slopes': expected an array of finite numbers, found 0.1")),
    folded(39, "leaky_relu_slopes", .array([.number(0.1), .number(-0.2)]), .accepted()),
    form(47, .rms, of: "vanilla", .accepted()),
    form(47, .crms, of: "vanilla", .accepted()),
    form(47, .unit, of: "vanilla", for: "gpt2", .accepted()),
    form(
      47, .rms, of: "vanilla", for: "gpt2",
      .refused(4, "'RMSNorm': the target gpt2 computes LayerNorms only; use --for transformers or --for onnxruntime")),
    form(
      47, .crms, of: "vanilla", for: "llama.cpp",
      .refused(
        4,
        "'CRMSNorm': the target llama.cpp computes LayerNorms only, and its residual stream is as wide as its heads together; use --for transformers or --for onnxruntime"
      )),
    form(
      47, .crms, of: "lnfree",
      .refused(
        2,
        "'--to-norm crms': there is no computed norm in this network to convert; leave it out: norms that are fixed fold into the weights and are gone"
      )),
    form(
      45, .crms, of: "fakeln-positional",
      .refused(
        2,
        "'--to-norm crms': there is no computed norm in this network to convert; leave it out: norms that are fixed fold into the weights and are gone"
      )),
  ]
}
