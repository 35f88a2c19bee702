import FoundationEssentials

/// The directory of one model in the cache of huggingface_hub:
///
///     models--org--name/refs/main              the commit that was downloaded last for this name, 40 hexadecimal digits
///     models--org--name/snapshots/COMMIT/…     links to the files of that commit
///     models--org--name/blobs/…                the files, by their hashes
enum HubCache {
  /// More than any commit has, in bytes.
  static let maximumReferenceByteCount = 128

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
