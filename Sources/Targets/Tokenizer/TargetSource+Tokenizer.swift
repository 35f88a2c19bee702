import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

extension TargetSource {
  /// The header of the GGUF file that the tokenizer is in: the one that the user names, or the source; nil where it is in none.
  ///
  /// - Throws: what reading the header throws.
  func tokenizerHeader() throws(Refusal) -> (header: GGUFHeader, path: String)? {
    switch tokenizer {
    case .absent: return nil
    case .directory(let path):
      return path.hasSuffix(".gguf") ? (try GGUFHeader(of: MappedFile(path: path)), path) : nil
    case .ofCheckpoint: return ggufHeader.map { ($0, checkpointPath) }
    }
  }

  /// The tokenizer that the user names, or the one that the checkpoint brings; nil where there is none.
  ///
  /// - Throws: `.usage` where a directory that was named holds none; what reading throws.
  func vocabulary() throws(Refusal) -> Vocabulary? {
    var vocabulary: Vocabulary?
    switch self.tokenizer {
    case .absent: return nil
    case .directory(let directory):
      if let named = try tokenizerHeader() {
        guard let own = try Vocabulary(gguf: named.header, path: named.path) else {
          throw Self.otherKind(of: named.header, path: named.path)
        }
        return own
      }
      vocabulary = try Self.vocabulary(in: directory)
      guard vocabulary != nil else { throw Self.noTokenizer(in: directory) }
    case .ofCheckpoint:
      if let ggufHeader, let own = try Vocabulary(gguf: ggufHeader, path: checkpointPath) { return own }
      vocabulary = try Self.vocabulary(in: directory, besideFileAt: checkpointPath)
    }
    vocabulary?.completeSpecialTokens(from: configuration)
    return vocabulary
  }

  private static func vocabulary(
    in directory: String, besideFileAt checkpoint: String? = nil
  ) throws(Refusal) -> Vocabulary? {
    do throws(Refusal) {
      return try Vocabulary(directory: directory, besideFileAt: checkpoint)
    } catch {
      var refusal = error
      if refusal.category == .unsupported { refusal.advice = "pass \(.tokenizer, "absent") to write token ids only" }
      throw refusal
    }
  }

  /// Files that belong to the tokenizer and to generation, for runtimes that read them as Hugging Face lays them out:
  /// copies, or made from the keys of a GGUF source.
  package func tokenizerFiles() throws(Refusal) -> [(name: String, bytes: [UInt8])] {
    if let image = network.image { return try imageProcessorFiles(for: image) }
    let generation = "generation_config.json"
    switch tokenizer {
    case .absent: return try copies(of: [generation], in: directory)
    case .directory(let other):
      if let named = try tokenizerHeader() {
        guard let own = try Vocabulary(gguf: named.header, path: named.path) else {
          throw Self.otherKind(of: named.header, path: named.path)
        }
        return try own.files + copies(of: [generation], in: directory)
      }
      let files = try copies(of: Vocabulary.fileNames, in: other)
      guard files.contains(where: { $0.name != Vocabulary.chatTemplateName }) else {
        throw Self.noTokenizer(in: other)
      }
      return try files + settings(for: files) + copies(of: [generation], in: directory)
    case .ofCheckpoint:
      if let ggufHeader, let own = try Vocabulary(gguf: ggufHeader, path: checkpointPath) {
        return own.files
      }
      let files = try copies(of: Vocabulary.fileNames, in: directory)
      return try files + settings(for: files) + copies(of: [generation], in: directory)
    }
  }

  /// Returns copies of the files that sentence-transformers keeps beside an encoder that it makes vectors of texts
  /// with. Modules with weights of their own are not carried, which a note says.
  ///
  /// - Throws: `.malformed` for damaged files.
  func sentenceEncoderFiles() throws(Refusal) -> (files: [(name: String, bytes: [UInt8])], notes: [Message]) {
    do throws(Refusal) {
      guard let pooling = try Pooling(besideCheckpointIn: directory) else { return ([], []) }
      let names = ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"]
      return (try copies(of: names + [pooling.configurationName], in: directory), [])
    } catch {
      guard error.category == .unsupported else { throw error }
      return ([], ["what sentence-transformers keeps beside the encoder is left out: \(error.description)"])
    }
  }

  /// `tokenizer_config.json` where the source has none: transformers 4 does not find the tokenizer of a class of its own without it,
  /// nor does onnxruntime-genai.
  private func settings(
    for files: [(name: String, bytes: [UInt8])]
  ) -> [(name: String, bytes: [UInt8])] {
    guard needsSettings(files) else { return [] }
    // A tokenizer of another kind is carried unread, and so is a damaged one, of which a note speaks.
    return (try? vocabulary())?.settingsFile(beside: files.map(\.name)).map { [$0] } ?? []
  }

  /// Returns whether a library would look for `tokenizer_config.json` among the files in vain.
  private func needsSettings(_ files: [(name: String, bytes: [UInt8])]) -> Bool {
    let names = files.map(\.name)
    return network.task == .generation && !names.contains(Vocabulary.settingsName)
      && (names.contains("tokenizer.json") || names.contains("vocab.json"))
  }

  /// Returns the file that says how pictures become pixels: a copy of the one beside the source, or one that is made of
  /// what timm's config says.
  private func imageProcessorFiles(for image: ImageGrid) throws(Refusal) -> [(name: String, bytes: [UInt8])] {
    let name = "preprocessor_config.json"
    let own = try copies(of: [name], in: directory)
    guard own.isEmpty else { return own }
    let made = configuration?["pretrained_cfg"]
    let (mean, deviation) = (made?["mean"], made?["std"])
    // What was trained on numbers from 0 to 1 has no normalisation.
    guard made != nil || hyperparameters.own["task_norms"] != nil else { return [] }
    var members: [(String, JSONValue)] = [
      ("do_normalize", .bool(mean != nil)), ("do_rescale", .bool(true)), ("do_resize", .bool(true)),
      ("image_processor_type", .string("ViTImageProcessor")),
      ("resample", .number(made?["interpolation"]?.string == "bilinear" ? 2 : 3)),
      ("rescale_factor", .number(1.0 / 255)),
      (
        "size",
        .object([.init(key: "height", value: .number(image.height)), .init(key: "width", value: .number(image.width))])
      ),
    ]
    if let mean, let deviation { members += [("image_mean", mean), ("image_std", deviation)] }
    let json = JSONValue.object(members.map { .init(key: $0, value: $1) })
    return [(name, Array(json.text.utf8))]
  }

  /// Returns what is missing where a GGUF source has a tokenizer that ``tokenizerFiles()`` cannot write, or where files are of
  /// a tokenizer that is not known.
  func notes(onTokenizerFiles files: [(name: String, bytes: [UInt8])]) -> [Message] {
    if needsSettings(files) {
      return [
        "\(Vocabulary.settingsName), which some libraries ask for, is neither beside the tokenizer nor was it made: the tokenizer "
          + "is damaged, or of a kind that is not known"
      ]
    }
    guard tokenizer == .ofCheckpoint, files.isEmpty, let ggufHeader,
      case .string(let kind)? = ggufHeader.value("tokenizer.ggml.model"), kind != "none"
    else { return [] }
    return [
      "the source's tokenizer (\(kind)) is carried over to GGUF only: no tokenizer files were written; \(.tokenizer) names a "
        + "directory that holds them"
    ]
  }

  private static func otherKind(of header: GGUFHeader, path: String) -> Refusal {
    var kind = "none"
    if case .string(let name)? = header.value("tokenizer.ggml.model") { kind = "'\(name)'" }
    return Refusal(
      .unsupported, file: path, subject: "tokenizer.ggml.model",
      "expected a tokenizer of a kind that is known, found \(kind), which is carried over to GGUF only",
      advice: "name a directory that holds the tokenizer's files with \(.tokenizer), or pass \(.tokenizer, "absent")")
  }

  private static func noTokenizer(in directory: String) -> Refusal {
    Refusal(
      .usage, file: directory, "holds neither tokenizer.json nor tokenizer.model nor vocab.json and merges.txt",
      advice: "name the directory of the tokenizer with \(.tokenizer), or pass \(.tokenizer, "absent")")
  }

  /// Why there is no vocabulary where the user did not name one, and what to do about it, for notes.
  var reasonForNoTokenizer: Message {
    let other: Message = "\(.tokenizer) names a directory that holds one"
    if tokenizer == .absent { return "none was to be written (\(.tokenizer, "absent"))" }
    return "there is none beside the source; \(other)"
  }

  /// The largest tokenizers in use take a tenth of it.
  private static let maximumCarriedByteCount = 256 << 20

  private func copies(of names: [String], in directory: String) throws(Refusal) -> [(name: String, bytes: [UInt8])] {
    var files: [(String, [UInt8])] = []
    for name in names {
      let path = "\(directory)/\(name)"
      // What the user named is at home where it lies; what lies beside a checkpoint must not lead elsewhere.
      let homes = HomeDirectories(ofFileAt: directory == self.directory ? checkpointPath : path)
      let folder = name.lastIndex(of: "/").map { String(name[..<$0]) } ?? ""
      guard let isAtHome = homes.contain(fileAt: path, orInFolder: folder) else { continue }
      guard isAtHome else {
        throw Refusal(
          .malformed, file: path, "is a link that leaves the directory, and would be copied into the output",
          advice: "copy the file itself there, or remove the link")
      }
      let file = try MappedFile(path: path)
      guard file.byteCount <= Self.maximumCarriedByteCount else {
        throw Refusal(
          .malformed, file: path,
          "a file beside the weights has at most \(Self.maximumCarriedByteCount) bytes, found \(file.byteCount)")
      }
      let bytes = try file.parse { (bytes) throws(Refusal) in
        try Substitute.refuse(bytes, file: path)
        return unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
      }
      files.append((name, bytes))
    }
    return files
  }
}
