import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// A way in which a checkpoint can be wrong, and the whole sentence that says so.
struct OpeningDefect: CustomTestStringConvertible, Sendable {
  let name: String
  let category: Refusal.Category
  let message: String
  let head: ReadingOptions.Head?
  let alter: @Sendable (inout AlteredCheckpoint.Content) -> Void
  var testDescription: String { name }

  init(
    _ name: String, _ category: Refusal.Category, _ message: String, head: ReadingOptions.Head? = nil,
    _ alter: @escaping @Sendable (inout AlteredCheckpoint.Content) -> Void
  ) {
    self.name = name
    self.category = category
    self.message = message
    self.head = head
    self.alter = alter
  }
}

extension OpeningDefect {
  /// One key of the config set to another value.
  static func config(_ key: String, _ value: JSONValue, _ category: Refusal.Category, _ message: String)
    -> OpeningDefect
  {
    OpeningDefect("\(key) = \(value.kind)", category, message) { $0.config[key] = value }
  }

  static let other = "the config belongs to another checkpoint, or tensors are missing"
  static let padded =
    "the config belongs to another checkpoint; or the table was padded, and vocab_size is to be the number of its rows"
  static let random = "the checkpoint is incomplete; a runtime may fill them with random numbers"

  static let configs: [OpeningDefect] = [
    .config("n_layer", .number(3), .malformed, "config.json, 'n_layer': says 3, but the tensors have 2; \(other)"),
    .config("n_layer", .number(1), .malformed, "config.json, 'n_layer': says 1, but the tensors have 2; \(other)"),
    .config("n_embd", .number(48), .malformed, "config.json, 'n_embd': says 48, but the tensors have 32; \(other)"),
    .config(
      "vocab_size", .number(511), .malformed, "config.json, 'vocab_size': says 511, but the tensors have 512; \(padded)"
    ),
    .config(
      "n_positions", .number(65), .malformed, "config.json, 'n_positions': says 65, but the tensors have 64; \(other)"),
    .config("n_ctx", .number(32), .malformed, "config.json, 'n_ctx': says 32, but the tensors have 64; \(other)"),
    .config("n_inner", .number(64), .malformed, "config.json, 'n_inner': says 64, but the tensors have 128; \(other)"),
    .config("n_head", .number(3), .malformed, "config.json, 'n_head': 3 heads do not divide the width 32"),
    .config("n_head", .number(0), .malformed, "config.json, 'n_head': 0 heads do not divide the width 32"),
    .config(
      "n_head", .string("2"), .malformed, "config.json, 'n_head': expected a whole number below 2^32, found \"2\""),
    .config("n_layer", .number(-2), .malformed, "config.json, 'n_layer': expected a whole number below 2^32, found -2"),
    .config(
      "n_embd", .number(32.0), .malformed, "config.json, 'n_embd': expected a whole number below 2^32, found 32.0"),
    .config(
      "activation_function", .string("gelu_slow"), .unsupported,
      "config.json, 'activation_function': the activation 'gelu_slow' is unknown; known are "
        + "gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"),
    .config(
      "activation_function", .number(1), .malformed, "config.json, 'activation_function': expected a name, found 1"),
    .config("layer_norm_epsilon", .string("1e12"), .malformed, epsilon + "\"1e12\""),
    .config("layer_norm_epsilon", .number(0), .malformed, epsilon + "0"),
    .config("layer_norm_epsilon", .number(-1), .malformed, epsilon + "-1"),
    .config("layer_norm_epsilon", .number("1e999"), .malformed, epsilon + "1e999"),
    .config("layer_norm_epsilon", .null, .malformed, epsilon + "null"),
    .config(
      "tie_word_embeddings", .string("yes"), .malformed,
      "config.json, 'tie_word_embeddings': expected true or false, found \"yes\""),
    .config(
      "scale_attn_weights", .number(1), .malformed, "config.json, 'scale_attn_weights': expected true or false, found 1"
    ),
    .config(
      "model_type", .string("mamba"), .unsupported,
      "config.json, 'model_type': 'mamba' is not supported yet; supported are gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, phi3, olmo2, phi, gpt_neox, opt, torchscale, normformer, retnet, eye-tracking-roberta, bert, roberta, distilbert and vit"
    ),
    OpeningDefect(
      "no n_head", .malformed, "config.json, 'n_head': is missing; the tensors do not say how many heads there are"
    ) { $0.config["n_head"] = nil },
    OpeningDefect(
      "n_ctx only, and another", .malformed, "config.json, 'n_ctx': says 128, but the tensors have 64; \(other)"
    ) {
      $0.config["n_positions"] = nil
      $0.config["n_ctx"] = .number(128)
    },
  ]

  private static let epsilon = "config.json, 'layer_norm_epsilon': expected a positive, finite number, found "

  static let tensors: [OpeningDefect] = [
    OpeningDefect(
      "two tensors are missing", .malformed,
      "model.safetensors: 2 tensors are missing: h.1.attn.c_proj.bias, h.0.ln_2.weight; \(random)"
    ) {
      $0.tensors["transformer.h.0.ln_2.weight"] = nil
      $0.tensors["transformer.h.1.attn.c_proj.bias"] = nil
    },
    OpeningDefect(
      "the embeddings are missing, and a bias", .malformed,
      "model.safetensors: 3 tensors are missing: wte.weight, wpe.weight, h.0.mlp.c_fc.bias; \(random)"
    ) {
      $0.tensors["transformer.wte.weight"] = nil
      $0.tensors["transformer.wpe.weight"] = nil
      $0.tensors["transformer.h.0.mlp.c_fc.bias"] = nil
    },
    OpeningDefect(
      "the first MLP is missing", .malformed,
      "model.safetensors: 2 tensors are missing: h.0.mlp.c_fc.weight, h.0.mlp.c_fc.bias; \(random)"
    ) {
      $0.tensors["transformer.h.0.mlp.c_fc.weight"] = nil
      $0.tensors["transformer.h.0.mlp.c_fc.bias"] = nil
    },
    OpeningDefect(
      "the last norm is missing", .malformed,
      "model.safetensors: 2 tensors are missing: ln_f.weight, ln_f.bias; \(random)"
    ) {
      $0.tensors["transformer.ln_f.weight"] = nil
      $0.tensors["transformer.ln_f.bias"] = nil
    },
    OpeningDefect(
      "no blocks", .unsupported,
      "model.safetensors: no tensor is named like a block of Hugging Face GPT-2 (h.0.ln_1.weight); the names found are "
        + "transformer.ln_f.bias, transformer.ln_f.weight, transformer.wpe.weight and 1 more; is this a GPT-2? layout describes a network with names of its own"
    ) {
      for name in $0.tensors.names where name.hasPrefix("transformer.h.") { $0.tensors[name] = nil }
    },
    OpeningDefect(
      "unknown tensors, all listed", .unsupported,
      "model.safetensors: 2 tensors of unknown meaning: score.weight, transformer.h.0.attn.rotary.inv_freq; "
        + "if they take no part in the network, pass ignoredTensors with their names"
    ) {
      $0.tensors["score.weight"] = .init([1, 2], shape: [1, 2])
      $0.tensors["transformer.h.0.attn.rotary.inv_freq"] = .init([1], shape: [1])
    },
    OpeningDefect(
      "an adapter's tensor", .unsupported,
      "model.safetensors, 'transformer.h.0.attn.c_attn.lora_A.weight': is named as peft names its adapters, and this one is "
        + "not merged into the network; give the base model, and with adapters the directory that save_pretrained() wrote of the "
        + "adapter; or merge it with merge_and_unload()"
    ) { $0.tensors["transformer.h.0.attn.c_attn.lora_A.weight"] = .init([1], shape: [1, 1]) },
    OpeningDefect(
      "the same parameter under two names", .malformed,
      "model.safetensors, 'wte.weight': means the same parameter as 'transformer.wte.weight'; keep one of the two"
    ) { $0.tensors["wte.weight"] = $0.tensors["transformer.wte.weight"] },
    OpeningDefect(
      "c_attn lies the other way", .malformed,
      "model.safetensors, 'transformer.h.1.attn.c_attn.weight': expected shape [32, 96], found [96, 32]; "
        + "this is the transpose: Hugging Face GPT-2 stores [in, out]"
    ) {
      $0.tensors["transformer.h.1.attn.c_attn.weight"] =
        $0.tensors.entry("transformer.h.1.attn.c_attn.weight").transposed
    },
    OpeningDefect(
      "the first c_fc lies the other way", .malformed,
      "model.safetensors, 'transformer.h.0.mlp.c_fc.weight': expected shape [32, 128], found [128, 32]; "
        + "this is the transpose: Hugging Face GPT-2 stores [in, out]"
    ) {
      $0.tensors["transformer.h.0.mlp.c_fc.weight"] = $0.tensors.entry("transformer.h.0.mlp.c_fc.weight").transposed
    },
    OpeningDefect(
      "a norm of another width", .malformed,
      "model.safetensors, 'transformer.ln_f.bias': expected shape [32], found [31]"
    ) { $0.tensors["transformer.ln_f.bias"] = .init([Double](repeating: 0, count: 31), shape: [31]) },
    OpeningDefect(
      "an embedding with one axis", .malformed,
      "model.safetensors, 'transformer.wpe.weight': expected a matrix, found shape [64]"
    ) { $0.tensors["transformer.wpe.weight"] = .init([Double](repeating: 0, count: 64), shape: [64]) },
    OpeningDefect(
      "an element type without numbers", .unsupported,
      "model.safetensors, 'transformer.ln_f.bias': elements of type F8_E4M3 cannot be read as numbers; "
        + "save the checkpoint in F32, BF16 or F16"
    ) {
      $0.tensors["transformer.ln_f.bias"] = .init(type: .f8e4m3, shape: [32], bytes: [UInt8](repeating: 0, count: 32))
    },
  ]

  static let heads: [OpeningDefect] = [
    OpeningDefect(
      "tied, but another head is stored", .unsupported,
      "model.safetensors, 'lm_head.weight': differs from the token embedding, and by config.json they are tied; "
        + "say which one counts: head = stored or head = tied"
    ) {
      var head = $0.tensors.entry("transformer.wte.weight")
      head[7] += 1
      $0.tensors["lm_head.weight"] = head
    },
    OpeningDefect(
      "not tied, but no head is stored", .malformed,
      "model.safetensors, 'lm_head.weight': this tensor is missing, and config.json does not say that it is tied to the "
        + "embedding; a runtime may fill it with random numbers; if it is tied, set tie_word_embeddings to true"
    ) { $0.config["tie_word_embeddings"] = .bool(false) },
    OpeningDefect(
      "a head of another vocabulary", .malformed,
      "model.safetensors, 'lm_head.weight': expected shape [512, 32], found [511, 32]"
    ) { $0.tensors["lm_head.weight"] = .init([Double](repeating: 0, count: 511 * 32), shape: [511, 32]) },
    OpeningDefect(
      "a head bias of another vocabulary", .malformed,
      "model.safetensors, 'lm_head.bias': expected shape [512], found [32]"
    ) { $0.tensors["lm_head.bias"] = .init([Double](repeating: 0, count: 32), shape: [32]) },
  ]
}

@Suite struct OpeningRefusalTests {
  @Test(
    "Integers are no weights",
    arguments: [ElementType.bool, .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64])
  func integers(_ type: ElementType) throws {
    let name = "transformer.h.0.mlp.c_fc.bias"
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors[name] = .init(
        type: type, shape: [128], bytes: [UInt8](repeating: 0, count: 128 * type.bitsPerBlock / 8))
    }
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: altered.path) }
    #expect(refusal?.category == .unsupported)
    #expect(
      refusal.map(altered.short)
        == "model.safetensors, '\(name)': elements of type \(type.displayName) are no weights; "
        + "if the checkpoint is quantised, save it in F32, BF16 or F16")
  }

  @Test(
    "A wrong checkpoint is refused in one exact sentence",
    arguments: OpeningDefect.configs + OpeningDefect.tensors + OpeningDefect.heads)
  func refuses(_ defect: OpeningDefect) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree", alter: defect.alter)
    var options = ReadingOptions()
    options.head = defect.head
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: altered.path, options: options) }
    #expect(refusal.map(altered.short) == defect.message)
    #expect(refusal?.category == defect.category)
  }

  @Test("A part of a norm without the rest of it is not passed over, where norms are optional")
  func strayNormBias() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.config["model_type"] = .string("gpt2_folded")
      for name in $0.tensors.names where name.contains("ln_") && name != "transformer.h.0.ln_1.bias" {
        $0.tensors[name] = nil
      }
    }
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: altered.path) }
    #expect(
      refusal.map(altered.short) == "model.safetensors: 1 tensor is missing: h.0.ln_1.weight; \(OpeningDefect.random)")
  }
}
