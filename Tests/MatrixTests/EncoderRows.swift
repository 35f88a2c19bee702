import Foundation
import NormFold
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// An encoder, an adapter, or something to be measured on, that cannot be what was meant, and what the command says of it.
enum EncoderRow {
  /// What is converted.
  static let conversions: [MatrixRow] = models + tasks + adapters + pooling + targets

  private static let complete = "the checkpoint is incomplete"

  private static func model(
    _ name: String, of fixture: String, _ status: Int32, _ sentence: String,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void = { _ in }
  ) -> MatrixRow {
    MatrixRow(
      0, name, .refused(status, sentence),
      conversion: {
        $0.allowsPartial = true
        conversion(&$0)
      },
      arrange: { place in
        let altered = try AlteredCheckpoint(of: fixture, alter: alter)
        return MatrixRow.Arrangement(place, altered.path, owner: altered)
      })
  }

  private static let models: [MatrixRow] = [
    model(
      "RoBERTa: padding behind the positions", of: "encoders/roberta-model", 3,
      "in/config.json, 'pad_token_id': says 30, and positions are counted from there on, but there are only 22",
      alter: { $0.config["pad_token_id"] = .number(30) }),
    model(
      "RoBERTa: windows of other attention", of: "encoders/roberta-model", 4,
      "in/config.json, 'position_embedding_type': expected \"absolute\", found \"relative_key\": positions relative to each other are not supported",
      alter: { $0.config["position_embedding_type"] = .string("relative_key") }),
    model(
      "BERT: a decoder", of: "encoders/bert-model", 4,
      "in/config.json, 'is_decoder': expected false, found true: this class as a decoder is not supported",
      alter: { $0.config["is_decoder"] = .bool(true) }),
    model(
      "BERT: attention to another network", of: "encoders/bert-model", 4,
      "in/config.json, 'add_cross_attention': expected false, found true: attention to another sequence is not supported",
      alter: { $0.config["add_cross_attention"] = .bool(true) }),
    model(
      "BERT: heads that do not fill the width", of: "encoders/bert-model", 3,
      "in/config.json, 'num_attention_heads': 5 heads do not divide the width 24",
      alter: { $0.config["num_attention_heads"] = .number(5) }),
    model(
      "BERT: an unknown activation", of: "encoders/bert-model", 4,
      "in/config.json, 'hidden_act': the activation 'mish' is unknown; known are gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh",
      alter: { $0.config["hidden_act"] = .string("mish") }),
    model(
      "BERT: a tensor missing", of: "encoders/bert-model", 3,
      "in/model.safetensors: 1 tensor is missing: encoder.layer.1.output.dense.bias; the checkpoint is incomplete; a runtime may fill them with random numbers",
      alter: { $0.tensors["encoder.layer.1.output.dense.bias"] = nil }),
    model(
      "eye-tracking: the older form", of: "eye-tracking/model.pth", 4,
      "in/model.safetensors, 'languageheadlayer.dense.weight': is of an older form with one map more in both parts, which is not read",
      alter: { $0.tensors["languageheadlayer.dense.weight"] = .init([1, 2], shape: [1, 2]) }),
    model(
      "eye-tracking: a vector for a matrix", of: "eye-tracking/model.pth", 3,
      "in/model.safetensors, 'languageheadlayer.mid.weight': expected a matrix, found shape [2]",
      alter: { $0.tensors["languageheadlayer.mid.weight"] = .init([1, 2], shape: [2]) }),
    model(
      "eye-tracking: a part missing", of: "eye-tracking/model.pth", 3,
      "in/model.safetensors, 'feature_model.inp.weight': this tensor is missing; the checkpoint is incomplete",
      alter: { $0.tensors["feature_model.inp.weight"] = nil }),
    model(
      "ViT: patches that do not fill the image", of: "vision/hf-classifier", 3,
      "in/config.json, 'patch_size': patches of 8 × 8 pixels do not fill an image of 17 × 17",
      alter: { $0.config["image_size"] = .number(17) }),
    model(
      "ViT: positions of another image", of: "vision/hf-classifier", 4,
      "in/model.safetensors, 'embeddings.position_embeddings': has 7 positions, expected one for the class token and 64 for the patches of an image of 64 × 64; give the size of the images that it was trained on",
      alter: { $0.config["image_size"] = .number(64) }),
    model(
      "ViT of timm: registers", of: "vision/timm", 4, "in/config.json, 'model_args.reg_tokens': 4 is not supported yet",
      alter: {
        $0.config["model_args"] = .object(
          ($0.config["model_args"]?.members ?? []) + [.init(key: "reg_tokens", value: .number(4))])
      }),
    model(
      "ViT of timm: a mean over patches", of: "vision/timm", 4,
      "in/config.json, 'global_pool': \"avg\" is not supported yet; only classifiers of the class token are",
      alter: { $0.config["global_pool"] = .string("avg") }),
    model(
      "ViT of timm: another activation", of: "vision/timm", 4,
      "in/config.json, 'architecture': 'vit_quickgelu' has another activation than the exact GELU",
      alter: { $0.config["architecture"] = .string("vit_quickgelu") }),
    model(
      "ViT of timm: no number of heads", of: "vision/timm", 4,
      "in/config.json, 'architecture': 'vit_odd_patch8' does not say how many heads there are; write the number into config.json: \"model_args\": {\"num_heads\": …}",
      alter: {
        $0.config["architecture"] = .string("vit_odd_patch8")
        $0.config["model_args"] = nil
      }),
    model(
      "RoBERTa: attention of a decoder", of: "encoders/roberta-model", 4,
      "in/config.json, 'is_decoder': expected false, found true: this class as a decoder is not supported",
      alter: { $0.config["is_decoder"] = .bool(true) }),
    model(
      "DistilBERT: a tensor of no known meaning", of: "encoders/distilbert-model", 4,
      "in/model.safetensors: 1 tensor of unknown meaning: more.weight; if they take no part in the network, pass --ignore with their names",
      alter: { $0.tensors["more.weight"] = .init([1, 2], shape: [2]) }),
    model(
      "ViT: no patches", of: "vision/timm", 3,
      "in/model.safetensors, 'patch_embed.proj.weight': this tensor is missing; a ViT cannot be read without it",
      alter: { $0.tensors["patch_embed.proj.weight"] = nil }),
  ]

  // MARK: Tasks

  private static let tasks: [MatrixRow] = [
    model(
      "tasks: none chosen", of: "vision/tasks/model.pth", 2,
      "in/model.safetensors: has norms for 3 tasks, and nothing in it says which one an image belongs to; choose one with --task: 0 to 2"
    ),
    model(
      "tasks: one that is not there", of: "vision/tasks/model.pth", 2,
      "in/model.safetensors, '--task 7': there is no such task; known are 0 to 2",
      conversion: { $0.readingOptions.task = 7 }),
    model(
      "tasks: of a network without", of: "vision/timm", 2,
      "in/model.safetensors, '--task': there are no norms of several tasks (mln1.w, mln2.w, mln.w); leave it out",
      conversion: { $0.readingOptions.task = 0 }),
    model(
      "tasks: norms of a task missing", of: "vision/tasks/model.pth", 3,
      "in/model.safetensors, 'blocks.0.mln1.b': this tensor is missing; 'blocks.0.mln1.w' is there",
      conversion: { $0.readingOptions.task = 0 }, alter: { $0.tensors["module.blocks.0.mln1.b"] = nil }),
    model(
      "tasks: fewer biases than gains", of: "vision/tasks/model.pth", 3,
      "in/model.safetensors, 'module.blocks.0.mln1.b': expected a row for each of the 3 tasks, stored one after the other, found shape [2, 24]",
      conversion: { $0.readingOptions.task = 0 },
      alter: {
        let entry = $0.tensors.entry("module.blocks.0.mln1.b")
        let width = entry.shape[1]
        $0.tensors["module.blocks.0.mln1.b"] = .init([Double](repeating: 0, count: 2 * width), shape: [2, width])
      }),
  ]

  // MARK: Adapters

  private static func adapter(
    _ name: String, of adapter: String = "gpt2-lora", to base: String = "tiny-2x32/vanilla", _ status: Int32,
    _ sentence: String, config: @escaping @Sendable (inout [String: JSONValue]) -> Void = { _ in },
    tensors: @escaping @Sendable (inout EditableTensors) throws -> Void = { _ in }
  ) -> MatrixRow {
    MatrixRow(0, "adapter: " + name, .refused(status, sentence), conversion: { $0.normForm = .unit }) { place in
      let directory = place / "adapter"
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
      let source = Fixtures.path("adapters/" + adapter)
      let json = try JSONValue(configurationAt: source + "/adapter_config.json")
      var members = Dictionary(uniqueKeysWithValues: (json.members ?? []).map { ($0.key, $0.value) })
      config(&members)
      if !members.isEmpty {
        let text = JSONValue.object(members.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: $0.value) }).text
        try Data(text.utf8).write(to: URL(filePath: directory + "/adapter_config.json"))
      }
      var content = EditableTensors(of: try Checkpoint(safetensors: source + "/adapter_model.safetensors"))
      try tensors(&content)
      try content.write(to: directory + "/adapter_model.safetensors")
      return MatrixRow.Arrangement(place, Fixtures.path(base), adapter: directory)
    }
  }

  private static let query = "base_model.model.transformer.h.0.attn.c_attn"

  private static let adapters: [MatrixRow] = [
    adapter(
      "no configuration", 3,
      "adapter: holds no adapter of peft: expected adapter_config.json and adapter_model.safetensors or adapter_model.bin, found adapter_model.safetensors; give the directory that save_pretrained() wrote",
      config: { $0 = [:] }),
    adapter(
      "another kind", 4,
      "adapter/adapter_config.json, 'peft_type': \"IA3\" is not merged here; known are LN_TUNING and LORA; merge it with merge_and_unload(), and give what save_pretrained() writes then",
      config: { $0["peft_type"] = .string("IA3") }),
    adapter(
      "DoRA", 4,
      "adapter/adapter_config.json, 'use_dora': true is not merged here; merge it with merge_and_unload(), and give what save_pretrained() writes then",
      config: { $0["use_dora"] = .bool(true) }),
    adapter(
      "a key that is not known", 4,
      "adapter/adapter_config.json, 'use_more': 3 is not merged here; merge it with merge_and_unload(), and give what save_pretrained() writes then",
      config: { $0["use_more"] = .number(3) }),
    adapter(
      "no factor", 3, "adapter/adapter_config.json, 'lora_alpha': expected a number, found null",
      config: { $0["lora_alpha"] = .null }),
    adapter(
      "half of a product", 3,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight': the matrix lora_B that belongs to it is missing; the adapter is incomplete; save it again",
      tensors: { $0[query + ".lora_B.weight"] = nil }),
    adapter(
      "the other half", 3,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_B.weight': the matrix lora_A that belongs to it is missing; the adapter is incomplete; save it again",
      tensors: { $0[query + ".lora_A.weight"] = nil }),
    adapter(
      "ranks that differ", 4,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight': expected matrices [rank, in] and [out, rank], found [3, 32] and [96, 4]; only adapters of linear maps are merged here",
      tensors: { $0[query + ".lora_A.weight"] = .init([Double](repeating: 0, count: 96), shape: [3, 32]) }),
    adapter(
      "an embedding", 4,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_embedding_A': is of a kind that is not merged here; merge the adapter with merge_and_unload(), and give what save_pretrained() writes then",
      tensors: { $0.rename(query + ".lora_A.weight", to: query + ".lora_embedding_A") }),
    adapter(
      "two spellings of one tensor", 3,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight': means the same tensor as 'base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight'; save the adapter again",
      tensors: {
        let name = query + ".lora_A.weight"
        $0[query + ".lora_A.default.weight"] = $0.entry(name)
      }),
    adapter(
      "a matrix of three axes", 4,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight': expected matrices [rank, in] and [out, rank], found [4, 1, 32] and [96, 4]; only adapters of linear maps are merged here",
      tensors: {
        $0[query + ".lora_A.weight"] = .init([Double](repeating: 0, count: 4 * 32), shape: [4, 1, 32])
      }),
    adapter(
      "nothing in it", 3, "adapter/adapter_model.safetensors: holds no tensors", tensors: { $0 = EditableTensors() }),
    adapter(
      "of another base", to: "llama/random", 4,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.lora_A.weight': is for 'transformer.h.0.attn.c_attn.weight', and the base has no such tensor; the adapter belongs to another base, or to another head of it"
    ),
    adapter(
      "of another width", of: "gpt2-norms", to: "shakespeare-4x128/vanilla", 3,
      "adapter/adapter_model.safetensors, 'base_model.model.transformer.h.0.ln_1.ln_tuning_layers.bias': expected shape [128], that of the base, found [32]; the adapter belongs to another base"
    ),
  ]

  // MARK: Sentence vectors

  private static func pooling(
    _ name: String, modules: String, mode configuration: String = #"{"pooling_mode_mean_tokens": true}"#,
    _ status: Int32, _ sentence: String
  ) -> MatrixRow {
    MatrixRow(
      0, "sentence vectors: " + name, .refused(status, sentence),
      conversion: {
        $0.targets = ["llama.cpp"]
        $0.allowsPartial = true
        $0.allowsApproximateActivation = true
      },
      arrange: { place in
        let source = place / "in"
        try FileManager.default.createDirectory(atPath: source + "/1_Pooling", withIntermediateDirectories: true)
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
          try FileManager.default.copyItem(
            atPath: Fixtures.path("found/paraphrase-minilm-l3/" + name), toPath: source + "/" + name)
        }
        try Data(modules.utf8).write(to: URL(filePath: source + "/modules.json"))
        try Data(configuration.utf8).write(to: URL(filePath: source + "/1_Pooling/config.json"))
        return MatrixRow.Arrangement(place, source)
      })
  }

  private static let pooling: [MatrixRow] = [
    pooling(
      "modules that are none", modules: "{}", 3, "in/modules.json: expected an array of modules, found an object"),
    pooling(
      "a folder elsewhere", modules: #"[{"type": "x.Pooling", "path": "../1"}]"#, 3,
      "in/modules.json, '[0].path': expected the name of a folder of letters, digits and _, found \"../1\""),
    pooling(
      "a layer behind the mean", modules: #"[{"type": "x.Dense", "path": "2"}]"#, 4,
      "in/modules.json, '[0].type': expected Transformer, Pooling or Normalize, found \"x.Dense\""),
    pooling(
      "the largest states", modules: #"[{"type": "x.Pooling", "path": "1_Pooling"}]"#,
      mode: #"{"pooling_mode_max_tokens": true}"#, 4,
      "in/1_Pooling/config.json, 'pooling_mode': expected one of pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_lasttoken, found pooling_mode_max_tokens"
    ),
    pooling(
      "two at once", modules: #"[{"type": "x.Pooling", "path": "1_Pooling"}]"#,
      mode: #"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#, 4,
      "in/1_Pooling/config.json, 'pooling_mode': expected one of pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_lasttoken, found pooling_mode_cls_token, pooling_mode_mean_tokens"
    ),
  ]

  // MARK: Targets

  private static let targets: [MatrixRow] = [
    (
      "encoders/bert-sequence", "llama.cpp",
      "'llama.cpp': of encoders only BertModel and DistilBertModel are written as llama.cpp's bert, and this is BertForSequenceClassification; use --for onnxruntime"
    ),
    (
      "encoders/roberta-model", "llama.cpp",
      "'llama.cpp': of encoders only BertModel and DistilBertModel are written as llama.cpp's bert, and this is RobertaModel; use --for onnxruntime"
    ), ("vision/timm", "llama.cpp", "'llama.cpp': llama.cpp has no architecture for a ViT; use --for onnxruntime"),
    ("encoders/bert-model", "gpt2", "'gpt2': writes GPT-2 only, and this is a BERT; use --for transformers"),
    (
      "encoders/bert-model", "transformer-lens",
      "'transformer-lens': writes GPT-2 only, and this is a BERT; use --for transformers"
    ),
    (
      "eye-tracking/model.pth", "transformers",
      "'transformers': there is no class for an Eye-tracking RoBERTa; use --for onnxruntime"
    ),
  ].map { fixture, target, sentence in
    model("\(fixture) for \(target)", of: fixture, 4, sentence, conversion: { $0.targets = [target] })
  }

  // MARK: Measuring

  /// What something is measured on, and the refusal.
  struct Measured: Sendable {
    let name: String
    let status: Int32
    let sentence: String
    let measure: @Sendable (TemporaryDirectory) throws -> Void
  }

  static let measured: [Measured] = tables + pictures + keys + labels + sentences + texts

  private static func table(
    _ name: String, _ status: Int32, _ sentence: String, model: String = "eye-tracking/model.pth",
    change: @escaping @Sendable (String) -> String = { $0 }
  ) -> Measured {
    Measured(name: "words: " + name, status: status, sentence: sentence) { place in
      let text = change(String(decoding: try Fixtures.bytes("eye-tracking/words.csv"), as: UTF8.self))
      _ = try WordEvaluation(
        model: Fixtures.path(model), table: try place.write(Array(text.utf8), to: "words.csv")
      ).run()
    }
  }

  private static let tables: [Measured] = [
    table(
      "of a network that gives something else", 4,
      "encoders/bert-model: BertModel gives hidden states, and no numbers of words; give a model that predicts them",
      model: "encoders/bert-model"),
    table(
      "no sentences", 3,
      "words.csv: has no column sentence_id; its columns are sentence, word_id, tokens, nFix, FFD, GPT, TRT, fixProp, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11 and f12",
      change: { $0.replacing("sentence_id", with: "sentence") }),
    table(
      "no words in the header", 3,
      "words.csv: has neither a column word nor a column tokens; its columns are sentence_id, word_id, text, nFix, FFD, GPT, TRT, fixProp, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11 and f12",
      change: { $0.replacing("tokens", with: "text") }),
    table(
      "a target missing", 3,
      "words.csv: expected 5 of the columns nFix, FFD, GPT, TRT and fixProp, as many as the network predicts, found 4",
      change: { $0.replacing("nFix", with: "n") }),
    table(
      "a number of each word missing", 3,
      "words.csv: expected 12 columns of numbers of each word, as many as the network reads, found 11: f1, f2, f3, f4, f5, f6, f7, f8, f9, f10 and f11",
      change: { $0.replacing("f12", with: "word") }),
    table("empty", 3, "words.csv: has no header", change: { _ in "" }),
    table("a header only", 3, "words.csv: has no words", change: { String($0.prefix { $0 != "\n" }) }),
    table(
      "a short line", 3, "words.csv, 'line 11': expected 20 fields, as many as the header has, found 3",
      change: { $0 + "1,2,3\n" }),
    table(
      "a quote that is not closed", 3, "words.csv, 'line 1': a quote is not closed",
      change: { $0.replacing("sentence_id", with: "\"sentence_id") }),
    table(
      "a token beyond the vocabulary", 3,
      "words.csv, 'line 2': '99 27 30' has a token that is not in the model's vocabulary of 60",
      change: { $0.replacing("\n0,0,", with: "\n0,0,99 ") }),
    table(
      "no number", 3, "words.csv, 'line 2': f12: expected a number, found 'much'",
      change: { text in
        var lines = text.split(separator: "\n").map(String.init)
        lines[1] = lines[1].split(separator: ",").dropLast().joined(separator: ",") + ",much"
        return lines.joined(separator: "\n")
      }),
    table(
      "a sentence beyond the context", 4,
      "words.csv, 'line 2': the sentence has 164 tokens, and the context of the network 20; leave it out",
      change: { text in
        let lines = text.split(separator: "\n").map(String.init)
        return (lines[...1] + Array(repeating: lines[1], count: 80)).joined(separator: "\n")
      }),
  ]

  private static func picture(
    _ name: String, _ status: Int32, _ sentence: String, of model: String = "vision/tasks/model.pth",
    preprocessor: String? = nil, file: String = "picture.ppm", content: @escaping @Sendable () throws -> [UInt8]
  ) -> Measured {
    Measured(name: "pictures: " + name, status: status, sentence: sentence) { place in
      var path = Fixtures.path(model)
      if let preprocessor {
        let folder = URL(filePath: path).deletingLastPathComponent().path
        for name in ["model.pth", "config.json"] {
          try FileManager.default.copyItem(atPath: folder + "/" + name, toPath: place / name)
        }
        try place.write(Array(preprocessor.utf8), to: "preprocessor_config.json")
        path = place / "model.pth"
      }
      _ = try TaskSelection(model: path, images: [try place.write(content(), to: file)]).run()
    }
  }

  @Sendable private static func sound() throws -> [UInt8] { try Array(Fixtures.bytes("vision/tasks/picture.ppm")) }

  private static func pixels(_ name: String, _ shape: [Int]) throws -> [UInt8] {
    let place = try TemporaryDirectory()
    var tensors = EditableTensors()
    tensors[name] = .init([Double](repeating: 0, count: shape.reduce(1, *)), shape: shape)
    try tensors.write(to: place / "pixels.safetensors")
    return Array(try Data(contentsOf: URL(filePath: place / "pixels.safetensors")))
  }

  private static let pictures: [Measured] = [
    picture(
      "of a network without tasks", 4,
      "vision/timm: has no keys of tasks for a whole image (wsm.key); give a ViT whose norms were tuned for several tasks",
      of: "vision/timm", content: sound),
    picture(
      "turned", 4,
      "picture.ppm: expected 3 × 16 × 24 numbers (channels, height, width), found [3, 24, 16]; bring the picture to this size first, for instance with 'magick IN -resize 24x16! OUT.ppm'",
      content: { Array("P6\n16 24\n255\n".utf8) }),
    picture(
      "cut off", 3, "picture.ppm: expected 1152 bytes of pixels, found 2", content: { Array("P6\n24 16\n255\nab".utf8) }
    ),
    picture(
      "of two bytes a number", 4,
      "picture.ppm: expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors; make one of it, for instance with 'magick IN OUT.ppm'",
      content: { Array("P6\n24 16\n65535\n".utf8) }),
    picture(
      "PNG", 4,
      "picture.ppm: expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors; make one of it, for instance with 'magick IN OUT.ppm'",
      content: { Array("\u{89}PNG".utf8) }),
    picture(
      "another tensor", 3, "p.safetensors: has no tensor pixel_values; an image processor of transformers makes it",
      file: "p.safetensors", content: { try pixels("pixels", [1, 3, 16, 24]) }),
    picture(
      "a tensor of another size", 4,
      "p.safetensors: expected 3 × 16 × 24 numbers (channels, height, width), found [3, 8, 24]; bring the picture to this size first, for instance with 'magick IN -resize 24x16! OUT.ppm'",
      file: "p.safetensors", content: { try pixels("pixel_values", [3, 8, 24]) }),
    picture(
      "means of two channels", 3,
      "preprocessor_config.json, 'image_mean': expected a number for each of 3 channels, found 0.5 and 0.5",
      preprocessor: #"{"do_normalize": true, "image_mean": [0.5, 0.5]}"#,
      content: sound),
    picture(
      "a deviation of zero", 3,
      "preprocessor_config.json, 'image_std': expected a positive number for each of 3 channels, found 1, 0 and 1",
      preprocessor: #"{"do_normalize": true, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}"#, content: sound),
  ]

  private static func labels(
    _ name: String, _ status: Int32, _ sentence: String, of model: String = "encoders/labelled",
    tokenizer: String = "found/paraphrase-minilm-l3", isShort: Bool = false, _ content: String
  ) -> Measured {
    Measured(name: "labels: " + name, status: status, sentence: sentence) { place in
      let short = isShort ? try AlteredCheckpoint(of: model, alter: shorten) : nil
      defer { withExtendedLifetime(short) {} }
      var evaluation = LabelEvaluation(
        model: short?.path ?? Fixtures.path(model), labels: try place.write(Array(content.utf8), to: "labels.tsv"))
      evaluation.readingOptions.tokenizer = .directory(Fixtures.path(tokenizer))
      _ = try evaluation.run()
    }
  }

  /// Leaves two positions.
  @Sendable private static func shorten(_ content: inout AlteredCheckpoint.Content) {
    content.config["max_position_embeddings"] = .number(2)
    let name = content.tensors.names.first { $0.hasSuffix("position_embeddings.weight") } ?? ""
    content.tensors.change(name) { entry in
      let width = entry.shape[1]
      entry = .init((0..<2 * width).map { Double(entry[$0]) }, shape: [2, width])
    }
  }

  private static let labels: [Measured] = [
    labels(
      "one column", 3,
      "labels.tsv, 'line 1': expected 2 or 3 columns with tabs between, found 1; give a text, for pairs a second one, and the label",
      "a text\n"),
    labels(
      "columns that change", 3,
      "labels.tsv, 'line 2': expected 2 columns with tabs between, found 3; give a text, for pairs a second one, and the label",
      "a\tbad\nb\tc\tgood\n"),
    labels(
      "another label", 3,
      "labels.tsv, 'line 3': expected a label of the model, bad, fair or good, or its number, found '3'",
      "a\tbad\n\nb\t3\n"),
    labels("no examples", 3, "labels.tsv: has no examples", "\n\r\n"),
    labels(
      "of a network that gives something else", 4,
      "encoders/bert-model: BertModel gives hidden states, and no logits of several labels of a text; give a model that labels texts",
      of: "encoders/bert-model", "a\tbad\n"),
    labels(
      "a tokenizer of texts alone", 4,
      "shakespeare-4x128/tokenizer/tokenizer.json: says nothing of the tokens around a text that an encoder reads; name the model's own tokenizer with --tokenizer",
      tokenizer: "shakespeare-4x128/tokenizer", "a\tbad\n"),
    labels(
      "a context that holds no text", 4,
      "found/paraphrase-minilm-l3/tokenizer.json: puts 2 tokens around a text, and the context has 2", isShort: true,
      "a\tbad\n"),
    labels(
      "a tokenizer of more tokens", 3,
      "found/paraphrase-minilm-l3/tokenizer.json: token 322 is not in the model's vocabulary of 60; name the model's own tokenizer with --tokenizer",
      of: "encoders/bert-sequence", "good\t0\n"),
  ]

  private static func sentences(
    _ name: String, _ status: Int32, _ sentence: String, of model: String = "found/paraphrase-minilm-l3",
    _ content: String
  ) -> Measured {
    Measured(name: "texts: " + name, status: status, sentence: sentence) { place in
      _ = try SentenceVectors(
        model: Fixtures.path(model), sentences: try place.write(Array(content.utf8), to: "lines.txt")
      ).run()
    }
  }

  private static let sentences: [Measured] = [
    sentences(
      "of a classifier", 4,
      "encoders/labelled: BertForSequenceClassification gives logits of the labels of a text, and no hidden states of texts; give an encoder without a head",
      of: "encoders/labelled", "a\n"),
    sentences("none", 3, "lines.txt: has no texts", "\n\r\n"),
  ]

  // MARK: Texts of networks that continue none

  private static let texts: [Measured] = [
    Measured(
      name: "eval --text of an encoder", status: 4,
      sentence:
        "encoders/bert-model: BertModel gives hidden states, and no logits of the next token; give a model that continues texts"
    ) { place in
      _ = try Evaluation(
        MeasurementInput(
          model: Fixtures.path("encoders/bert-model"), text: .text(files: [try place.write([97, 98], to: "text.txt")]))
      ).run()
    },
    Measured(
      name: "calibrate of a ViT", status: 4,
      sentence:
        "vision/timm: ViTForImageClassification gives logits of the labels of an image, and no logits of the next token; give a model that continues texts"
    ) { place in
      _ = try Calibration(
        MeasurementInput(
          model: Fixtures.path("vision/timm"), text: .text(files: [try place.write([97, 98], to: "text.txt")]))
      ).run()
    },
    Measured(name: "labels: no UTF-8", status: 3, sentence: "labels.tsv, 'line 1': is not UTF-8") { place in
      var evaluation = LabelEvaluation(
        model: Fixtures.path("encoders/labelled"), labels: try place.write([0xFF, 9, 0x31, 10], to: "labels.tsv"))
      evaluation.readingOptions.tokenizer = .directory(Fixtures.path("found/paraphrase-minilm-l3"))
      _ = try evaluation.run()
    },
    Measured(
      name: "words: a tokenizer of texts alone", status: 4,
      sentence:
        "shakespeare-4x128/tokenizer/tokenizer.json: says nothing of the tokens around a text that an encoder reads; name the model's own tokenizer with --tokenizer"
    ) { place in
      let text = String(decoding: try Fixtures.bytes("eye-tracking/words.csv"), as: UTF8.self)
        .replacing("tokens", with: "word")
      var evaluation = WordEvaluation(
        model: Fixtures.path("eye-tracking/model.pth"), table: try place.write(Array(text.utf8), to: "words.csv"))
      evaluation.readingOptions.tokenizer = .directory(Fixtures.path("shakespeare-4x128/tokenizer"))
      _ = try evaluation.run()
    },
  ]

  // MARK: Keys of tasks

  private static func keys(
    _ name: String, _ sentence: String, alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> Measured {
    Measured(name: "keys: " + name, status: 3, sentence: sentence) { place in
      let altered = try AlteredCheckpoint(of: "vision/tasks/model.pth", alter: alter)
      do {
        _ = try TaskSelection(
          model: altered.path, images: [try place.write(sound(), to: "picture.ppm")]
        ).run()
      } catch let refusal as Refusal {
        // The checkpoint lies in a directory of its own.
        throw Renamed(refusal: refusal, path: altered.path)
      }
    }
  }

  /// A refusal of a file whose directory is to be called `in`.
  struct Renamed: Error {
    let refusal: Refusal
    let path: String
  }

  private static let keys: [Measured] = [
    keys(
      "of another width",
      "in/model.safetensors, 'module.wsm.key': expected a row of 24 numbers for each task, found shape [3, 10]"
    ) {
      $0.tensors["module.wsm.key"] = .init([Double](repeating: 1, count: 30), shape: [3, 10])
    },
    keys("fewer weights than keys", "in/model.safetensors, 'wsm.att': expected 3 rows, as wsm.key has") {
      $0.tensors["module.wsm.att"] = .init([Double](repeating: 1, count: 48), shape: [2, 24])
    },
  ]
}
