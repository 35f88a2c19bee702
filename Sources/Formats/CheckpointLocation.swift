import FoundationEssentials

/// The files that make the checkpoint that a path means, and the form of these files.
package struct CheckpointLocation: Sendable {
  package enum Form: Sendable {
    case safetensors, safetensorsIndex, pytorch, pytorchIndex, gguf
  }

  /// The file to open: perhaps compressed (`.zst`), perhaps an index of others.
  package let path: String
  /// The directory in which `config.json` and the tokenizer lie.
  package let directory: String
  /// Messages about the choice of the files that the user should know.
  package private(set) var warnings: [String] = []
  private let isCompressed: Bool

  package var configurationPath: String { directory + "/config.json" }

  package var hasConfiguration: Bool { FileManager.default.fileExists(atPath: configurationPath) }

  /// - Parameter path: a directory, one file, one shard beside the others, or the directory of a model in the cache of
  ///   huggingface_hub.
  /// - Throws: `.malformed` where there is nothing, or nothing that could be a checkpoint; `.unsupported` where a
  ///   directory holds more than one.
  package init(path: String) throws(Refusal) {
    var isDirectory = false
    if !FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) {
      let model = HubCache.Identifier(path)
      if path.contains("://") {
        let named = HubCache.Identifier(address: path).map { "run \($0.download), and give its name" }
        throw Refusal(
          .malformed, file: path, "is an address, and nothing is downloaded here",
          advice: Message(named ?? "download it, and give the file or the directory"))
      }
      guard let model, let snapshot = try HubCache.snapshot(of: model) else {
        throw Refusal(
          .malformed, file: path, "there is no such file or directory",
          advice: model.map { "check the path, or run \($0.download) if it is a model of the Hub" }
            ?? "check the path")
      }
      directory = snapshot.path
      warnings.append(snapshot.warning)
      self.path = directory + "/" + (try Self.choice(in: directory).name)
    } else if isDirectory {
      let given = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
      if Self.checkpointFiles(in: given).isEmpty, let snapshot = try HubCache.snapshot(in: given) {
        directory = snapshot.path
        warnings.append(snapshot.warning)
      } else {
        directory = given
      }
      let (name, others) = try Self.choice(in: directory)
      self.path = directory + "/" + name
      if let other = others.first {
        warnings.append("\(directory): reading \(name), not \(other); name a file to read that one")
      }
    } else {
      directory = path.contains("/") ? String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) : "."
      try Self.refuseMetaPart(at: path, directory: directory)
      let whole = try Self.whole(besideShardAt: path)
      self.path = whole?.path ?? path
      if let whole { warnings.append(whole.warning) }
    }
    isCompressed = self.path.hasSuffix(".zst")
  }

  /// Finds the model that a shard is a part of, where the rest of the model lies beside the shard: a shard alone makes
  /// no network.
  ///
  /// - Returns: the file to open, and what the user should know; nil for what is no shard, for a shard without the rest
  ///   beside it, and for the first shard of a GGUF model, which is opened as it is.
  private static func whole(besideShardAt path: String) throws(Refusal) -> (path: String, warning: String)? {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    guard let shard = ShardName(name) else { return nil }
    let directory = String(path.dropLast(name.count))
    if shard.suffix == ".gguf" {
      let first = directory + shard.firstName
      guard shard.number > 1, FileManager.default.fileExists(atPath: first),
        let count = GGUFSplit.count(ofShardAt: path, number: shard.number)
      else { return nil }
      return (first, "\(path): is shard \(shard.number) of \(count); reading the model from the first, \(first)")
    }
    let index = directory + shard.indexName
    guard FileManager.default.fileExists(atPath: index) else { return nil }
    guard try ShardIndex.shardNames(inIndexAt: index).contains(name) else {
      return (path, "\(path): is not named in \(index); reading this file alone")
    }
    return (index, "\(path): is one of the shards of \(index); reading all of them")
  }

  /// Opens the checkpoint; a compressed one is expanded first.
  ///
  /// - Parameters:
  ///   - temporaryDirectory: where expanded bytes are kept; nil for the system's.
  ///   - keys: under which a PyTorch archive has the state dict, one inside the other; none to look for it.
  /// - Throws: what the readers throw; `.usage` for keys where the file has none.
  package func open(
    temporaryDirectory: String? = nil, stateDictAt keys: [String] = []
  ) throws(Refusal) -> Checkpoint {
    let name = isCompressed ? String(path.dropLast(4)) : path
    if Self.isIndex(name.split(separator: "/").last.map(String.init) ?? name) {
      if !keys.isEmpty { throw Self.noDicts(in: path, keys) }
      return name.contains(".bin.index.")
        ? try Checkpoint(pytorchIndex: path) : try Checkpoint(safetensorsIndex: path)
    }
    let (file, form) = try content(temporaryDirectory: temporaryDirectory)
    if form != .pytorch, !keys.isEmpty { throw Self.noDicts(in: path, keys) }
    return switch form {
    case .gguf: try Checkpoint(gguf: file)
    case .pytorch: try Checkpoint(pytorch: file, temporaryDirectory: temporaryDirectory, stateDictAt: keys)
    case .safetensors: try Checkpoint(safetensors: file)
    case .safetensorsIndex, .pytorchIndex: preconditionFailure("an index is told by its name")
    }
  }

  /// Returns where a PyTorch archive has dicts of tensors, by their keys, the outermost first; nothing for other files.
  package func stateDicts(temporaryDirectory: String? = nil) throws(Refusal) -> [[String]] {
    let (file, form) = try content(temporaryDirectory: temporaryDirectory)
    return form == .pytorch
      ? try Checkpoint.stateDicts(inPyTorch: file, temporaryDirectory: temporaryDirectory) : []
  }

  private func content(temporaryDirectory: String?) throws(Refusal) -> (file: MappedFile, form: Form) {
    let name = isCompressed ? String(path.dropLast(4)) : path
    let file =
      isCompressed
      ? try ZstdFile(decompressing: path, temporaryDirectory: temporaryDirectory).content : try MappedFile(path: path)
    return (file, try Self.form(of: file, name: name))
  }

  private static func noDicts(in path: String, _ keys: [String]) -> Refusal {
    Refusal(
      .usage, file: path, subject: keys.joined(separator: "."), "only PyTorch archives have dicts inside each other",
      advice: "leave the keys of the state dict out")
  }

  /// By the first bytes, which lie less often than names; by the name where they say nothing.
  private static func form(of file: MappedFile, name: String) throws(Refusal) -> Form {
    let start: [UInt8] = try file.parse { (bytes) throws(Refusal) in
      (0..<min(9, bytes.byteCount)).map { unsafe bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }
    if start.starts(with: Array("GGUF".utf8)) { return .gguf }
    if start.starts(with: [0x50, 0x4B, 0x03, 0x04]) { return .pytorch }
    // No pickle begins so, whatever its file is called.
    if start.count == 9, start[4..<8].allSatisfy({ $0 == 0 }), start.last == UInt8(ascii: "{") { return .safetensors }
    if name.hasSuffix(".gguf") { return .gguf }
    if [".bin", ".pt", ".pth", ".ckpt"].contains(where: { name.hasSuffix($0) }) { return .pytorch }
    if name.hasSuffix(".safetensors") || start.last == UInt8(ascii: "{") { return .safetensors }
    var advice: Message = "known are safetensors, GGUF and PyTorch archives, each also compressed by zstd (.zst)"
    if name.hasSuffix(".onnx") { advice = "a graph is no source: give the checkpoint that it was exported from" }
    if name.hasSuffix(".json") { advice = "give the tensors, or the directory in which this file lies beside them" }
    throw Refusal(.unsupported, file: file.path, "is of no known form", advice: advice)
  }
}
