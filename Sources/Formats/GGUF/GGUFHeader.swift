/// The header of a GGUF file, versions 2 and 3, little-endian.
///
///     byte 0          4           8                  16                  24
///     +--------+-----------+------------------+------------------+---------------+
///     | "GGUF" | version   | tensor count     | pair count       | pairs …       |
///     |        | u32: 2, 3 | i64              | i64              |               |
///     +--------+-----------+------------------+------------------+---------------+
///
///     pair     key: string | value type: i32 | value
///     string   byte count: u64 | UTF-8, no terminator
///     array    element type: i32 | element count: u64 | elements
///     tensor   name: string | rank: u32 | extents: rank × i64, contiguous axis first | type: i32 | offset: u64
///
/// After the pairs come the tensors, then zeros up to a multiple of `general.alignment` (u32, 32 if absent), then the
/// data. Offsets count from there: each tensor starts where the padded one before it ended, so that no byte can mean
/// two things. The reference readers are ggml's `gguf.cpp` and gguf-py; this one refuses what either of them refuses,
/// and what they read differently.
package struct GGUFHeader: Sendable {
  package struct Entry: Sendable {
    package var info: TensorInfo
    /// From the start of the file.
    package var byteOffset: Int
  }

  package let version: Int
  /// In the order of the file, with their stored types.
  package private(set) var metadata: [(key: String, value: GGUFValue)] = []
  /// In the order of the file, which is that of their bytes.
  package private(set) var entries: [Entry] = []
  package private(set) var warnings: [String] = []

  static let maximumRank = 4
  /// ggml keeps names in 64 bytes, the terminator included.
  static let maximumNameByteCount = 63
  static let maximumKeyByteCount = 65_535
  static let maximumAlignment = 1 << 20
  static let defaultAlignment = 32
  /// Over all arrays of a file. Sixty times the largest vocabularies; it bounds what a file of bytes can cost in memory.
  static let maximumArrayElementCount = 1 << 24

  /// The shortest pair has a key of one byte and a value of one byte, the shortest tensor a name of one byte and no
  /// axes.
  private static let smallestPairByteCount = 8 + 1 + 4 + 1
  private static let smallestTensorByteCount = 8 + 1 + 4 + 4 + 8

  private var cursor: GGUFCursor
  private var keys: Set<String> = []
  private var alignment = Self.defaultAlignment
  private var arrayElementCount = 0

  /// - Throws: `.malformed` with the first rule that the file breaks; `.unsupported` for versions and element types
  ///   that are not read.
  package init(of file: MappedFile) throws(Refusal) {
    var cursor = GGUFCursor(file: file.path)
    version = try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: file.path)
      return try Self.readVersion(with: &cursor, from: bytes)
    }
    self.cursor = cursor
    try file.parse { (bytes) throws(Refusal) in try read(from: bytes) }
  }

  package func value(_ key: String) -> GGUFValue? { metadata.first { $0.key == key }?.value }

  private mutating func read(from bytes: RawSpan) throws(Refusal) {
    let tensorCount = try readCount("tensor count", smallest: Self.smallestTensorByteCount, from: bytes)
    let pairCount = try readCount("pair count", smallest: Self.smallestPairByteCount, from: bytes)
    metadata.reserveCapacity(pairCount)
    for index in 0..<pairCount { try readPair(index, from: bytes) }
    keys = []
    try readTensors(tensorCount, from: bytes)
  }

  private func refusal(
    _ category: Refusal.Category = .malformed, at offset: Int, of subject: String? = nil, _ problem: String,
    advice: Message = ""
  ) -> Refusal {
    Refusal(category, file: cursor.file, at: offset, subject: subject, problem, advice: advice)
  }
}

// MARK: The first 24 bytes

extension GGUFHeader {
  private static func readVersion(with cursor: inout GGUFCursor, from bytes: RawSpan) throws(Refusal) -> Int {
    let file = cursor.file
    let magic = try cursor.read("magic", as: UInt32.self, from: bytes)
    guard magic == 0x4655_4747 else {  // "GGUF"
      // The formats before GGUF put 'ggml', 'ggmf' or 'ggjt' into a little-endian word.
      let isOld = [0x6767_6D6C, 0x6767_6D66, 0x6767_6A74].contains(magic)
      throw Refusal(
        isOld ? .unsupported : .malformed, file: file, at: 0,
        "magic: expected the bytes 47 47 55 46 (\"GGUF\"), found \(hexadecimal(magic))",
        advice: isOld
          ? "this is a ggml file from before August 2023; convert the original model again"
          : "this is not a GGUF file, or its start is damaged")
    }
    let version = try cursor.read("version", as: UInt32.self, from: bytes)
    guard version != 1 else {
      throw Refusal(
        .unsupported, file: file, at: 4, "version: expected 2 or 3, found 1, whose counts are 32 bits wide",
        advice: "convert the original model again; llama.cpp dropped this version, too")
    }
    guard version == 0 || version & 0xFFFF != 0 else {
      throw Refusal(
        .unsupported, file: file, at: 4,
        "version: expected 2 or 3, found \(version.byteSwapped) in big-endian order: the file is for a big-endian host",
        advice: "convert it with gguf-py's gguf_convert_endian.py")
    }
    guard version == 2 || version == 3 else {
      throw Refusal(
        version == 0 ? .malformed : .unsupported, file: file, at: 4, "version: expected 2 or 3, found \(version)",
        advice: version == 0 ? "the file is damaged; download it again" : "use a newer version of this tool")
    }
    return Int(version)
  }

  /// Reads a count of records that take `smallest` bytes each, or more.
  private mutating func readCount(_ field: String, smallest: Int, from bytes: RawSpan) throws(Refusal) -> Int {
    let start = cursor.offset
    let count = try cursor.read(field, as: Int64.self, from: bytes)
    let room = cursor.remaining(in: bytes) / smallest
    guard count >= 0 else {
      throw refusal(at: start, "\(field): expected 0 or more, found \(count)", advice: GGUFCursor.incomplete)
    }
    guard count <= room else {
      throw refusal(
        at: start, "\(field): expected at most \(room) in what is left of the file, found \(count)",
        advice: GGUFCursor.incomplete)
    }
    return Int(count)
  }

  private static func hexadecimal(_ word: UInt32) -> String {
    (0..<4).map { index in
      let byte = word >> (8 * UInt32(index)) & 0xFF
      return (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined(separator: " ")
  }
}

// MARK: Pairs

extension GGUFHeader {
  private mutating func readPair(_ index: Int, from bytes: RawSpan) throws(Refusal) {
    let start = cursor.offset
    let key = try cursor.readString("key \(index)", from: bytes)
    guard !key.isEmpty else { throw refusal(at: start, "key \(index) is empty", advice: "write the file again") }
    guard key.utf8.count <= Self.maximumKeyByteCount else {
      throw refusal(
        at: start, "length of key \(index): expected at most \(Self.maximumKeyByteCount) bytes, found \(key.utf8.count)"
      )
    }
    guard !key.utf8.contains(0) else {
      throw refusal(
        at: start, of: key, "the key holds a NUL, where other readers would end it", advice: "write the file again")
    }
    guard keys.insert(key).inserted else {
      throw refusal(
        at: start, of: key, "the key occurs twice", advice: "a key must have one value; write the file again")
    }
    let typeOffset = cursor.offset
    let type = try readValueType("value type", of: key, from: bytes)
    if let required = GGUFValueType.required(for: key), type != required {
      throw refusal(
        at: typeOffset, of: key, "value type: expected \(required), found \(type)", advice: "write the file again")
    }
    let valueOffset = cursor.offset
    let value =
      type == .array ? try readArray(of: key, from: bytes) : try readValue(type, of: key, from: bytes)
    if key == "general.alignment" { alignment = try checkedAlignment(value, at: valueOffset) }
    metadata.append((key, value))
  }

  private mutating func readValueType(
    _ field: String, of key: String, from bytes: RawSpan
  ) throws(Refusal) -> GGUFValueType {
    let start = cursor.offset
    let number = try cursor.read(field, as: Int32.self, of: key, from: bytes)
    guard let type = GGUFValueType(rawValue: number) else {
      throw refusal(at: start, of: key, "\(field): expected 0 to 12, found \(number)", advice: GGUFCursor.incomplete)
    }
    return type
  }

  private mutating func readValue(
    _ type: GGUFValueType, of key: String, from bytes: RawSpan
  ) throws(Refusal) -> GGUFValue {
    switch type {
    case .u8: return .u8(try cursor.read("value", of: key, from: bytes))
    case .i8: return .i8(try cursor.read("value", of: key, from: bytes))
    case .u16: return .u16(try cursor.read("value", of: key, from: bytes))
    case .i16: return .i16(try cursor.read("value", of: key, from: bytes))
    case .u32: return .u32(try cursor.read("value", of: key, from: bytes))
    case .i32: return .i32(try cursor.read("value", of: key, from: bytes))
    case .u64: return .u64(try cursor.read("value", of: key, from: bytes))
    case .i64: return .i64(try cursor.read("value", of: key, from: bytes))
    case .f32: return .f32(Float(bitPattern: try cursor.read("value", of: key, from: bytes)))
    case .f64: return .f64(Double(bitPattern: try cursor.read("value", of: key, from: bytes)))
    case .string: return .string(try cursor.readString("value", of: key, from: bytes))
    case .bool:
      let start = cursor.offset
      let byte = try cursor.read("value", as: UInt8.self, of: key, from: bytes)
      return .bool(try checkedBool(byte, "value", of: key, at: start))
    case .array: preconditionFailure("arrays are read by readArray")
    }
  }

  private mutating func readArray(of key: String, from bytes: RawSpan) throws(Refusal) -> GGUFValue {
    let start = cursor.offset
    let type = try readValueType("element type", of: key, from: bytes)
    guard type != .array else {
      throw refusal(
        at: start, of: key, "element type: arrays of arrays are not allowed",
        advice: "flatten it and write the file again")
    }
    let countOffset = cursor.offset
    let stored = try cursor.read("element count", as: UInt64.self, of: key, from: bytes)
    let room = cursor.remaining(in: bytes) / type.smallestByteCount
    guard stored <= room else {
      throw refusal(
        at: countOffset, of: key,
        "element count: expected at most \(room) in what is left of the file, found \(stored)",
        advice: GGUFCursor.incomplete)
    }
    let count = Int(stored)
    arrayElementCount += count
    guard arrayElementCount <= Self.maximumArrayElementCount else {
      throw refusal(
        .unsupported, at: countOffset, of: key,
        "element count: expected at most \(Self.maximumArrayElementCount) elements in all arrays together, found \(arrayElementCount)",
        advice: "store numbers of this amount as tensors")
    }
    switch type {
    case .u8: return .u8s(cursor.readArray(count, of: UInt8.self, from: bytes))
    case .i8: return .i8s(cursor.readArray(count, of: Int8.self, from: bytes))
    case .u16: return .u16s(cursor.readArray(count, of: UInt16.self, from: bytes))
    case .i16: return .i16s(cursor.readArray(count, of: Int16.self, from: bytes))
    case .u32: return .u32s(cursor.readArray(count, of: UInt32.self, from: bytes))
    case .i32: return .i32s(cursor.readArray(count, of: Int32.self, from: bytes))
    case .u64: return .u64s(cursor.readArray(count, of: UInt64.self, from: bytes))
    case .i64: return .i64s(cursor.readArray(count, of: Int64.self, from: bytes))
    case .f32: return .f32s(cursor.readArray(count, of: Float.self, from: bytes))
    case .f64: return .f64s(cursor.readArray(count, of: Double.self, from: bytes))
    case .bool:
      let first = cursor.offset
      var flags: [Bool] = []
      flags.reserveCapacity(count)
      for (index, byte) in cursor.readArray(count, of: UInt8.self, from: bytes).enumerated() {
        flags.append(try checkedBool(byte, "element \(index)", of: key, at: first + index))
      }
      return .bools(flags)
    case .string:
      var texts: [String] = []
      texts.reserveCapacity(count)
      for index in 0..<count { texts.append(try cursor.readString("element \(index)", of: key, from: bytes)) }
      return .strings(texts)
    case .array: preconditionFailure("refused above")
    }
  }

  /// ggml reads 2 as true and candle refuses it: only 0 and 1 mean the same to everyone.
  private func checkedBool(
    _ byte: UInt8, _ field: @autoclosure () -> String, of key: String, at offset: Int
  ) throws(Refusal) -> Bool {
    guard byte <= 1 else {
      throw refusal(
        at: offset, of: key, "\(field()): expected a bool, 0 or 1, found \(byte)", advice: "write the file again")
    }
    return byte == 1
  }

  private func checkedAlignment(_ value: GGUFValue, at offset: Int) throws(Refusal) -> Int {
    let alignment = value.integer ?? 0
    guard alignment > 0, alignment <= Self.maximumAlignment, alignment & (alignment - 1) == 0 else {
      throw refusal(
        at: offset, of: "general.alignment",
        "expected a power of two from 1 to \(Self.maximumAlignment), found \(alignment)",
        advice: "write the file again, aligned to \(Self.defaultAlignment)")
    }
    return alignment
  }
}

// MARK: Tensors

extension GGUFHeader {
  /// The fields of one tensor's record, before they are held against the rest of the file.
  private struct Record {
    var info: TensorInfo
    var byteCount: Int
    /// From the start of the data.
    var dataOffset: UInt64
    /// The place of the field that holds `dataOffset`, in bytes from the start of the file.
    var offsetField: Int
  }

  private mutating func readTensors(_ count: Int, from bytes: RawSpan) throws(Refusal) {
    var records: [Record] = []
    records.reserveCapacity(count)
    var names: Set<String> = []
    names.reserveCapacity(count)
    for index in 0..<count {
      let start = cursor.offset
      let record = try readTensor(index, from: bytes)
      guard names.insert(record.info.name).inserted else {
        throw refusal(
          at: start, of: record.info.name, "the name occurs twice",
          advice: "a name must mean one tensor; write the file again")
      }
      records.append(record)
    }
    try place(records, in: bytes)
  }

  private mutating func readTensor(_ index: Int, from bytes: RawSpan) throws(Refusal) -> Record {
    let start = cursor.offset
    let name = try cursor.readString("name of tensor \(index)", from: bytes)
    guard !name.isEmpty else {
      throw refusal(
        at: start, "the name of tensor \(index) is empty", advice: "name the tensor and write the file again")
    }
    guard name.utf8.count <= Self.maximumNameByteCount else {
      throw refusal(
        at: start, of: String(name.prefix(80)),
        "the tensor's name has \(name.utf8.count) bytes, expected at most \(Self.maximumNameByteCount)",
        advice: "rename the tensor and write the file again")
    }
    guard !name.utf8.contains(0) else {
      throw refusal(
        at: start, of: name, "the tensor's name holds a NUL, where other readers would end it",
        advice: "rename the tensor and write the file again")
    }
    let rankOffset = cursor.offset
    let rank = try cursor.read("rank", as: UInt32.self, of: name, from: bytes)
    guard rank <= Self.maximumRank else {
      throw refusal(
        at: rankOffset, of: name, "rank: expected at most \(Self.maximumRank), found \(rank)",
        advice: GGUFCursor.incomplete
      )
    }
    let shapeOffset = cursor.offset
    var extents: [Int] = []
    for axis in 0..<Int(rank) {
      let extentOffset = cursor.offset
      let extent = try cursor.read("ne[\(axis)]", as: Int64.self, of: name, from: bytes)
      guard extent >= 0 else {
        throw refusal(
          at: extentOffset, of: name, "ne[\(axis)]: expected 0 or more, found \(extent)", advice: GGUFCursor.incomplete)
      }
      extents.append(Int(extent))
    }
    let type = try readElementType(of: name, from: bytes)
    let shape = Array(extents.reversed())
    let byteCount = try checkedByteCount(name, type, shape, at: shapeOffset)
    let offsetField = cursor.offset
    let dataOffset = try cursor.read("offset", as: UInt64.self, of: name, from: bytes)
    return Record(
      info: TensorInfo(name: name, type: type, shape: shape), byteCount: byteCount, dataOffset: dataOffset,
      offsetField: offsetField)
  }

  private mutating func readElementType(of name: String, from bytes: RawSpan) throws(Refusal) -> ElementType {
    let start = cursor.offset
    let number = try cursor.read("type", as: Int32.self, of: name, from: bytes)
    if let type = ElementType(ggmlNumber: number) { return type }
    if let removed = ElementType.removedGGMLName(ofNumber: number) {
      throw refusal(
        .unsupported, at: start, of: name, "type \(number) was removed from ggml (\(removed))",
        advice: "quantise the original model again, to Q4_0 for example")
    }
    guard number > ElementType.largestGGMLNumber else {
      throw refusal(
        at: start, of: name, "type: expected 0 to \(ElementType.largestGGMLNumber), found \(number)",
        advice: GGUFCursor.incomplete)
    }
    throw refusal(
      .unsupported, at: start, of: name,
      "type \(number) is newer than this tool, which knows 0 to \(ElementType.largestGGMLNumber)",
      advice: "quantise the original model to a type such as Q8_0, or convert it to F16")
  }

  /// The bytes of a tensor, without padding.
  private func checkedByteCount(
    _ name: String, _ type: ElementType, _ shape: [Int], at offset: Int
  ) throws(Refusal) -> Int {
    // Extents of 0 count as 1, so that [0, 2^40, 2^40] is refused in whatever order someone multiplies it.
    guard TensorInfo.checkedElementCount(shape.map { max($0, 1) }) != nil,
      let count = TensorInfo.checkedElementCount(shape)
    else { throw refusal(at: offset, of: name, "shape: \(shape) has more elements than 63 bits can count") }
    guard (shape.last ?? 1) % type.elementsPerBlock == 0 else {
      throw refusal(
        at: offset, of: name,
        "shape: expected a last axis of whole \(type.displayName) blocks of \(type.elementsPerBlock), found \(shape)"
      )
    }
    guard let byteCount = type.byteCount(ofElements: count) else {
      throw refusal(at: offset, of: name, "shape: the size of \(type.displayName) \(shape) overflows")
    }
    return byteCount
  }

  /// The tensors follow each other, each one padded: this one loop proves that every byte range lies inside the file,
  /// that no two overlap, and that nothing is hidden between them.
  private mutating func place(_ records: [Record], in bytes: RawSpan) throws(Refusal) {
    let dataStart = paddedUp(cursor.offset)
    var expected = 0
    var previous: String?
    entries.reserveCapacity(records.count)
    for record in records {
      let name = record.info.name
      guard record.dataOffset == expected else {
        let place = previous.map { "after '\($0)'" } ?? "as the first tensor"
        throw refusal(
          at: record.offsetField, of: name,
          "offset: expected \(expected), \(place), found \(record.dataOffset), which "
            + (record.dataOffset > expected ? "leaves a gap" : "overlaps an earlier tensor or is out of order"),
          advice: "write the file again; its tensors must follow each other, aligned to \(alignment) bytes")
      }
      // What is accepted here lies inside the file, so that no sum below can overflow.
      let left = max(bytes.byteCount - dataStart - expected, 0)
      guard record.byteCount <= left else {
        let intact = previous.map { " (the last whole tensor is '\($0)')" } ?? ""
        throw refusal(
          at: bytes.byteCount - left, of: name, "expected \(record.byteCount) bytes of data, found \(left)",
          advice: "download the file again; it is incomplete\(intact)")
      }
      // An empty tensor may lie behind the end of a file whose last tensor is not padded.
      entries.append(Entry(info: record.info, byteOffset: min(dataStart + expected, bytes.byteCount)))
      expected += paddedUp(record.byteCount)
      previous = name
    }
    let trailing = bytes.byteCount - dataStart - expected
    if trailing > 0 {
      let place = previous.map { "after the last tensor, '\($0)'" } ?? "after the header of a file without tensors"
      warnings.append("\(cursor.file): trailing bytes are ignored: \(trailing) \(place)")
    }
  }

  private func paddedUp(_ count: Int) -> Int { (count + alignment - 1) & ~(alignment - 1) }
}
