extension Checkpoint {
  /// Opens one archive of torch.save.
  ///
  /// The state dict is the archive's dict, or the one that it holds under `model` or `state_dict`. Plain values beside
  /// it become metadata (`model_args.n_layer`); an optimizer's state is skipped unread. Two names for one storage, as
  /// for tied weights, are two tensors over the same bytes.
  /// - Throws: as for ``init(pytorch:temporaryDirectory:)``.
  package init(pytorch path: String) throws(Refusal) {
    try self.init(pytorch: try MappedFile(path: path))
  }

  /// Reads one archive that is already mapped, perhaps expanded by ``ZstdFile``.
  ///
  /// - Parameters:
  ///   - temporaryDirectory: where deflated records are expanded to; nil for the system's.
  ///   - keys: under which the state dict lies, one inside the other; none to look for it.
  /// - Throws: `.malformed` or `.unsupported` with the first rule that the archive breaks.
  package init(
    pytorch file: MappedFile, temporaryDirectory: String? = nil, stateDictAt keys: [String] = []
  ) throws(Refusal) {
    let contents = try StateDict(of: try PyTorchArchive(of: file, temporaryDirectory: temporaryDirectory), at: keys)
    try self.init(
      path: file.path, container: .pytorch, files: [file] + contents.expandedFiles, tensors: contents.tensors,
      metadata: contents.metadata, warnings: contents.warnings, integrityChecks: contents.integrityChecks)
  }

  /// Returns where an archive has dicts of tensors, by their keys, the outermost first.
  package static func stateDicts(inPyTorch file: MappedFile, temporaryDirectory: String?) throws(Refusal) -> [[String]]
  {
    let archive = try PyTorchArchive(of: file, temporaryDirectory: temporaryDirectory)
    guard case .dictionary(let root) = archive.outcome.root else { return [] }
    return StateDict.places(in: root, of: archive.outcome.heap)
  }

  /// Opens the shards that an index (`pytorch_model.bin.index.json`) names, under the rules of ``ShardIndex``.
  package init(pytorchIndex path: String) throws(Refusal) {
    let index = try ShardIndex(path: path, suffix: ".bin")
    var files: [MappedFile] = []
    var tensors: [Tensor] = []
    var metadata: [String: MetadataValue] = [:]
    var warnings = index.warnings
    var integrityChecks: [IntegrityCheck] = []
    for shard in index.shards {
      let file = try MappedFile(path: shard.path)
      let contents = try StateDict(of: try PyTorchArchive(of: file))
      files += [file] + contents.expandedFiles
      tensors += contents.tensors
      metadata.merge(contents.metadata) { first, _ in first }
      warnings += contents.warnings
      integrityChecks += contents.integrityChecks
    }
    warnings += try index.check(tensors)
    try self.init(
      path: path, container: .pytorch, files: files, tensors: tensors, metadata: metadata, warnings: warnings,
      integrityChecks: integrityChecks)
  }
}
