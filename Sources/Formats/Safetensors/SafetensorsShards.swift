/// The safetensors files that tensors are cut into, with the names that Hugging Face libraries give them and with an
/// index beside them.
package struct SafetensorsShards: Sendable {
  /// The files, each with its tensors.
  package let files: [(name: String, tensors: [TensorInfo])]

  /// Cuts tensors in their order; a shard ends before the tensor that would make it larger than the maximum. A tensor that is
  /// larger has a shard of its own.
  ///
  /// - Parameter name: of the single file, where one is enough: `model.safetensors`.
  package init(of tensors: [TensorInfo], maximumByteCount: Int, name: String) {
    var shards: [[TensorInfo]] = [[]]
    var byteCount = 0
    for info in tensors {
      if byteCount > 0, byteCount + info.byteCount > maximumByteCount {
        shards.append([])
        byteCount = 0
      }
      shards[shards.count - 1].append(info)
      byteCount += info.byteCount
    }
    guard shards.count > 1 else {
      files = [(name, tensors)]
      return
    }
    let stem = name.hasSuffix(".safetensors") ? String(name.dropLast(".safetensors".count)) : name
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    files = shards.enumerated().map { index, tensors in
      ("\(stem)-\(padded(index + 1))-of-\(padded(shards.count)).safetensors", tensors)
    }
  }

  /// `model.safetensors.index.json`: which file holds which tensor, names ascending by bytes.
  package var index: JSONValue {
    let total = files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.byteCount } }
    let places = files.flatMap { file in file.tensors.map { (name: $0.name, file: file.name) } }
      .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    return .object([
      "metadata": .object(["total_size": .number(total)]),
      "weight_map": .object(places.map { JSONValue.Member(key: $0.name, value: .string($0.file)) }),
    ])
  }
}
