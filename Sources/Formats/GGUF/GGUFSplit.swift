/// A model split over several GGUF files:
///
///     llama-00001-of-00003.gguf   metadata, split.no 0, split.count 3, split.tensors.count 291, tensors
///     llama-00002-of-00003.gguf             split.no 1, split.count 3, split.tensors.count 291, tensors
///     llama-00003-of-00003.gguf             split.no 2, …
///
/// Names count from 1, `split.no` from 0. The first shard may hold metadata only. The rules are those of llama.cpp's
/// loader, which is given the first shard and derives the other names.
struct GGUFSplit {
  let count: Int
  private let path: String
  /// The start that the paths of all shards have in common.
  private let prefix: String
  private let tensorCount: Int

  /// Reads what the first shard says of the others; nil for a file that is a whole model.
  ///
  /// - Throws: `.usage` for a shard that is not the first; `.malformed` where the keys or the name contradict that.
  init?(of header: GGUFHeader, at path: String) throws(Refusal) {
    // A file merged from shards keeps a count of 0.
    let count = header.value("split.count")?.integer ?? 0
    let number = header.value("split.no")?.integer ?? 0
    guard count > 1 else {
      guard number == 0 else {
        throw Refusal(
          .malformed, file: path, subject: "split.no", "expected 0 in a model of one file, found \(number)",
          advice: "download all shards again")
      }
      return nil
    }
    let suffix = Self.suffix(number, of: count)
    guard path.hasSuffix(suffix) else {
      throw Refusal(
        .malformed, file: path, subject: "split.no",
        "is shard \(number + 1) of \(count), so its name should end in '\(suffix)'",
        advice: "give all shards their original names, in one directory")
    }
    prefix = String(path.dropLast(suffix.count))
    guard number == 0 else {
      throw Refusal(
        .usage, file: path, "is shard \(number + 1) of \(count)",
        advice: "open the first one, '\(prefix + Self.suffix(0, of: count))'")
    }
    guard let tensorCount = header.value("split.tensors.count")?.integer else {
      throw Refusal(
        .malformed, file: path, subject: "split.tensors.count", "expected in the first of \(count) shards, found none",
        advice: "split the model again with llama-gguf-split")
    }
    self.count = count
    self.path = path
    self.tensorCount = tensorCount
  }

  /// - Parameter number: from 1.
  /// - Returns: how many shards a file says that there are; nil where it does not say that it is the one of this number.
  static func count(ofShardAt path: String, number: Int) -> Int? {
    guard let file = try? MappedFile(path: path), let header = try? GGUFHeader(of: file),
      header.value("split.no")?.integer == number - 1, let count = header.value("split.count")?.integer, count >= number
    else { return nil }
    return count
  }

  /// The paths of all shards but the first.
  /// - Throws: `.malformed`, naming the shards that are missing.
  func otherPaths() throws(Refusal) -> [String] {
    let paths = (1..<count).map { prefix + Self.suffix($0, of: count) }
    let missing = paths.filter { FileIdentity(ofItemAt: $0) == nil }
    guard missing.isEmpty else {
      let listed = missing.prefix(3).map { "'\($0)'" }.joined(separator: ", ") + (missing.count > 3 ? ", …" : "")
      throw Refusal(
        .malformed, file: path, "\(missing.count) of \(count) shards are missing: \(listed)",
        advice: "download them into the directory of the first one")
    }
    return paths
  }

  /// Holds a later shard against the first one; returns warnings.
  /// - Parameter number: of the shard, from 0, by its name.
  /// - Throws: `.malformed` where the shard is not the one that its name says.
  func check(_ shard: GGUFHeader, at shardPath: String, number: Int) throws(Refusal) -> [String] {
    for (key, expected, isRequired) in [
      ("split.no", number, true), ("split.count", count, false), ("split.tensors.count", tensorCount, false),
    ] {
      let found = shard.value(key)?.integer
      guard found == expected || (found == nil && !isRequired) else {
        throw Refusal(
          .malformed, file: shardPath, subject: key,
          "expected \(expected), as the first shard has it, found \(found.map(String.init) ?? "none")",
          advice: "download all shards of one model again")
      }
    }
    let ignored = shard.metadata.map(\.key).filter {
      !$0.hasPrefix("split.") && !["general.alignment", "general.architecture"].contains($0)
    }
    guard let first = ignored.first else { return [] }
    let others = ignored.count > 1 ? " and \(ignored.count - 1) more" : ""
    return ["\(shardPath): metadata counts in the first shard only; ignored here: '\(first)'\(others)"]
  }

  /// - Throws: `.malformed` where the shards together do not hold as many tensors as the first one says.
  func checkTensorCount(_ found: Int) throws(Refusal) {
    guard found == tensorCount else {
      throw Refusal(
        .malformed, file: path, subject: "split.tensors.count",
        "expected \(tensorCount) tensors in \(count) shards, found \(found)",
        advice: "download all shards of one model again")
    }
  }

  /// `-00001-of-00003.gguf` for shard 0 of 3.
  private static func suffix(_ number: Int, of count: Int) -> String {
    "-\(fiveDigits(number + 1))-of-\(fiveDigits(count)).gguf"
  }

  private static func fiveDigits(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(5 - digits.count, 0)) + digits
  }
}
