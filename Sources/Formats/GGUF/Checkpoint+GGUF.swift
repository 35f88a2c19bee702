extension Checkpoint {
  /// Opens a GGUF file; where it is the first of several shards, the others are found beside it (``GGUFSplit``).
  ///
  /// - Throws: `.malformed`, `.unsupported` with the first rule that a file breaks; `.usage` for a shard that is not
  ///   the first.
  package init(gguf path: String) throws(Refusal) { try self.init(gguf: try MappedFile(path: path)) }

  /// Opens a model whose first file is already mapped, perhaps expanded by ``ZstdFile``.
  package init(gguf first: MappedFile) throws(Refusal) {
    let path = first.path
    let header = try GGUFHeader(of: first)
    var files = [first]
    var headers = [header]
    var warnings = header.warnings
    if let split = try GGUFSplit(of: header, at: path) {
      for shardPath in try split.otherPaths() {
        let file = try MappedFile(path: shardPath)
        let shard = try GGUFHeader(of: file)
        warnings += shard.warnings
        warnings += try split.check(shard, at: shardPath, number: files.count)
        files.append(file)
        headers.append(shard)
      }
      try split.checkTensorCount(headers.reduce(0) { $0 + $1.entries.count })
    }
    var tensors: [Tensor] = []
    tensors.reserveCapacity(headers.reduce(0) { $0 + $1.entries.count })
    for (file, header) in zip(files, headers) {
      tensors += header.entries.map { Tensor(info: $0.info, file: file, byteOffset: $0.byteOffset) }
    }
    var metadata: [String: MetadataValue] = [:]
    metadata.reserveCapacity(header.metadata.count)
    for (key, value) in header.metadata { metadata[key] = MetadataValue(value) }
    try self.init(
      path: path, container: .gguf, files: files, tensors: tensors, metadata: metadata, warnings: warnings)
  }
}
