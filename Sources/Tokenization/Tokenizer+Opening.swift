import NormFoldFormats

extension Tokenizer {
  /// - Parameter path: `tokenizer.json`, a directory that holds it or the files of one kind, one of these files, a GGUF
  ///   file, or any checkpoint that brings a tokenizer.
  /// - Throws: `.malformed` for damaged files, and where there is no tokenizer; `.unsupported` for one of a kind that is not
  ///   known.
  package init(opening path: String) throws(Refusal) {
    if path.hasSuffix(".json"), !Directory.exists(at: path) {
      try self.init(tokenizerJSON: path)
    } else if let vocabulary = try Vocabulary(fileAt: path) {
      try self.init(vocabulary)
    } else if let tokenizer = try Self(directory: path) {
      self = tokenizer
    } else if let location = try? CheckpointLocation(path: path), let tokenizer = try Self(beside: location) {
      self = tokenizer
    } else {
      throw Refusal(
        .malformed, file: path, FileIdentity(ofItemAt: path) == nil ? "there is no such file" : "holds no tokenizer",
        advice: "expected tokenizer.json, tokenizer.model, or vocab.json and merges.txt, or a GGUF file that has one")
    }
  }

  /// The tokenizer that a checkpoint brings: the keys of a GGUF file, or files beside it; nil where there is none.
  ///
  /// - Parameter path: a directory, or one file.
  /// - Throws: as ``init(opening:)``, and where there is no checkpoint.
  package init?(besideCheckpointAt path: String) throws(Refusal) {
    try self.init(beside: CheckpointLocation(path: path))
  }

  private init?(beside location: CheckpointLocation) throws(Refusal) {
    if location.path.hasSuffix(".gguf") || location.path.hasSuffix(".gguf.zst") {
      let checkpoint = try location.open()
      if let tokenizer = try Self(gguf: checkpoint.files[0], path: checkpoint.path) {
        self = tokenizer
        return
      }
    }
    guard let tokenizer = try Self(directory: location.directory, besideFileAt: location.path) else { return nil }
    self = tokenizer
  }

  private init(tokenizerJSON path: String) throws(Refusal) {
    var vocabulary = try Vocabulary(tokenizerJSON: path)
    vocabulary.completeSpecialTokens(from: nil)
    try self.init(vocabulary)
  }

  private init?(directory: String, besideFileAt checkpoint: String? = nil) throws(Refusal) {
    guard var vocabulary = try Vocabulary(directory: directory, besideFileAt: checkpoint) else { return nil }
    vocabulary.completeSpecialTokens(from: try JSONFile(ifPresentAt: directory + "/config.json")?.value)
    try self.init(vocabulary)
  }

  /// - Returns: nil where the file says nothing of a tokenizer.
  private init?(gguf file: MappedFile, path: String) throws(Refusal) {
    let header = try GGUFHeader(of: file)
    guard let model = header.value("tokenizer.ggml.model"), model != .string("none") else { return nil }
    guard let vocabulary = try Vocabulary(gguf: header, path: path) else { throw Self.otherKind(of: header, path) }
    try self.init(vocabulary)
  }

  private static func otherKind(of header: GGUFHeader, _ path: String) -> Refusal {
    let (model, splitting) = (header.value("tokenizer.ggml.model"), header.value("tokenizer.ggml.pre"))
    func name(_ value: GGUFValue?) -> String { if case .string(let text) = value { "'\(text)'" } else { "none" } }
    let isKnown = Vocabulary.kinds.contains { model == .string($0.ggufName) }
    guard !isKnown || model == .string(ByteLevelKind.ggufName) && ByteLevelKind.splitting(splitting) == nil else {
      return Refusal(
        .malformed, file: path, subject: "tokenizer.ggml.model",
        "is \(name(model)), and its tokens, or what belongs to them (merges or scores), are missing or of another type",
        advice: "name a directory that holds the tokenizer's files")
    }
    let others = Vocabulary.kinds.filter { $0 != ByteLevelKind.self }.map { "'\($0.ggufName)'" }
    return Refusal(
      .unsupported, file: path, subject: "tokenizer.ggml.model",
      "expected \(others.joined(separator: ", ")), or 'gpt2' with the pre-tokenizer \(ByteLevelKind.ggufSplittings), found "
        + "\(name(model)) with \(name(splitting))",
      advice: "name a tokenizer of such a kind")
  }
}
