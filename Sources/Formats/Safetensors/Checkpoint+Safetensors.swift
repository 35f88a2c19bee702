extension Checkpoint {
  /// Opens one safetensors file.
  package init(safetensors path: String) throws(Refusal) {
    try self.init(safetensors: try MappedFile(path: path))
  }

  /// Reads one safetensors file that is already mapped, perhaps expanded by ``ZstdFile``.
  package init(safetensors file: MappedFile) throws(Refusal) {
    let header = try SafetensorsHeader(of: file)
    try self.init(
      path: file.path, container: .safetensors, files: [file],
      tensors: header.entries.map { Tensor(info: $0.info, file: file, byteOffset: $0.byteOffset) },
      metadata: header.metadata, warnings: header.warnings)
  }

  /// Opens the shards that an index (`model.safetensors.index.json`) names, under the rules of ``ShardIndex``.
  package init(safetensorsIndex path: String) throws(Refusal) {
    let index = try ShardIndex(path: path, suffix: ".safetensors")
    var files: [MappedFile] = []
    var tensors: [Tensor] = []
    var metadata: [String: MetadataValue] = [:]
    var warnings = index.warnings
    for shard in index.shards {
      let file = try MappedFile(path: shard.path)
      let header = try SafetensorsHeader(of: file)
      files.append(file)
      tensors += header.entries.map { Tensor(info: $0.info, file: file, byteOffset: $0.byteOffset) }
      metadata.merge(header.metadata) { first, _ in first }
      warnings += header.warnings
    }
    warnings += try index.check(tensors)
    try self.init(
      path: path, container: .safetensors, files: files, tensors: tensors, metadata: metadata, warnings: warnings)
  }
}
