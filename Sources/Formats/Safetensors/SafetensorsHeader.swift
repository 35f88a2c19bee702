/// The header of a safetensors file.
///
///     byte 0         8                8 + N                        end of file
///     +-------------+-----------------+----------------------------+
///     | N (u64, LE) | N bytes of JSON | tensor bytes, no gaps      |
///     +-------------+-----------------+----------------------------+
///
///     {"__metadata__": {"format": "pt"},
///      "wte.weight": {"dtype": "F32", "shape": [512, 32], "data_offsets": [0, 65536]}, …}
///
/// Offsets count from the end of the header. The tensors, sorted by offset, tile the rest of the file exactly, so
/// that no byte can mean two things or nothing. The reference reader is huggingface/safetensors,
/// `safetensors/src/tensor.rs`; this one refuses a superset of what that one refuses.
struct SafetensorsHeader {
  struct Entry {
    var info: TensorInfo
    /// From the start of the file.
    var byteOffset: Int
  }

  /// In the order of the header.
  private(set) var entries: [Entry] = []
  private(set) var metadata: [String: MetadataValue] = [:]
  var warnings: [String] {
    guard let (tensor, field) = firstForeignField else { return [] }
    let others = foreignFieldCount > 1 ? ", as are \(foreignFieldCount - 1) others" : ""
    return ["\(file), '\(tensor)': the field '\(field)' is not part of the format and is ignored\(others)"]
  }

  static let maximumHeaderByteCount = 100_000_000
  static let maximumRank = 8
  static let maximumNameByteCount = 1_024

  private var firstForeignField: (tensor: String, field: String)?
  private var foreignFieldCount = 0
  private let file: String
  private let bytes: Int

  /// - Throws: `.malformed` with the first rule that the file breaks.
  init(of mapped: MappedFile) throws(Refusal) {
    file = mapped.path
    bytes = mapped.byteCount
    let headerEnd: Int = try mapped.parse { (span) throws(Refusal) in
      try Substitute.refuse(span, file: mapped.path)
      guard span.byteCount >= 8 else {
        throw Refusal(
          .malformed, file: mapped.path,
          "a safetensors file starts with 8 bytes of header length, found \(span.byteCount)",
          advice: "download the file again; it is incomplete")
      }
      let length = UInt64(littleEndian: unsafe span.unsafeLoadUnaligned(as: UInt64.self))
      guard length <= Self.maximumHeaderByteCount else {
        throw Refusal(
          .malformed, file: mapped.path, at: 0,
          "header length: expected at most \(Self.maximumHeaderByteCount), found \(length)",
          advice: "this is not a safetensors file, or its start is damaged")
      }
      guard Int(length) <= span.byteCount - 8 else {
        throw Refusal(
          .malformed, file: mapped.path, at: 8, "header: expected \(length) bytes, found \(span.byteCount - 8)",
          advice: "download the file again; it is incomplete")
      }
      return 8 + Int(length)
    }
    let json = try mapped.parse { (span) throws(Refusal) in
      try JSONValue(parsing: span.extracting(8..<headerEnd), file: mapped.path, baseOffset: 8)
    }
    guard let members = json.members else {
      throw Refusal(.malformed, file: file, at: 8, "header: expected a JSON object, found \(json.kind)")
    }
    entries.reserveCapacity(members.count)
    for member in members {
      if member.key == "__metadata__" {
        try readMetadata(member)
      } else {
        entries.append(try readEntry(member, dataStart: headerEnd))
      }
    }
    try checkCoverage(from: headerEnd)
  }

  private mutating func readMetadata(_ member: JSONValue.Member) throws(Refusal) {
    if member.value.isNull { return }
    guard let pairs = member.value.members else {
      throw Refusal(
        .malformed, file: file, at: member.byteOffset, subject: member.key,
        "expected an object of strings, found \(member.value.kind)")
    }
    for pair in pairs {
      guard let value = pair.value.string else {
        throw Refusal(
          .malformed, file: file, at: pair.byteOffset, subject: "__metadata__.\(pair.key)",
          "expected a string, found \(pair.value.kind)")
      }
      metadata[pair.key] = .string(value)
    }
  }

  private mutating func readEntry(_ member: JSONValue.Member, dataStart: Int) throws(Refusal) -> Entry {
    func refusal(_ problem: String, category: Refusal.Category = .malformed, advice: Message = "") -> Refusal {
      Refusal(category, file: file, at: member.byteOffset, subject: member.key, problem, advice: advice)
    }
    if let problem = Self.problem(ofName: member.key) {
      throw Refusal(
        .malformed, file: file, at: member.byteOffset, subject: String(member.key.prefix(80)), problem,
        advice: "rename the tensor and write the file again")
    }
    guard let fields = member.value.members else {
      throw refusal("expected an object with dtype, shape and data_offsets, found \(member.value.kind)")
    }
    for field in fields where field.key != "dtype" && field.key != "shape" && field.key != "data_offsets" {
      if firstForeignField == nil { firstForeignField = (member.key, field.key) }
      foreignFieldCount += 1
    }
    guard let typeName = member.value["dtype"]?.string else {
      throw refusal("dtype: expected a string, found \(member.value["dtype"]?.kind ?? "nothing")")
    }
    guard let type = ElementType(safetensorsName: typeName) else {
      let known = ElementType.safetensorsOrder.map(\.displayName).joined(separator: " ")
      throw refusal(
        "dtype: '\(typeName)' is not an element type of safetensors", category: .unsupported,
        advice: "known are \(known)")
    }
    let shape = try readCounts("shape", of: member)
    guard shape.count <= Self.maximumRank else {
      throw refusal("shape: expected at most \(Self.maximumRank) axes, found \(shape.count)")
    }
    let offsets = try readCounts("data_offsets", of: member)
    guard offsets.count == 2 else { throw refusal("data_offsets: expected 2 numbers, found \(offsets.count)") }
    guard let count = TensorInfo.checkedElementCount(shape), type.elementsPerBlock > 0,
      !count.multipliedReportingOverflow(by: type.bitsPerBlock).overflow
    else { throw refusal("shape: the size of \(typeName) \(shape) overflows") }
    guard let byteCount = type.byteCount(ofElements: count) else {
      throw refusal("shape: \(typeName) \(shape) does not end on a whole byte")
    }
    guard offsets[0] <= offsets[1] else {
      throw refusal("data_offsets: the end \(offsets[1]) lies before the start \(offsets[0])")
    }
    guard offsets[1] - offsets[0] == byteCount else {
      throw refusal(
        "data_offsets: expected \(byteCount.bytes) for \(typeName) \(shape), found \(offsets[1] - offsets[0])")
    }
    let (byteOffset, overflow) = dataStart.addingReportingOverflow(offsets[0])
    guard !overflow else { throw refusal("data_offsets: \(offsets[0]) is beyond any file") }
    return Entry(info: TensorInfo(name: member.key, type: type, shape: shape), byteOffset: byteOffset)
  }

  /// Returns what is wrong with a tensor's name, or nil. The reference implementation accepts any string.
  static func problem(ofName name: String) -> String? {
    if name.isEmpty {
      "a tensor has an empty name"
    } else if name.utf8.contains(0) {
      "the tensor's name holds a NUL"
    } else if name.utf8.count > maximumNameByteCount {
      "the tensor's name has \(name.utf8.count) bytes, expected at most \(maximumNameByteCount)"
    } else {
      nil
    }
  }

  private func readCounts(_ field: String, of member: JSONValue.Member) throws(Refusal) -> [Int] {
    guard let values = member.value[field]?.array else {
      throw Refusal(
        .malformed, file: file, at: member.byteOffset, subject: member.key,
        "\(field): expected an array of whole numbers, found \(member.value[field]?.kind ?? "nothing")")
    }
    var counts: [Int] = []
    counts.reserveCapacity(values.count)
    for value in values {
      guard let count = value.count else {
        throw Refusal(
          .malformed, file: file, at: member.byteOffset, subject: member.key,
          "\(field): expected whole numbers below 2^63, found \(value.kind)")
      }
      counts.append(count)
    }
    return counts
  }

  /// The tensors tile the data exactly: this one loop proves that every byte range lies inside the file, that no
  /// two overlap, and that nothing is hidden between or behind them.
  private func checkCoverage(from dataStart: Int) throws(Refusal) {
    let sorted = entries.sorted { ($0.byteOffset, $0.info.byteCount) < ($1.byteOffset, $1.info.byteCount) }
    var end = dataStart
    var previous: String?
    for entry in sorted {
      // Nothing starts before the data, so whatever overlaps comes after another tensor.
      guard entry.byteOffset >= end else {
        throw Refusal(
          .malformed, file: file, at: entry.byteOffset, subject: entry.info.name,
          "expected to start at data offset \(end - dataStart), where '\(previous ?? "")' ends, "
            + "found \(entry.byteOffset - dataStart)",
          advice: "each byte may belong to one tensor only; write the file again")
      }
      guard entry.byteOffset == end else {
        throw Refusal(
          .malformed, file: file, at: end, subject: entry.info.name,
          "\((entry.byteOffset - end).bytes) before this tensor belong to no tensor",
          advice: "a safetensors file may have no gaps; write the file again")
      }
      let (next, overflow) = end.addingReportingOverflow(entry.info.byteCount)
      guard !overflow, next <= bytes else {
        throw Refusal(
          .malformed, file: file, at: entry.byteOffset, subject: entry.info.name,
          "expected \(entry.info.byteCount.bytes), found \(bytes - entry.byteOffset)",
          advice: "download the file again; it is incomplete, "
            + (previous.map { "and its last whole tensor is '\($0)'" } ?? "and has no whole tensor"))
      }
      end = next
      previous = entry.info.name
    }
    guard end == bytes else {
      throw Refusal(
        .malformed, file: file, at: end,
        "expected the end of the file behind the last tensor, found \((bytes - end).bytes) more",
        advice:
          "cut the file there if you know where they come from, or download it again")
    }
  }
}
