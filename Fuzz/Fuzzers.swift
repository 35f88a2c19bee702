import Foundation
import Glibc
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldTargets
import NormFoldTokenization
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
      ].map { "pytorch/\($0).pt" },
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
        _ = try ZstdFile(decompressing: $0, maximumByteCount: 16 << 20, temporaryDirectory: "/dev/shm")
      }),
    "config": Fuzzer(
      fileName: "config.json",
      seeds: ["lnfree", "vanilla", "fakeln"].map { "tiny-2x32/\($0)/config.json" } + ["found/capp-gpt/config.json"],
      companions: ["tiny-2x32/lnfree/model.safetensors"], run: .file { _ = try Model(opening: $0.directory) }),
    "deviations": Fuzzer(
      fileName: "std_dicts.json",
      seeds: ["published-scales/gpt2_std_dicts.json", "tiny-2x32/nanogpt/std_dicts.json"],
      companions: ["tiny-2x32/vanilla/model.safetensors", "tiny-2x32/vanilla/config.json"],
      run: .file {
        var options = ReadingOptions()
        options.deviations = $0.path
        _ = try Model(opening: $0.directory, options: options)
      }),
    "layout": Fuzzer(
      fileName: "layout.json", seeds: ["per-head", "flat", "rotary"].map { "layouts/\($0).json" },
      companions: ["layouts/per-head.pt", "layouts/flat.pt", "layouts/rotary.pt"],
      run: .file { place in
        var options = ReadingOptions()
        options.layout = place.path
        // Each file is the layout of one of them at most.
        var refusal: Refusal?
        for name in ["per-head", "flat", "rotary"] {
          do throws(Refusal) {
            _ = try Model(opening: "\(place.directory)/\(name).pt", options: options)
            return
          } catch {
            refusal = error
          }
        }
        if let refusal { throw refusal }
      }),
    "draft": Fuzzer(
      fileName: "model.safetensors", seeds: ["layouts/fused.safetensors", "safetensors/names.safetensors"],
      run: .file { place in
        // Whatever the names and shapes, a draft is JSON that the reader of layouts answers.
        let text = try LayoutDraft(of: place.path).text
        let path = place.directory + "/draft.json"
        try Data(text.utf8).write(to: URL(filePath: path))
        var options = ReadingOptions()
        options.layout = path
        _ = try Model(opening: place.path, options: options)
      }),
    "tokenizer": Fuzzer(
      fileName: "tokenizer.json",
      seeds: ["seeds/tokenizer/whole.json", "shakespeare-4x128/tokenizer/tokenizer.json"],
      companions: ["tiny-2x32/lnfree/model.safetensors", "tiny-2x32/lnfree/config.json"],
      run: .file { try useTokenizer(in: $0) }),
    "metaspace": Fuzzer(
      fileName: "tokenizer.json", seeds: ["seeds/tokenizer/metaspace.json"],
      run: .file { try useTokenizer(Tokenizer(opening: $0.path)) }),
    "sentencepiece": Fuzzer(
      fileName: "tokenizer.model", seeds: ["tokenizer/sentencepiece/llama.model", "seeds/tokenizer/map.model"],
      run: .file { try useTokenizer(Tokenizer(opening: $0.path)) }),
    "wordpiece": Fuzzer(
      fileName: "tokenizer.json", seeds: ["found/paraphrase-minilm-l3/tokenizer.json"],
      run: .file { try useTokenizer(Tokenizer(opening: $0.path)) }),
    "words": Fuzzer(
      fileName: "vocab.txt", seeds: ["found/paraphrase-minilm-l3/vocab.txt"],
      run: .file { try useTokenizer(Tokenizer(opening: $0.path)) }),
    "vocabulary": Fuzzer(
      fileName: "vocab.json", seeds: ["seeds/tokenizer/vocab.json"],
      companions: ["tiny-2x32/lnfree/model.safetensors", "tiny-2x32/lnfree/config.json", "seeds/tokenizer/merges.txt"],
      run: .file { try useTokenizer(in: $0) }),
    "merges": Fuzzer(
      fileName: "merges.txt", seeds: ["seeds/tokenizer/merges.txt"],
      companions: ["tiny-2x32/lnfree/model.safetensors", "tiny-2x32/lnfree/config.json", "seeds/tokenizer/vocab.json"],
      run: .file { try useTokenizer(in: $0) }),
    "text": Fuzzer(
      fileName: "text", seeds: ["README.md", "shakespeare-4x128/tokenizer/merges.txt"], run: .file { try tokenize($0) }),
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
      fileName: ONNXWriter.modelName, seeds: ["seeds/onnx/tiny.onnx"], zeros: (ONNXWriter.dataName, 288_768),
      run: .file { _ = try ONNXGraph(reading: $0.directory) }),
    // A graph of another program is computed, too: nodes in any order on values of any shape.
    "export": Fuzzer(
      fileName: ONNXWriter.modelName,
      seeds: ["exports/gpt2/optimum-cache.onnx", "exports/llama/torch-dynamo.onnx", "exports/bert/torch-script.onnx"],
      run: .file { place in
        let program = try ImportedProgram(
          ONNXGraph(importing: place.path), like: try exportedNetwork.get(), file: place.path)
        let probe = Probe(name: "tokens", tokens: [5, 3, 8])
        let rows = program.rowCount(of: probe)
        _ = try program.run(probe, products: program.products.map { [Double](repeating: 0.5, count: rows * $0.width) })
      }),
  ]

  private static let exportedNetwork = Result { try Model(opening: Fixtures.path("exports/gpt2")).network }

  /// What every user of a checkpoint does with it: all numbers, all checksums.
  private static func use(_ checkpoint: Checkpoint) throws {
    try checkpoint.checkIntegrity()
    for tensor in checkpoint.tensors where tensor.info.type.isDecodable && tensor.info.elementCount < 1 << 20 {
      _ = tensor.decoded(as: Float.self)
    }
  }

  /// The target that looks into a tokenizer.
  private static func useTokenizer(in place: InputPlace) throws {
    let model = try Model(opening: place.directory)
    let (target, source) = (LlamaCppTarget(), try TargetSource(model))
    let options = FoldingPlan.Options(keptNorms: target.keptNorms(of: source, options: TargetOptions()))
    let folded = try FoldingPlan(folding: model.network, options: options).folded
    _ = try target.output(of: folded, from: source, options: TargetOptions())
    let tokenizer = try Tokenizer(opening: place.directory)
    let text = "It's  1605;\n\n o'er naïve 東京 🙂<|endoftext|> the  end"
    // Not always the text: a token may take the white space beside it.
    _ = try tokenizer.decode(tokenizer.encode(text))
  }

  /// What a tokenizer makes of a text it makes of the text in pieces, too.
  private static func useTokenizer(_ tokenizer: Tokenizer) throws {
    let text = "It's  1605;\n\n o'er naïve 東京 🙂</s> the  end\u{A0} ｆｕｌｌ ▁▁x <user>ab".replacing("|", with: "\u{0}")
    let tokens = tokenizer.encode(text)
    _ = try tokenizer.decode(tokens)
    let path = "/dev/shm/normfold-fuzz-text-\(getpid())"
    try Data(text.utf8).write(to: URL(filePath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    var pieces: [Int] = []
    try tokenizer.encodeFile(at: path, windowByteCount: 16) { pieces += $0 }
    precondition(pieces == tokens)
  }

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
