import FoundationEssentials

/// The directory of one model in the cache of huggingface_hub:
///
///     models--org--name/refs/main              the commit that was downloaded last for this name, 40 hexadecimal digits
///     models--org--name/snapshots/COMMIT/…     links to the files of that commit
///     models--org--name/blobs/…                the files, by their hashes
package enum HubCache {
  /// More than any commit has, in bytes.
  static let maximumReferenceByteCount = 128

  /// The directory in which huggingface_hub keeps what it downloads, by the environment variables that it obeys (its
  /// constants.py); nil where none of them is set, HOME included.
  static var root: String? {
    let variables = ProcessInfo.processInfo.environment
    func value(_ name: String) -> String? {
      guard let value = variables[name], !value.isEmpty else { return nil }
      guard value.hasPrefix("~/"), let home = variables["HOME"] else { return value }
      return home + value.dropFirst()
    }
    return value("HF_HUB_CACHE") ?? value("HUGGINGFACE_HUB_CACHE") ?? value("HF_HOME").map { $0 + "/hub" }
      ?? value("XDG_CACHE_HOME").map { $0 + "/huggingface/hub" } ?? value("HOME").map { $0 + "/.cache/huggingface/hub" }
  }

  /// A model on the Hub: `openai-community/gpt2`, `gpt2`, `gpt2@v1.0`.
  struct Identifier {
    let name: String
    let revision: String?

    /// - Returns: nil for what can only be a path.
    init?(_ text: String) {
      let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
      let parts = halves[0].split(separator: "/", omittingEmptySubsequences: false)
      let isName =
        parts.count <= 2
        && parts.allSatisfy { part in
          part.utf8.count <= 96 && part.utf8.allSatisfy { Self.characters.contains($0) }
            && part.first.map { $0 != "." && $0 != "-" } == true && !part.contains("..") && !part.contains("--")
        }
      let ends = [".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".json", ".onnx", ".zst"]
      guard isName, !ends.contains(where: halves[0].hasSuffix), halves.count == 1 || !halves[1].isEmpty else {
        return nil
      }
      name = String(halves[0])
      revision = halves.count == 1 ? nil : String(halves[1])
    }

    /// The model that a page of the Hub shows, `https://huggingface.co/openai-community/gpt2`, or `hf://gpt2`.
    init?(address: String) {
      let starts = ["https://huggingface.co/", "http://huggingface.co/", "https://hf.co/", "hf://"]
      guard let start = starts.first(where: address.hasPrefix) else { return nil }
      let parts = address.dropFirst(start.count).split(separator: "/")
      // What follows is of a file: `resolve/main/config.json`.
      let name = parts.prefix { !["tree", "resolve", "blob"].contains($0) }.prefix(2).joined(separator: "/")
      self.init(name)
    }

    private static let characters = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-".utf8)

    /// The command that fetches the model, for messages.
    var download: String { "'hf download \(name)'" + (revision.map { " with the revision '\($0)'" } ?? "") }
  }

  /// The directory of a model that is no path, in the cache of this user.
  ///
  /// - Returns: nil where the cache does not have it.
  /// - Throws: as ``snapshot(in:)``; `.malformed` where the cache has the model, and not the revision.
  static func snapshot(of model: Identifier) throws(Refusal) -> (path: String, warning: String)? {
    guard let root else { return nil }
    let directory = root + "/models--" + model.name.split(separator: "/").joined(separator: "--")
    guard Directory.exists(at: directory) else { return nil }
    guard let revision = model.revision else {
      guard let (path, _) = try snapshot(in: directory) else { return nil }
      return (path, "\(model.name): reading \(path) of the Hub's cache")
    }
    let snapshots = Directory.subdirectories(of: directory + "/snapshots")
    let reference = directory + "/refs/" + revision
    let isName = !revision.split(separator: "/").contains("..") && FileManager.default.fileExists(atPath: reference)
    let commit = isName ? try commit(at: reference) : revision
    let matching = commit.utf8.count < 7 ? [] : snapshots.filter { $0.hasPrefix(commit) }
    guard matching.count == 1 else {
      throw Refusal(
        .malformed, file: directory, "holds no snapshot of '\(revision)'",
        advice: "run \(model.download)" + (snapshots.isEmpty ? "" : ", or name one of \(snapshots.listed())"))
    }
    let path = directory + "/snapshots/" + matching[0]
    return (path, "\(model.name): reading \(path) of the Hub's cache")
  }

  /// The directory of a model's files in the cache, for an id that is no path.
  ///
  /// - Returns: nil for what is a path, and for what the cache does not have.
  /// - Throws: `.malformed`, `.unsupported` where the cache is damaged.
  package static func directory(ofModel text: String) throws(Refusal) -> String? {
    guard !FileManager.default.fileExists(atPath: text), let model = Identifier(text) else { return nil }
    return try snapshot(of: model)?.path
  }

  /// Returns the name of the model in a directory: its id where the directory is a snapshot of the Hub, else the last
  /// part of the path.
  package static func name(ofModelIn directory: String) -> String {
    let parts = URL(filePath: directory).standardizedFileURL.path.split(separator: "/").map(String.init)
    if let place = parts.lastIndex(of: "snapshots"), place > 0, place + 2 == parts.count,
      parts[place - 1].hasPrefix("models--")
    {
      return parts[place - 1].dropFirst("models--".count).split(separator: "--", maxSplits: 1).joined(separator: "/")
    }
    return parts.last ?? directory
  }

  /// The snapshot that the directory stands for, and what the user should know about the choice.
  ///
  /// - Returns: nil where the directory has no snapshots.
  /// - Throws: `.malformed` where the reference is damaged or leads to nothing; `.unsupported` where no snapshot is
  ///   named and there are several.
  static func snapshot(in directory: String) throws(Refusal) -> (path: String, warning: String)? {
    let root = directory + "/snapshots"
    guard Directory.exists(at: root) else { return nil }
    // A link would lead to weights that are not the cache's own.
    let snapshots = Directory.subdirectories(of: root)
    let reference = directory + "/refs/main"
    if FileManager.default.fileExists(atPath: reference) {
      let commit = try commit(at: reference)
      guard snapshots.contains(commit) else {
        let others = snapshots.isEmpty ? "" : ", or give \(snapshots.map { root + "/" + $0 }.listed("or"))"
        throw Refusal(
          .malformed, file: reference, "names the snapshot \(commit), which is not there",
          advice: "download the model again\(others)")
      }
      return (root + "/" + commit, "\(directory): reading the snapshot \(commit), which refs/main names")
    }
    guard let first = snapshots.first else { return nil }
    guard snapshots.count == 1 else {
      throw Refusal(
        .unsupported, file: directory, "holds \(snapshots.count) snapshots and no refs/main that names one",
        advice: "give the one that is meant: \(snapshots.map { root + "/" + $0 }.listed("or"))")
    }
    return (root + "/" + first, "\(directory): reading the snapshot \(first), the only one")
  }

  private static func commit(at path: String) throws(Refusal) -> String {
    let file = try MappedFile(path: path)
    let text = try file.parse { (bytes) throws(Refusal) -> String? in
      bytes.byteCount <= maximumReferenceByteCount ? bytes.text(in: 0..<bytes.byteCount) : nil
    }
    let commit = text?.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard let commit, !commit.isEmpty, commit.utf8.allSatisfy({ Self.digits.contains($0) }) else {
      throw Refusal(
        .malformed, file: path,
        "expected a commit in hexadecimal digits, found \(commit.map { "'\($0)'" } ?? file.byteCount.bytes)",
        advice: "download the model again")
    }
    return commit
  }

  private static let digits = Set("0123456789abcdef".utf8)
}
