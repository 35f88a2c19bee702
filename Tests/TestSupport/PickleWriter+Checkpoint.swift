import NormFoldFormats

extension PickleWriter {
  /// An archive of F32 tensors, as torch.save writes a state dict: each in a storage of its own, in the order of their
  /// names.
  ///
  /// - Parameter key: of the outer dict that holds the state dict; nil for none.
  package static func archive(of tensors: EditableTensors, under key: String? = nil) -> ZipWriter {
    var pairs: [([UInt8], [UInt8])] = []
    var records: [ZipWriter.Record] = []
    for (index, name) in tensors.names.enumerated() {
      let entry = tensors.entry(name)
      precondition(entry.type == .f32, "\(name) is no F32 tensor")
      var strides: [Int] = []
      for extent in entry.shape.reversed() { strides.insert((strides.first ?? 1) * extent, at: 0) }
      strides = Array(strides.dropFirst()) + (entry.shape.isEmpty ? [] : [1])
      let storage = storage(key: "\(index)", count: entry.bytes.count / 4)
      pairs.append((string(name), tensor(entry.shape, strides: strides, storage: storage)))
      records.append(.init("a/data/\(index)", entry.bytes))
    }
    let stateDict = dict(pairs)
    let root = key.map { dict([(string($0), stateDict), (string("epoch"), integer(3))]) } ?? stateDict
    let others: [ZipWriter.Record] = [
      .init("a/data.pkl", program(root)), .init("a/byteorder", Array("little".utf8)),
      .init("a/version", Array("3\n".utf8)),
    ]
    return ZipWriter(records: others + records)
  }
}
