/// The index of a sharded checkpoint (`model.safetensors.index.json`, `pytorch_model.bin.index.json`):
///
///     {"metadata": {"total_size": 175616}, "weight_map": {"wte.weight": "model-00001-of-00003.safetensors", …}}
///
/// Its file names come from strangers: each must be a plain name with the expected suffix, and what it leads to,
/// links followed, must lie in the index's own directory. (Transformers follows `../`, absolute paths and links;
/// huggingface_hub's loader refuses the first two.) The cache of huggingface_hub is the one exception: there the
/// index itself is a link too, and the shards may lead to where it leads.
///
///     snapshots/REVISION/model.safetensors.index.json     → ../../blobs/3b1c…
///     snapshots/REVISION/model-00001-of-00002.safetensors → ../../blobs/9f20…
struct ShardIndex {
  struct Shard {
    let name: String
    let path: String
  }

  static let maximumByteCount = 10 << 20

  let path: String
  /// In the order of their names.
  let shards: [Shard]
  private(set) var warnings: [String] = []
  private let shardByTensor: [String: String]
  private let totalByteCount: Int?

  /// - Throws: `.malformed` where the index breaks a rule above or a shard is missing.
  init(path: String, suffix: String) throws(Refusal) {
    self.path = path
    let json = try Self.parse(path)
    totalByteCount = json["metadata"]?["total_size"]?.count
    let byTensor = try Self.shardsByTensor(in: json, path: path)
    shardByTensor = byTensor
    let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
    let homes = HomeDirectories(ofFileAt: path)
    var shards: [Shard] = []
    for name in Set(byTensor.values).sorted() {
      try Self.checkName(name, suffix: suffix, index: path)
      let shardPath = directory + name
      guard let isAtHome = homes.contain(fileAt: shardPath) else {
        throw Refusal(
          .malformed, file: path, subject: name, "this shard is missing",
          advice: "download it into the directory of the index")
      }
      guard isAtHome else {
        throw Refusal(
          .malformed, file: path, subject: name, "this shard is a link that leaves the directory",
          advice: "copy the file itself there")
      }
      shards.append(Shard(name: name, path: shardPath))
    }
    self.shards = shards
  }

  /// The names of all shards, wherever they lead.
  static func shardNames(inIndexAt path: String) throws(Refusal) -> Set<String> {
    Set(try shardsByTensor(in: parse(path), path: path).values)
  }

  private static func parse(_ path: String) throws(Refusal) -> JSONValue {
    let file = try MappedFile(path: path)
    guard file.byteCount <= maximumByteCount else {
      throw Refusal(.malformed, file: path, "an index has at most \(maximumByteCount) bytes, found \(file.byteCount)")
    }
    return try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
  }

  private static func shardsByTensor(in json: JSONValue, path: String) throws(Refusal) -> [String: String] {
    guard let map = json["weight_map"]?.members else {
      throw Refusal(
        .malformed, file: path, subject: "weight_map",
        "expected an object of file names, found \(json["weight_map"]?.kind ?? "nothing")")
    }
    guard !map.isEmpty else { throw Refusal(.malformed, file: path, subject: "weight_map", "names no tensor") }
    var byTensor: [String: String] = [:]
    for member in map {
      guard let name = member.value.string else {
        throw Refusal(
          .malformed, file: path, at: member.byteOffset, subject: member.key,
          "expected a file name, found \(member.value.kind)")
      }
      byTensor[member.key] = name
    }
    return byTensor
  }

  private static func checkName(_ name: String, suffix: String, index: String) throws(Refusal) {
    let isPlain =
      !name.isEmpty && !name.contains("/") && !name.contains("\\") && !name.contains(":") && !name.utf8.contains(0)
      && !name.hasPrefix("..")
    guard isPlain, name.hasSuffix(suffix) else {
      throw Refusal(
        .malformed, file: index, subject: name, "a shard must be a plain file name that ends in '\(suffix)'",
        advice: "an index may not lead out of its directory")
    }
  }

  /// Holds the index against what the shards really contain: every tensor in exactly the shard that the index names.
  /// - Returns: warnings, one of them for names that no shard holds.
  /// - Throws: `.malformed` for a tensor in another shard than the index says, or in the shards only.
  func check(_ tensors: [Tensor]) throws(Refusal) -> [String] {
    var seen: Set<String> = []
    for tensor in tensors {
      guard let expected = shardByTensor[tensor.name] else {
        throw Refusal(
          .malformed, file: tensor.file.path, subject: tensor.name, "this tensor is not in \(path)",
          advice: "the index and the shards are of different checkpoints; download them again")
      }
      let found = tensor.file.path.split(separator: "/").last.map(String.init) ?? ""
      guard expected == found else {
        throw Refusal(
          .malformed, file: path, subject: tensor.name, "expected in \(expected), found in \(found)",
          advice: "the index and the shards are of different checkpoints; download them again")
      }
      seen.insert(tensor.name)
    }
    var warnings: [String] = []
    // Some writers name a tied head that they leave out. Whether a network can do without it is not known here.
    let missing = shardByTensor.keys.filter { !seen.contains($0) }.sorted()
    if !missing.isEmpty {
      let names = missing.map { String($0.prefix(80)) }.listed()
      warnings.append(
        "\(path): names \(missing.count) tensor\(missing.count == 1 ? "" : "s") that no shard holds: \(names)")
    }
    let byteCount = tensors.reduce(0) { $0 + $1.info.byteCount }
    // Some writers count the bytes that tied tensors share once, others for each name.
    var starts: [ObjectIdentifier: Set<Int>] = [:]
    let unshared = tensors.filter { starts[ObjectIdentifier($0.file), default: []].insert($0.byteOffset).inserted }
    let unsharedByteCount = unshared.reduce(0) { $0 + $1.info.byteCount }
    guard let totalByteCount, totalByteCount != byteCount, totalByteCount != unsharedByteCount else { return warnings }
    return warnings + ["\(path): total_size says \(totalByteCount) bytes, the shards hold \(byteCount)"]
  }
}
