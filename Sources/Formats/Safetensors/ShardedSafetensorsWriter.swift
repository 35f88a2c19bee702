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

/// Writes safetensors files one after the other.
package final class ShardedSafetensorsWriter: TensorWriter {
  private let writers: [SafetensorsWriter]
  private var current = 0
  /// The number of bytes that the current file still lacks.
  private var missingByteCount: Int

  package var order: [TensorInfo] { writers.flatMap(\.order) }

  /// Creates all files in a directory and writes their headers.
  ///
  /// - Throws: what ``SafetensorsWriter`` throws.
  package init(
    creating shards: SafetensorsShards, in directory: String, metadata: [String: String]
  ) throws(Refusal) {
    var writers: [SafetensorsWriter] = []
    for file in shards.files {
      writers.append(
        try SafetensorsWriter(creating: directory + "/" + file.name, tensors: file.tensors, metadata: metadata))
    }
    self.writers = writers
    missingByteCount = writers[0].byteCount
    skipComplete()
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    guard bytes.count > 0 else { return }
    precondition(bytes.count <= missingByteCount, "more bytes than the current file has")
    try unsafe writers[current].append(bytes)
    missingByteCount -= bytes.count
    skipComplete()
  }

  package func amend(_ text: String, by other: String) throws(Refusal) {
    for writer in writers { try writer.amend(text, by: other) }
  }

  package func finish() throws(Refusal) {
    for writer in writers { try writer.finish() }
  }

  private func skipComplete() {
    while missingByteCount == 0, current + 1 < writers.count {
      current += 1
      missingByteCount = writers[current].byteCount
    }
  }
}

extension SafetensorsWriter {
  /// The number of bytes of all tensors.
  fileprivate var byteCount: Int { order.reduce(0) { $0 + $1.byteCount } }
}
