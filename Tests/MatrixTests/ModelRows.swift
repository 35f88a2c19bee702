import Foundation
import Logging
import NormFold
import NormFoldFormats
import NormFoldNetworks
import TestSupport

extension MatrixRow {
  private static func config(
    _ number: Int, _ key: String, _ value: JSONValue, _ answer: Answer
  ) -> MatrixRow {
    MatrixRow(number, "\(key): \(value.kind)", answer, alter: { $0.config[key] = value })
  }

  /// The config as text.
  private static func text(
    _ number: Int, _ name: String, _ answer: Answer, _ change: @escaping @Sendable ([UInt8]) -> [UInt8]
  ) -> MatrixRow {
    MatrixRow(
      number, name, copyOf: "lnfree", answer,
      change: { source in
        let url = URL(filePath: source + "/config.json")
        try Data(change([UInt8](try Data(contentsOf: url)))).write(to: url)
      })
  }

  private static let buffers = ["average_std_buffer", "bos_std_buffer"]

  /// Every entry of a FakeLayerNorm's buffers.
  private static func deviation(_ number: Int, _ name: String, _ value: Double, _ answer: Answer) -> MatrixRow {
    MatrixRow(
      number, name, of: "fakeln-safetensors", answer,
      alter: { content in
        for buffer in buffers {
          content.tensors["transformer.h.1.ln_2." + buffer] = .init([Double](repeating: value, count: 32), shape: [32])
        }
      })
  }

  static let models: [MatrixRow] =
    missing + shapes + configs + heads + numbers + deviations + side + normFree + forms

  private static let missing: [MatrixRow] = [
    MatrixRow(
      33, "norms and a bias are missing",
      .refused(
        3,
        "in/model.safetensors: 3 tensors are missing: h.1.attn.c_proj.bias, h.0.ln_2.weight, h.0.ln_2.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
      ),
      alter: {
        $0.tensors["transformer.h.0.ln_2.weight"] = nil
        $0.tensors["transformer.h.0.ln_2.bias"] = nil
        $0.tensors["transformer.h.1.attn.c_proj.bias"] = nil
      }),
    MatrixRow(
      34, "unknown tensors",
      .refused(
        4,
        "in/model.safetensors: 2 tensors of unknown meaning: score.weight, transformer.h.0.attn.inv_freq; if they take no part in the network, pass --ignore with their names"
      ),
      alter: {
        $0.tensors["score.weight"] = .init([1, 2], shape: [1, 2])
        $0.tensors["transformer.h.0.attn.inv_freq"] = .init([1], shape: [1])
      }),
    MatrixRow(
      34, "unknown tensors, ignored as told", .accepted(),
      conversion: { $0.readingOptions.ignoredTensors = ["score.*"] },
      alter: { $0.tensors["score.weight"] = .init([1, 2], shape: [1, 2]) }),
    MatrixRow(
      34, "masks of old versions", .accepted(),
      alter: { content in
        for block in 0..<2 {
          content.tensors["transformer.h.\(block).attn.bias"] = .init(
            [Double](repeating: 1, count: 64 * 64), shape: [1, 1, 64, 64])
          content.tensors["transformer.h.\(block).attn.masked_bias"] = .init([-1e4], shape: [])
        }
      }),
  ]

  private static let shapes: [MatrixRow] = [
    MatrixRow(
      35, "a norm of 31 features",
      .refused(3, "in/model.safetensors, 'transformer.ln_f.bias': expected shape [32], found [31]"),
      alter: { $0.tensors["transformer.ln_f.bias"] = .init([Double](repeating: 0, count: 31), shape: [31]) }),
    MatrixRow(
      35, "c_attn transposed",
      .refused(
        3,
        "in/model.safetensors, 'transformer.h.1.attn.c_attn.weight': expected shape [32, 96], found [96, 32]; this is the transpose: Hugging Face GPT-2 stores [in, out]"
      ),
      alter: {
        $0.tensors["transformer.h.1.attn.c_attn.weight"] =
          $0.tensors.entry("transformer.h.1.attn.c_attn.weight").transposed
      }),
    MatrixRow(
      36, "a square c_proj transposed: no one can see it, and what is computed is what is stored", .accepted(),
      alter: {
        $0.tensors["transformer.h.1.attn.c_proj.weight"] =
          $0.tensors.entry("transformer.h.1.attn.c_proj.weight").transposed
      }),
    MatrixRow(
      36, "all that is not square transposed",
      .refused(
        3,
        "in/model.safetensors, 'transformer.h.0.attn.c_attn.weight': expected shape [32, 96], found [96, 32]; this is the transpose: Hugging Face GPT-2 stores [in, out]"
      ),
      alter: { content in
        for name in content.tensors.names
        where name.hasSuffix("c_attn.weight") || name.contains("mlp.") && name.hasSuffix("weight") {
          content.tensors[name] = content.tensors.entry(name).transposed
        }
      }),
  ]

  private static let configs: [MatrixRow] = [
    config(
      37, "n_layer", .number(3),
      .refused(
        3,
        "in/config.json, 'n_layer': says 3, but the tensors have 2; the config belongs to another checkpoint, or tensors are missing"
      )),
    config(37, "n_head", .number(3), .refused(3, "in/config.json, 'n_head': 3 heads do not divide the width 32")),
    config(
      37, "n_embd", .number(48),
      .refused(
        3,
        "in/config.json, 'n_embd': says 48, but the tensors have 32; the config belongs to another checkpoint, or tensors are missing"
      )),
    config(
      37, "vocab_size", .number(511),
      .refused(
        3,
        "in/config.json, 'vocab_size': says 511, but the tensors have 512; the config belongs to another checkpoint; or the table was padded, and vocab_size is to be the number of its rows"
      )),
    config(
      37, "n_positions", .number(65),
      .refused(
        3,
        "in/config.json, 'n_positions': says 65, but the tensors have 64; the config belongs to another checkpoint, or tensors are missing"
      )),
    config(
      37, "n_ctx", .number(32),
      .refused(
        3,
        "in/config.json, 'n_ctx': says 32, but the tensors have 64; the config belongs to another checkpoint, or tensors are missing"
      )),
    config(
      38, "n_inner", .number(64),
      .refused(
        3,
        "in/config.json, 'n_inner': says 64, but the tensors have 128; the config belongs to another checkpoint, or tensors are missing"
      )),
    config(
      39, "activation_function", .string("gelu_slow"),
      .refused(
        4,
        "in/config.json, 'activation_function': the activation 'gelu_slow' is unknown; known are gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"
      )),
    config(39, "activation_function", .string("relu"), .accepted()),
    config(39, "activation_function", .string("gelu"), .accepted()),
    config(40, "scale_attn_by_inverse_layer_idx", .bool(true), .accepted()),
    config(40, "scale_attn_weights", .bool(false), .accepted()),
    config(40, "reorder_and_upcast_attn", .bool(true), .accepted()),
    config(
      52, "layer_norm_epsilon", .string("1e12"),
      .refused(3, "in/config.json, 'layer_norm_epsilon': expected a positive, finite number, found \"1e12\"")),
    config(
      52, "layer_norm_epsilon", .number(-1),
      .refused(3, "in/config.json, 'layer_norm_epsilon': expected a positive, finite number, found -1")),
    config(
      52, "layer_norm_epsilon", .number(0),
      .refused(3, "in/config.json, 'layer_norm_epsilon': expected a positive, finite number, found 0")),
    config(
      52, "layer_norm_epsilon", .number("1e999"),
      .refused(3, "in/config.json, 'layer_norm_epsilon': expected a positive, finite number, found 1e999")),
    text(
      69, "a config that is no JSON",
      .refused(3, "in/config.json at byte 1: not valid JSON: expected 'null', found '_'")
    ) { _ in Array("n_layer = 2".utf8) },
    text(
      69, "a config with a byte order mark",
      .refused(3, "in/config.json at byte 0: the JSON starts with a byte order mark; save it as UTF-8 without one")
    ) { [0xEF, 0xBB, 0xBF] + $0 },
    text(
      69, "a config with a key twice",
      .refused(
        3,
        "in/config.json at byte 400: the key 'n_layer' occurs twice; a name must mean one thing; write the file again")
    ) { Array("{\"n_layer\": 1,".utf8) + $0.dropFirst() },
    text(
      69, "a config with NaN",
      .refused(
        3,
        "in/config.json at byte 6: not valid JSON: expected a value, and NaN and Infinity are none; write a number, or null, in its place"
      )
    ) { Array("{\"x\": NaN,".utf8) + $0.dropFirst() },
    text(69, "a config of 2 MB", .refused(3, "in/config.json: a config has at most 1048576 bytes, found 2097996")) {
      $0 + [UInt8](repeating: 32, count: 2 << 20)
    },
    text(
      69, "no bytes at all",
      .refused(3, "in/config.json at byte 0: not valid JSON: expected a value, found the end of the text")
    ) { _ in [] },
    config(69, "layer_norm_epsilon", .number(1_000_000_000_000), .accepted()),
  ]

  private static func head(_ number: Int, _ name: String, _ answer: Answer, _ head: ReadingOptions.Head? = nil)
    -> MatrixRow
  {
    MatrixRow(
      number, name, answer, conversion: { $0.readingOptions.head = head },
      alter: {
        var other = $0.tensors.entry("transformer.wte.weight")
        other[7] += 1
        $0.tensors["lm_head.weight"] = other
      })
  }

  private static let heads: [MatrixRow] = [
    head(
      41, "tied, and another head is stored",
      .refused(
        4,
        "in/model.safetensors, 'lm_head.weight': differs from the token embedding, and by in/config.json they are tied; say which one counts: --head stored or --head tied"
      )),
    head(41, "tied, and another head is stored, which counts", .accepted(), .stored),
    head(41, "tied, and another head is stored, which does not count", .accepted(), .tied),
    MatrixRow(
      42, "not tied, and no head is stored",
      .refused(
        3,
        "in/model.safetensors, 'lm_head.weight': this tensor is missing, and in/config.json does not say that it is tied to the embedding; a runtime may fill it with random numbers; if it is tied, set tie_word_embeddings to true"
      ), alter: { $0.config["tie_word_embeddings"] = .bool(false) }),
  ]

  private static func weight(
    _ number: Int, _ name: String, _ tensor: String, _ index: Int, _ value: Float, _ answer: Answer,
    type: ElementType = .f32
  ) -> MatrixRow {
    MatrixRow(
      number, name, answer, conversion: { $0.type = type },
      alter: { $0.tensors.change("transformer." + tensor) { $0[index] = value } })
  }

  private static let numbers: [MatrixRow] = [
    weight(
      43, "NaN in a matrix", "h.1.mlp.c_fc.weight", 77, .nan,
      .refused(
        6,
        "in/model.safetensors, 'transformer.h.1.mlp.c_fc.weight': element 77 is nan; the training run that wrote it may have diverged"
      )),
    weight(
      43, "infinity in an embedding", "wpe.weight", 2_047, .infinity,
      .refused(
        6,
        "in/model.safetensors, 'transformer.wpe.weight': element 2047 is inf; the training run that wrote it may have diverged"
      )),
    weight(
      43, "minus infinity in a norm", "ln_f.weight", 3, -.infinity,
      .refused(
        6,
        "in/model.safetensors, 'transformer.ln_f.weight': element 3 is -inf; the training run that wrote it may have diverged"
      )),
    weight(
      43, "NaN in a bias that is folded away", "h.0.ln_1.bias", 0, .nan,
      .refused(
        6,
        "in/model.safetensors, 'transformer.h.0.ln_1.bias': element 0 is nan; the training run that wrote it may have diverged"
      )),
    weight(
      53, "a weight beyond F16", "wte.weight", 5, 70_000,
      .refused(
        6,
        "model.safetensors, 'lm_head.weight': element 5 is 517972.1203437782, too large for F16; choose a wider type with --type"
      ), type: .f16),
    weight(
      53, "a weight beyond BF16", "wte.weight", 5, .greatestFiniteMagnitude,
      .refused(
        6,
        "model.safetensors, 'lm_head.weight': element 5 is 2.517953985920268e+39, too large for BF16; choose a wider type with --type"
      ), type: .bf16),
    MatrixRow(
      53, "logits that overflow on every token",
      .refused(
        6,
        "the logits of the source are themselves NaN or infinite on every probe, in double or single precision, so there is nothing to hold another network against; check the weights"
      ),
      alter: { content in
        content.tensors.change("transformer.wte.weight") { entry in
          for index in 0..<512 * 32 { entry[index] *= 1e20 }
        }
      }),
    MatrixRow(
      54, "a block whose scale overflows (Q8_0)",
      .refused(
        6,
        "model.gguf, 'blk.1.ffn_down.weight': element 1666 is 100000000.0, too large for Q8_0; choose a wider type with --type"
      ),
      conversion: {
        $0.targets = ["llama.cpp"]
        $0.type = .q8_0
      }, alter: { $0.tensors.change("transformer.h.1.mlp.c_proj.weight") { $0[77] = 1e8 } }),
    MatrixRow(
      54, "a block whose scale overflows (Q4_0)",
      .refused(
        6,
        "model.gguf, 'blk.1.ffn_down.weight': element 1666 is 100000000.0, too large for Q4_0; choose a wider type with --type"
      ),
      conversion: {
        $0.targets = ["llama.cpp"]
        $0.type = .q4_0
      }, alter: { $0.tensors.change("transformer.h.1.mlp.c_proj.weight") { $0[77] = 1e8 } }),
    MatrixRow(
      54, "a type whose blocks no row fills (Q4_K)",
      .refused(
        4,
        "'llama.cpp': cannot be stored as Q4_K; it takes F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0"
      ),
      conversion: {
        $0.targets = ["llama.cpp"]
        $0.type = .q4K
      }, alter: { _ in }),
    MatrixRow(
      71, "weights that are folded wrongly", .mismatch,
      conversion: { conversion in
        let fold = conversion.fold
        conversion.fold = { (network, options) throws(Refusal) in
          var other = network
          other[norm: "blocks.1.mlp.norm"]?.gain = .constant(1, shape: [32])
          return try fold(other, options)
        }
      }, alter: { _ in }),
  ]

  private static let deviations: [MatrixRow] = [
    deviation(
      44, "σ = 0", 0,
      .refused(
        6,
        "'transformer.h.1.ln_2': the deviation of feature 0 is 0.0, expected a positive number; the training run that wrote it may have diverged, or was not finished"
      )),
    deviation(
      44, "σ < 0", -1,
      .refused(
        6,
        "'transformer.h.1.ln_2': the deviation of feature 0 is -1.0, expected a positive number; the training run that wrote it may have diverged, or was not finished"
      )),
    deviation(
      44, "σ is NaN", .nan,
      .refused(
        6,
        "'transformer.h.1.ln_2': the deviation of feature 0 is nan, expected a positive number; the training run that wrote it may have diverged, or was not finished"
      )),
    MatrixRow(
      44, "σ is NaN, and one number", of: "fakeln-safetensors",
      .refused(
        6,
        "'transformer.h.1.ln_2': the deviation of feature 0 is nan, expected a positive number; the training run that wrote it may have diverged, or was not finished"
      ),
      alter: { content in
        for buffer in buffers { content.tensors["transformer.h.1.ln_2." + buffer] = .init([.nan], shape: []) }
      }),
    deviation(
      44, "σ is infinite", .infinity,
      .refused(
        6,
        "'transformer.h.1.ln_2': the deviation of feature 0 is inf, expected a positive number; the training run that wrote it may have diverged, or was not finished"
      )),
    deviation(
      44, "σ is subnormal", 1e-40,
      .refused(
        6,
        "model.safetensors, 'transformer.h.1.mlp.c_fc.weight': element 2 is 6.497090779817029e+38, too large for F32; choose a wider type with --type"
      )),
    MatrixRow(
      45, "σ by position", copyOf: "fakeln-positional",
      .refused(
        5,
        "5 norms are not a linear map: transformer.h.0.ln_1: its deviation depends on the position (0.33986038 at 0, 0.09710296 at 1); transformer.h.0.ln_2: its deviation depends on the position (0.3378898 at 0, 0.09653994 at 1); transformer.h.1.ln_1: its deviation depends on the position (0.5803044 at 0, 0.16580126 at 1); transformer.h.1.ln_2: its deviation depends on the position (0.6299903 at 0, 0.17999722 at 1); transformer.ln_f: its deviation depends on the position (0.87061006 at 0, 0.24874572 at 1); finish the training phase that gives all positions one deviation (disable_bos)"
      ), change: { _ in }),
    MatrixRow(46, "σ by feature", copyOf: "fakeln-feature0", .accepted(), change: { _ in }),
    MatrixRow(
      46, "σ as long as nothing", of: "fakeln-safetensors",
      .refused(
        3,
        "in/model.safetensors, 'transformer.h.0.ln_2.average_std_buffer': expected 32 features or 64 positions, found shape [48]"
      ),
      alter: {
        $0.tensors["transformer.h.0.ln_2.average_std_buffer"] = .init([Double](repeating: 1, count: 48), shape: [48])
      }),
    MatrixRow(
      47, "norms that are still computed", copyOf: "fakeln-partial",
      .refused(
        5,
        "1 norm is not a linear map: transformer.ln_f: its deviation is still computed (epsilon 1e-05); finish the removal, or pass --allow-partial to fold the rest and keep these"
      ), change: { _ in }),
    MatrixRow(
      47, "an ordinary GPT-2", copyOf: "vanilla",
      .refused(
        5,
        "this is an ordinary GPT-2: the deviations of all its norms are computed, so none is a linear map; remove its LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with --deviations, or keep the norms in another form with --to-norm"
      ), change: { _ in }),
    MatrixRow(
      48, "σ of the end of text differs, and the vocabulary does not hold it", of: "fakeln-safetensors", .accepted(),
      alter: {
        $0.tensors["transformer.h.0.ln_1.bos_std_buffer"] = .init([Double](repeating: 9, count: 32), shape: [32])
      }),
    MatrixRow(
      48, "σ of the end of text differs, and the vocabulary holds it", of: "fakeln-safetensors",
      .refused(
        5,
        "1 norm is not a linear map: transformer.h.0.ln_1 (values): its deviation depends on the token (0.09616245, but 9.0 for the end of text); finish the training phase that treats the end of text like any token (disable_eot), or pass --assume-eot-disabled"
      ),
      alter: { content in
        content.tensors["transformer.h.0.ln_1.bos_std_buffer"] = .init([Double](repeating: 9, count: 32), shape: [32])
        content.tensors["transformer.wte.weight"] = .init(
          type: .f32, shape: [50_257, 32], bytes: [UInt8](repeating: 0, count: 50_257 * 128))
        content.config["vocab_size"] = .number(50_257)
      }),
    MatrixRow(
      49, "a gain of exactly 0", .accepted(),
      alter: { $0.tensors.change("transformer.h.0.ln_1.weight") { entry in for index in 0..<8 { entry[index] = 0 } } }),
    MatrixRow(
      50, "a norm's bias is missing",
      .refused(
        3,
        "in/model.safetensors: 1 tensor is missing: h.0.ln_1.bias; the checkpoint is incomplete; a runtime may fill them with random numbers"
      ), alter: { $0.tensors["transformer.h.0.ln_1.bias"] = nil }),
    MatrixRow(
      51, "what was converted before", .accepted()
    ) { place in
      let arrangement = Arrangement(place, place / "in")
      var conversion = Conversion(
        source: Fixtures.path("tiny-2x32/lnfree"), destination: arrangement.source, targets: ["gpt2"])
      conversion.probeOptions.probeLength = 4
      _ = try conversion.run(logger: .init(label: "test") { _ in SwiftLogNoOpLogHandler() })
      return arrangement
    },
  ]

  private static let side: [MatrixRow] = [
    MatrixRow(68, "no tokenizer: none is copied, none is made up", copyOf: "lnfree", .accepted(), change: { _ in }),
    MatrixRow(
      68, "a tokenizer that is a directory", copyOf: "lnfree",
      .refused(3, "in/merges.txt: expected a file, found a directory"),
      change: {
        try FileManager.default.createDirectory(atPath: $0 + "/merges.txt", withIntermediateDirectories: false)
      }),
    MatrixRow(
      67, "a BERT with a head, for llama.cpp",
      .refused(
        4,
        "'llama.cpp': of encoders only BertModel and DistilBertModel are written as llama.cpp's bert, and this is BertForSequenceClassification; use --for onnxruntime"
      ),
      conversion: {
        $0.targets = ["llama.cpp"]
        $0.allowsPartial = true
      }
    ) { Arrangement($0, Fixtures.path("encoders/bert-sequence")) },
    MatrixRow(
      68, "a tokenizer.model that is none, carried to transformers unread", copyOf: "lnfree", .accepted(),
      change: { try Data([1, 2, 3]).write(to: URL(filePath: $0 + "/tokenizer.model")) }),
    MatrixRow(
      68, "a tokenizer.model that is none, for a target that reads it", copyOf: "lnfree",
      .refused(
        3,
        "in/tokenizer.model at byte 0: expected a field, found the number 0; the file is damaged, or no model of SentencePiece's"
      ),
      conversion: { $0.targets = ["llama.cpp"] },
      change: { try Data([1, 2, 3]).write(to: URL(filePath: $0 + "/tokenizer.model")) }),
    MatrixRow(
      56, "more tokens than the context: cut to it, and the report says how many", copyOf: "lnfree", .accepted(),
      conversion: { $0.probeOptions.probeLength = 65 },
      change: { _ in }),
  ]
}
