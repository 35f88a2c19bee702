import Foundation

/// Which files make the checkpoint that a path means, and of what form they are.
package struct CheckpointLocation: Sendable {
  package enum Form: Sendable {
    case safetensors, safetensorsIndex, pytorch, pytorchIndex, gguf
  }

  /// The file to open: perhaps compressed (`.zst`), perhaps an index of others.
  package let path: String
  /// Where `config.json` and the tokenizer lie.
  package let directory: String
  /// What the user should know about the choice.
  package private(set) var warnings: [String] = []
  private let isCompressed: Bool

  package var configurationPath: String { directory + "/config.json" }

  /// - Parameter path: a directory, or one file.
  /// - Throws: `.malformed` where there is nothing, or nothing that could be a checkpoint; `.unsupported` where a
  ///   directory holds more than one.
  package init(path: String) throws(Refusal) {
    var isDirectory: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw Refusal(.malformed, file: path, "there is no such file or directory", advice: "check the path")
    }
    if isDirectory.boolValue {
      directory = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
      let (name, others) = try Self.choice(in: directory)
      self.path = directory + "/" + name
      if let other = others.first {
        warnings.append("\(directory): reading \(name), not \(other); name a file to read that one")
      }
    } else {
      self.path = path
      directory = path.contains("/") ? String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) : "."
    }
    isCompressed = self.path.hasSuffix(".zst")
  }

  /// Names under which a directory holds its one checkpoint; the first group that is there counts, as it does for
  /// transformers. Two of one group contradict each other.
  private static let knownNames: [[String]] = [
    ["model.safetensors", "model.safetensors.index.json"], ["pytorch_model.bin", "pytorch_model.bin.index.json"],
    ["ckpt.pt"], ["model.gguf"],
  ]

  private static func choice(in directory: String) throws(Refusal) -> (name: String, others: [String]) {
    func existing(_ names: [String]) -> [String] {
      names.flatMap { [$0, $0 + ".zst"] }.filter { FileManager.default.fileExists(atPath: directory + "/" + $0) }
    }
    var groups = knownNames.map(existing).filter { !$0.isEmpty }
    if groups.isEmpty {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
      let files = names.filter { $0.hasSuffix(".gguf") || $0.hasSuffix(".gguf.zst") }.sorted()
      // The first part of a split model stands for all of it.
      let wholes = files.filter { !$0.contains("-of-") || $0.contains("-00001-of-") }
      if !wholes.isEmpty { groups = [wholes] }
    }
    guard let first = groups.first else {
      throw Refusal(
        .malformed, file: directory, "holds no checkpoint",
        advice: "expected \(knownNames.joined().joined(separator: ", ")), or one .gguf file")
    }
    guard first.count == 1 else {
      throw Refusal(
        .unsupported, file: directory, "holds \(first.joined(separator: " and "))",
        advice: "name the file that counts: \(directory)/\(first[0])")
    }
    return (first[0], groups.dropFirst().flatMap { $0 })
  }

  /// Opens the checkpoint; a compressed one is expanded first.
  ///
  /// - Parameter temporaryDirectory: where expanded bytes are kept; nil for the system's.
  /// - Throws: what the readers throw.
  package func open(temporaryDirectory: String? = nil) throws(Refusal) -> Checkpoint {
    let name = isCompressed ? String(path.dropLast(4)) : path
    if name.hasSuffix(".index.json") {
      return name.hasSuffix(".bin.index.json")
        ? try Checkpoint(pytorchIndex: path) : try Checkpoint(safetensorsIndex: path)
    }
    if !isCompressed {
      let file = try MappedFile(path: path)
      return switch try Self.form(of: file, name: name) {
      case .gguf: try Checkpoint(gguf: path)
      case .pytorch: try Checkpoint(pytorch: file, temporaryDirectory: temporaryDirectory)
      case .safetensors: try Checkpoint(safetensors: file)
      case .safetensorsIndex, .pytorchIndex: preconditionFailure("an index is told by its name")
      }
    }
    let expanded = try ZstdFile(decompressing: path, temporaryDirectory: temporaryDirectory)
    return switch try Self.form(of: expanded.content, name: name) {
    case .gguf: try Checkpoint(gguf: expanded.content)
    case .pytorch: try Checkpoint(pytorch: expanded.content, temporaryDirectory: temporaryDirectory)
    case .safetensors: try Checkpoint(safetensors: expanded.content)
    case .safetensorsIndex, .pytorchIndex: preconditionFailure("an index is told by its name")
    }
  }

  /// By the first bytes, which lie less often than names; by the name where they say nothing.
  private static func form(of file: MappedFile, name: String) throws(Refusal) -> Form {
    let start: [UInt8] = try file.parse { (bytes) throws(Refusal) in
      (0..<min(9, bytes.byteCount)).map { unsafe bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }
    if start.starts(with: Array("GGUF".utf8)) { return .gguf }
    if start.starts(with: [0x50, 0x4B, 0x03, 0x04]) { return .pytorch }
    if name.hasSuffix(".gguf") { return .gguf }
    if [".bin", ".pt", ".pth", ".ckpt"].contains(where: { name.hasSuffix($0) }) { return .pytorch }
    if name.hasSuffix(".safetensors") || start.last == UInt8(ascii: "{") { return .safetensors }
    throw Refusal(
      .unsupported, file: file.path, "is of no known form",
      advice: "known are safetensors, GGUF and PyTorch archives, each also compressed by zstd (.zst)")
  }
}
