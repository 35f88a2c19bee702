/// Writes a safetensors file, byte for byte as the reference implementation lays it out.
///
///     N (u64, LE) | {"__metadata__":{…},"NAME":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},…} spaces | data
///
/// Types with the widest alignment come first, so that every tensor is aligned to its own element; within a type the
/// names ascend by bytes. Spaces bring the header to a multiple of 8. The reference writes metadata in the order of
/// a hash table with a random seed, so a file with several keys differs from run to run; here the keys ascend too.
extension TensorWriter {
  /// Creates the file and writes its header.
  ///
  /// - Parameter metadata: left out where empty.
  /// - Throws: `.unsupported` where safetensors, or our own reader, would not accept such a file; `.output` where it
  ///   cannot be created.
  package convenience init(safetensors path: String, tensors: [TensorInfo], metadata: [String: String] = [:])
    throws(Refusal)
  {
    try self.init(safetensors: [(path, tensors)], metadata: metadata)
  }

  /// Creates all files of shards in a directory and writes their headers.
  package convenience init(
    safetensors shards: SafetensorsShards, in directory: String, metadata: [String: String]
  ) throws(Refusal) {
    try self.init(safetensors: shards.files.map { (directory + "/" + $0.name, $0.tensors) }, metadata: metadata)
  }

  private convenience init(safetensors files: [(path: String, tensors: [TensorInfo])], metadata: [String: String])
    throws(Refusal)
  {
    var places: [TensorPlace] = []
    var created: [TensorFile] = []
    for (path, tensors) in files {
      let layout = try SafetensorsLayout(of: tensors, metadata: metadata, file: path)
      let byteCount = layout.order.reduce(layout.bytes.count) { $0 + $1.byteCount }
      let file = try TensorFile(creating: path, head: layout.bytes, byteCount: byteCount)
      created.append(file)
      var end = layout.bytes.count
      for info in layout.order {
        places.append(TensorPlace(info: info, file: file, byteOffset: end))
        end += info.byteCount
      }
    }
    self.init(places, in: created)
  }
}

/// The order of the tensors and the header, decided before anything is written.
struct SafetensorsLayout {
  let order: [TensorInfo]
  /// The length, the JSON and its padding: everything before the data.
  let bytes: [UInt8]

  /// - Throws: `.unsupported`.
  init(of tensors: [TensorInfo], metadata: [String: String], file: String) throws(Refusal) {
    var ranked: [(info: TensorInfo, rank: Int, byteCount: Int)] = []
    ranked.reserveCapacity(tensors.count)
    var names: Set<String> = []
    for info in tensors {
      let (rank, byteCount) = try Self.check(info, file: file)
      guard names.insert(info.name).inserted else {
        throw Refusal(.unsupported, file: file, subject: info.name, "two tensors have this name")
      }
      ranked.append((info, rank, byteCount))
    }
    ranked.sort {
      $0.rank != $1.rank ? $0.rank > $1.rank : $0.info.name.utf8.lexicographicallyPrecedes($1.info.name.utf8)
    }
    order = ranked.map(\.info)

    // Known to be too large before it is built: text that someone else chose may be any size.
    try Self.checkHeader(metadata.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }, file: file)
    var json: [UInt8] = [UInt8](repeating: 0, count: 8)
    json.append(UInt8(ascii: "{"))
    if !metadata.isEmpty {
      json.append(contentsOf: "\"__metadata__\":{".utf8)
      let pairs = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      for (position, pair) in pairs.enumerated() {
        if position > 0 { json.append(UInt8(ascii: ",")) }
        json.append(jsonString: pair.key)
        json.append(UInt8(ascii: ":"))
        json.append(jsonString: pair.value)
      }
      json.append(UInt8(ascii: "}"))
    }
    var end = 0
    for (position, (info, _, byteCount)) in ranked.enumerated() {
      let (next, overflow) = end.addingReportingOverflow(byteCount)
      guard !overflow else {
        throw Refusal(.unsupported, file: file, subject: info.name, "the tensors together overflow any file")
      }
      if position > 0 || !metadata.isEmpty { json.append(UInt8(ascii: ",")) }
      json.append(jsonString: info.name)
      let shape = info.shape.map(String.init).joined(separator: ",")
      json.append(
        contentsOf: ":{\"dtype\":\"\(info.type.displayName)\",\"shape\":[\(shape)],\"data_offsets\":[\(end),\(next)]}"
          .utf8)
      end = next
    }
    json.append(UInt8(ascii: "}"))
    while json.count % 8 != 0 { json.append(UInt8(ascii: " ")) }
    let byteCount = json.count - 8
    try Self.checkHeader(byteCount, file: file)
    for index in 0..<8 { json[index] = UInt8(truncatingIfNeeded: byteCount >> (8 * index)) }
    bytes = json
  }

  private static func checkHeader(_ byteCount: Int, file: String) throws(Refusal) {
    guard byteCount <= SafetensorsHeader.maximumHeaderByteCount else {
      throw Refusal(
        .unsupported, file: file,
        "the header needs \(byteCount) bytes or more, expected at most \(SafetensorsHeader.maximumHeaderByteCount)",
        advice: "write less metadata or fewer tensors")
    }
  }

  /// Checks that our reader would accept a tensor: what it would refuse is not written.
  private static func check(_ info: TensorInfo, file: String) throws(Refusal) -> (rank: Int, byteCount: Int) {
    func refusal(_ problem: String, advice: Message = "") -> Refusal {
      Refusal(.unsupported, file: file, subject: String(info.name.prefix(80)), problem, advice: advice)
    }
    if let problem = SafetensorsHeader.problem(ofName: info.name) {
      throw refusal(problem, advice: "rename the tensor")
    }
    guard info.name != "__metadata__" else {
      throw refusal("this name is kept for the metadata", advice: "rename the tensor")
    }
    guard let rank = info.type.safetensorsRank else {
      throw refusal(
        "safetensors has no element type \(info.type.displayName)", advice: "write it as F32, F16 or BF16, or to GGUF")
    }
    guard info.shape.count <= SafetensorsHeader.maximumRank else {
      throw refusal("shape: expected at most \(SafetensorsHeader.maximumRank) axes, found \(info.shape.count)")
    }
    let type = info.type.displayName
    guard let count = TensorInfo.checkedElementCount(info.shape),
      !count.multipliedReportingOverflow(by: info.type.bitsPerBlock).overflow
    else { throw refusal("shape: the size of \(type) \(info.shape) overflows") }
    guard let byteCount = info.type.byteCount(ofElements: count) else {
      throw refusal("shape: \(type) \(info.shape) does not end on a whole byte")
    }
    return (rank, byteCount)
  }
}
