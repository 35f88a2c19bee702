import Foundation
import Glibc
import NormFold
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldONNX
import NormFoldTokenization
import NormFoldTraining
import TestSupport

extension Fuzzer {
  static let all: [String: Fuzzer] = [
    "safetensors": Fuzzer(
      fileName: "model.safetensors",
      seeds: ["element-types", "names", "odd-sizes", "metadata-only"].map { "safetensors/\($0).safetensors" }
        + ["pytorch/types.safetensors"],
      run: .bytes { try use(Checkpoint(safetensors: $0)) }),
    "index": Fuzzer(
      fileName: "model.safetensors.index.json", seeds: ["tiny-2x32/lnfree-sharded/model.safetensors.index.json"],
      companions: (1...3).map { "tiny-2x32/lnfree-sharded/model-0000\($0)-of-00003.safetensors" },
      run: .file { try use(Checkpoint(safetensorsIndex: $0.path)) }),
    "gguf": Fuzzer(
      fileName: "model.gguf", seeds: ["values", "tensors", "blocks", "split"].map { "seeds/gguf/\($0).gguf" },
      run: .bytes { try use(Checkpoint(gguf: $0)) }),
    "pytorch": Fuzzer(
      fileName: "pytorch_model.bin",
      seeds: [
        "types", "types-deflated", "wrapped", "legacy", "module", "torchscript", "attributes", "deepspeed", "values",
        "tutorial", "no-checksums", "skip-data", "sparse",
      ].map { "pytorch/\($0).pt" }, maximumByteCount: 8_192,
      run: .bytes { try use(Checkpoint(pytorch: $0)) }),
    // Behind a checksum no mutation of an archive reaches the pickle.
    "pickle": Fuzzer(
      fileName: "pytorch_model.bin",
      seeds: ["types", "wrapped", "module", "torchscript", "nanogpt", "attributes", "deepspeed", "values"].map {
        "seeds/pickle/\($0).pkl"
      },
      run: .bytes { file in
        try use(Checkpoint(pytorch: MappedFile(copying: archive(content(of: file)), path: file.path)))
      }),
    "zstd": Fuzzer(
      fileName: "model.safetensors.zst", seeds: ["pytorch/types.safetensors.zst"],
      run: .bytes {
        _ = try ZstdFile(decompressing: $0, maximumByteCount: 1 << 20, temporaryDirectory: "/dev/shm")
      }),
    // Every key of every architecture, whatever the tensors are.
    "configs": Fuzzer(
      fileName: "config.json", seeds: architectureNames.map { $0 + "/config.json" } + smallConfigurations,
      run: .bytes { file in
        let json = try file.parse { (bytes) throws(Refusal) in try JSONValue(parsing: bytes, file: file.path) }
        let type = json["model_type"]?.string
        let named = Architecture.all.filter { $0.modelType == type }
        for architecture in named.isEmpty ? Architecture.all : named {
          var sizes = Hyperparameters(path: file.path)
          // What one of them refuses another may read.
          try? architecture.configuration.read(Fields(json: json, path: file.path), into: &sizes)
        }
      }),
    // What a config says against what the tensors are.
    "config": Fuzzer(
      fileName: "config.json", seeds: smallConfigurations, companions: ["seeds/network/model.safetensors"],
      run: .file { _ = try Model(opening: $0.directory + "/model.safetensors") }),
    "deviations": Fuzzer(
      fileName: "std_dicts.json",
      seeds: ["published-scales/gpt2_std_dicts.json", "tiny-2x32/nanogpt/std_dicts.json"],
      run: .file { place in
        let (file, network) = (try DeviationFile(path: place.path), try smallNetwork.get())
        for (path, _) in network.norms {
          _ = try file.usual(at: path, in: network)
          _ = try file.first(at: path, in: network)
        }
      }),
    "layout": Fuzzer(
      fileName: "layout.json", seeds: layoutNames.map { "layouts/\($0).json" },
      companions: layoutNames.map { "layouts/\($0).pt" },
      run: .file { place in
        // Most inputs are no layout of any network, and need none opened.
        _ = try LayoutFile(path: place.path)
        var options = ReadingOptions()
        options.layout = place.path
        // Each file is the layout of one of them at most.
        for name in layoutNames { _ = try? Model(opening: "\(place.directory)/\(name).pt", options: options) }
      }),
    "draft": Fuzzer(
      fileName: "model.safetensors", seeds: ["seeds/network/model.safetensors", "safetensors/names.safetensors"],
      run: .file { place in
        // Whatever the names and shapes, a draft is JSON that the reader of layouts answers.
        let text = try LayoutDraft(of: place.path).text
        let path = place.directory + "/draft.json"
        try Data(text.utf8).write(to: URL(filePath: path))
        _ = try LayoutFile(path: path)
      }),
    "adapter": Fuzzer(
      fileName: "adapter_config.json",
      seeds: ["bert-norms", "bert-lora", "gpt2-lora", "llama-lora"].map { "adapters/\($0)/adapter_config.json" },
      companions: ["adapters/gpt2-lora/adapter_model.safetensors"],
      run: .file { _ = try Adapter(opening: $0.directory) }),
    "adapter-tensors": Fuzzer(
      fileName: "adapter_model.safetensors",
      seeds: ["bert-norms", "gpt2-lora", "llama-lora"].map { "adapters/\($0)/adapter_model.safetensors" },
      companions: ["adapters/gpt2-lora/adapter_config.json"], run: .file { _ = try Adapter(opening: $0.directory) }),
    // The settings that programs keep in the same pickle as the tensors tell what a network is.
    "settings": Fuzzer(
      fileName: "checkpoint.pt", seeds: ["nanogpt", "fairseq", "module"].map { "seeds/pickle/\($0).pkl" },
      maximumByteCount: 8_192,
      run: .file { place in
        let bytes = archive(content(of: try MappedFile(path: place.path)))
        let path = place.directory + "/model.pt"
        try Data(bytes).write(to: URL(filePath: path))
        _ = try Model(opening: path)
      }),
    "pooling": Fuzzer(
      fileName: "modules.json",
      text: #"""
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
         {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
         {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
        """#,
      run: .file { _ = try Pooling(besideCheckpointIn: $0.directory) }),
    "recipe": Fuzzer(
      fileName: "recipe.json",
      text: #"""
        {"context": 8, "batch": 2, "micro_batches": 1, "steps": 4, "lr": 1e-4, "min_lr": 1e-5, "warmup": 1,
         "betas": [0.9, 0.95], "weight_decay": 0.1, "clip": 1, "momentum": 0.9, "aux_weight": 0.01, "shuffle": 1,
         "abort": {"above": 1.5, "for": 20}, "validation": {"sequences": 16, "every": 20}, "taper": 2,
         "schedule": {"mlp": {"start": 1, "gap": 1}, "final": 3}}
        """#,
      run: .file { _ = try Recipe(file: $0.path) }),
    "map": Fuzzer(
      fileName: "map.json", text: #"{"blocks.#.weight": "h.#.weight", "head.weight": "lm_head.weight"}"#,
      run: .file { _ = try TransferMap(named: $0.path) }),
    "table": Fuzzer(
      fileName: "table.csv", text: "sentence_id,word,length,nFix\n0,The,3,1.5\n0,\"a \"\"b\"\"\",1,2\n1,tokens,6,0\n",
      run: .file { place in
        _ = try? LabelledTexts(file: place.path, names: ["a", "b"])
        _ = try WordTable(file: place.path, featureCount: 1, targetCount: 1)
      }),
    "picture": Fuzzer(
      fileName: "picture.ppm", text: "P6\n# a comment\n2 2\n255\nabcdefghijkl",
      run: .file { _ = try Picture.all(in: $0.path, for: smallImage, nil) }),
    "preprocessor": Fuzzer(
      fileName: "preprocessor_config.json",
      text: #"""
        {"do_normalize": true, "do_rescale": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
         "rescale_factor": 0.00392156862745098, "size": {"height": 2, "width": 2}}
        """#,
      run: .file { place in
        let path = place.directory + "/picture.ppm"
        if FileIdentity(ofItemAt: path) == nil {
          try Data("P6\n2 2\n255\nabcdefghijkl".utf8).write(to: URL(filePath: path))
        }
        _ = try Picture.all(in: path, for: smallImage, Picture.Preprocessor(in: place.directory))
      }),
    "tokenizer": Fuzzer(
      fileName: "tokenizer.json", seeds: ["seeds/tokenizer/whole.json"], run: .file { try useVocabulary(in: $0) }),
    "metaspace": Fuzzer(
      fileName: "tokenizer.json", seeds: ["seeds/tokenizer/metaspace.json"], maximumByteCount: 8_192,
      run: .file { try useVocabulary(in: $0) }),
    "sentencepiece": Fuzzer(
      fileName: "tokenizer.model", seeds: ["seeds/tokenizer/map.model"], run: .file { try useVocabulary(in: $0) }),
    "wordpiece": Fuzzer(
      fileName: "tokenizer.json", seeds: ["seeds/tokenizer/wordpiece.json"], run: .file { try useVocabulary(in: $0) }),
    "words": Fuzzer(
      fileName: "vocab.txt", seeds: ["seeds/tokenizer/words.txt"], run: .file { try useVocabulary(in: $0) }),
    "vocabulary": Fuzzer(
      fileName: "vocab.json", seeds: ["seeds/tokenizer/vocab.json"], companions: ["seeds/tokenizer/merges.txt"],
      run: .file { try useVocabulary(in: $0) }),
    "merges": Fuzzer(
      fileName: "merges.txt", seeds: ["seeds/tokenizer/merges.txt"], companions: ["seeds/tokenizer/vocab.json"],
      run: .file { try useVocabulary(in: $0) }),
    // A vocabulary among the keys of a GGUF file.
    "keys": Fuzzer(
      fileName: "model.gguf", seeds: ["gpt2", "llama", "bert"].map { "seeds/gguf/tokenizer-\($0).gguf" },
      run: .bytes { file in
        guard let vocabulary = try Vocabulary(gguf: GGUFHeader(of: file), path: file.path) else { return }
        try use(vocabulary)
      }),
    "text": Fuzzer(
      fileName: "text", text: "It's  1605;\n\n o'er naïve 東京 🙂<|endoftext|> the  end, and the beginning of the next",
      run: .file { try tokenize($0) }),
    "ids": Fuzzer(
      fileName: "ids", seeds: ["tiny-2x32/tokenizer/vocab.json", "seeds/gguf/values.gguf"],
      run: .bytes { file in
        let bytes = content(of: file)
        for format in TokenFormat.allCases {
          if let tokens = try? format.tokens(in: bytes.span, file: file.path) {
            _ = try? smallTokenizer.decode(tokens)
          }
        }
      }),
    "onnx": Fuzzer(
      fileName: ONNXNames.model, seeds: ["seeds/onnx/tiny.onnx"], zeros: (ONNXNames.data, 288_768),
      maximumByteCount: 12_288, run: .file { _ = try ONNXGraph(reading: $0.directory) }),
    // A graph of another program is searched for a network's numbers and computed: nodes in any order on values of any
    // shape.
    "export": Fuzzer(
      fileName: ONNXNames.model, seeds: ["seeds/onnx/exported.onnx"], maximumByteCount: 8_192,
      run: .file { place in
        let program = try ImportedProgram(
          ONNXGraph(importing: place.path), like: try smallNetwork.get(), file: place.path)
        let probe = Probe(name: "tokens", tokens: [5, 3, 6])
        let rows = program.rowCount(of: probe)
        _ = try program.run(probe, products: program.products.map { [Double](repeating: 0.5, count: rows * $0.width) })
      }),
    "operators": Fuzzer(
      fileName: ONNXNames.model,
      seeds: ["elementwise", "comparisons", "reductions", "shapes", "products", "lookups", "patches"].map {
        "seeds/onnx/\($0).onnx"
      }, maximumByteCount: 1_024,
      run: .file { place in
        let evaluator = try ONNXEvaluator(ONNXGraph(importing: place.path), file: place.path)
        var inputs: [String: ONNXTensor] = [:]
        for input in evaluator.graph.inputs {
          let shape = input.shape.map { if case .fixed(let extent) = $0 { min(max(extent, 0), 4) } else { 2 } }
          let count = shape.prefix(6).reduce(1, *)
          guard shape.count <= 6 else { return }
          inputs[input.name] =
            input.name == "input_ids"
            ? ONNXTensor(shape, (0..<count).map { $0 % 3 })
            : ONNXTensor(shape, (0..<count).map { Double($0) / 4 - 0.5 })
        }
        _ = try evaluator.run(inputs)
      }),
  ]

  private static let smallConfigurations = ["seeds/configs/computed.json", "seeds/configs/fixed.json"]

  /// Fixtures with a `config.json`, one at least of each architecture.
  private static let architectureNames =
    [
      "found/capp-gpt", "llama/random", "eye-tracking", "opt/post-norm", "gpt-neox/parallel", "torchscale/scaled",
      "retnet/xatl", "vision/tasks", "vision/timm",
    ] + ["mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "phi", "olmo2"].map { "decoders/\($0)" }
    + ["bert", "roberta", "distilbert"].map { "exports/\($0)" }

  private static let layoutNames = ["per-head", "flat", "rotary"]

  private static let smallNetwork = Result { try Model(opening: Fixtures.path("seeds/network")).network }

  private static let smallImage: ImageGrid = {
    guard let image = ImageGrid(channels: 3, height: 2, width: 2, patchHeight: 1, patchWidth: 1) else {
      fatalError("a grid of four patches")
    }
    return image
  }()

  /// What every user of a checkpoint does with it: all numbers, all checksums.
  private static func use(_ checkpoint: Checkpoint) throws {
    try checkpoint.checkIntegrity()
    for tensor in checkpoint.tensors where tensor.info.type.isDecodable && tensor.info.elementCount < 1 << 20 {
      _ = tensor.decoded(as: Float.self)
    }
  }

  /// Reads the vocabulary of a directory, and does everything with it.
  private static func useVocabulary(in place: InputPlace) throws {
    guard let vocabulary = try Vocabulary(directory: place.directory) else { return }
    try use(vocabulary)
  }

  /// What targets write of a vocabulary; and what its tokenizer makes of a text it makes of the text in pieces, too.
  private static func use(_ vocabulary: Vocabulary) throws {
    _ = vocabulary.files
    do throws(Refusal) {
      _ = try vocabulary.ggufKeys(vocabularySize: min(1_024, (vocabulary.tokens.keys.max() ?? 0) + 2))
      _ = vocabulary.notes(vocabularySize: 1_024)
    } catch {
      // What llama.cpp cannot do may be a tokenizer here.
      precondition(!error.description.isEmpty)
    }
    let tokenizer = try Tokenizer(vocabulary)
    let tokens = tokenizer.encode(text)
    // Not always the text: a token may take the white space beside it.
    _ = try tokenizer.decode(tokens)
    var pieces: [Int] = []
    try tokenizer.encodeFile(at: textPath, windowByteCount: 16) { pieces += $0 }
    precondition(pieces == tokens)
  }

  private static let text = "It's  1605;\n\n naïve 東京 🙂<|endoftext|></s> the  end\u{A0} ｆｕｌｌ ▁▁x <user>ab"
    .replacing("|>", with: "|>\u{0}")

  /// A file of the text.
  private static let textPath: String = {
    let path = "/dev/shm/normfold-fuzz-text-\(getpid())"
    do { try Data(text.utf8).write(to: URL(filePath: path)) } catch { fatalError("\(error)") }
    atexit { unlink("/dev/shm/normfold-fuzz-text-\(getpid())") }
    return path
  }()

  private static let smallTokenizer: Tokenizer = {
    do {
      return try Tokenizer(opening: Fixtures.path("shakespeare-4x128/tokenizer"))
    } catch {
      fatalError("\(error)")
    }
  }()

  /// Text becomes the same tokens whole and in pieces, or is refused at the same byte, and comes back.
  private static func tokenize(_ place: InputPlace) throws {
    func tokens(windowByteCount: Int) -> (tokens: [Int], refusal: Refusal?) {
      var tokens: [Int] = []
      do throws(Refusal) {
        try smallTokenizer.encodeFile(at: place.path, windowByteCount: windowByteCount) { tokens += $0 }
      } catch {
        return (tokens, error)
      }
      return (tokens, nil)
    }
    let (whole, pieces) = (tokens(windowByteCount: 1 << 20), tokens(windowByteCount: 48))
    precondition(whole.refusal?.description == pieces.refusal?.description)
    if let refusal = whole.refusal { throw refusal }
    precondition(whole.tokens == pieces.tokens)
    let (decoded, text) = (try smallTokenizer.decode(whole.tokens), try content(of: MappedFile(path: place.path)))
    precondition(decoded == text)
  }

  private static func content(of file: MappedFile) -> [UInt8] {
    file.withBytes { bytes in bytes.withUnsafeBytes { [UInt8]($0) } }
  }

  /// An archive as torch.save writes it, with this pickle and some storages.
  private static func archive(_ pickle: [UInt8]) -> [UInt8] {
    let storage = (0..<64).map { UInt8($0) }
    let records = [ZipWriter.Record("a/data.pkl", pickle), .init("a/version", Array("3\n".utf8))]
    return ZipWriter(records: records + (0..<4).map { .init("a/data/\($0)", storage) }).archive
  }
}
