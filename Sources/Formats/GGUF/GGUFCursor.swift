/// A position in a GGUF file, and reads that check before they touch a byte.
///
/// The bytes are lent anew to each call, because a span cannot be stored.
struct GGUFCursor {
  let file: String
  private(set) var offset = 0

  static let incomplete: Message = "the file is incomplete or damaged; download it again"
  static let maximumStringByteCount = 1 << 30

  init(file: String) { self.file = file }

  func remaining(in bytes: RawSpan) -> Int { bytes.byteCount - offset }

  /// Reads one little-endian number.
  /// - Throws: `.malformed` where fewer bytes are left.
  mutating func read<Number: FixedWidthInteger & BitwiseCopyable>(
    _ field: @autoclosure () -> String, as _: Number.Type = Number.self, of subject: String? = nil, from bytes: RawSpan
  ) throws(Refusal) -> Number {
    let size = MemoryLayout<Number>.size
    guard remaining(in: bytes) >= size else {
      throw Refusal(
        .malformed, file: file, at: offset, subject: subject,
        "\(field()): expected \(size) bytes, found \(remaining(in: bytes))", advice: Self.incomplete)
    }
    defer { offset += size }
    return Number(littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Number.self))
  }

  /// Reads `count` numbers of any bit pattern.
  /// - Precondition: the caller has compared the bytes they take with those that are left.
  mutating func readArray<Number: BitwiseCopyable>(_ count: Int, of _: Number.Type, from bytes: RawSpan) -> [Number] {
    // An array without elements is one object for all threads, and the initializer below writes a count into it.
    guard count > 0 else { return [] }
    let byteCount = count * MemoryLayout<Number>.stride
    precondition(byteCount <= remaining(in: bytes))
    defer { offset += byteCount }
    let stored = bytes.extracting(offset..<offset + byteCount)
    return unsafe [Number](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      unsafe stored.withUnsafeBytes { unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(from: $0) }
      initializedCount = count
    }
  }

  /// Reads a length (u64) and as many bytes of UTF-8.
  /// - Throws: `.malformed` where fewer bytes are left, or they are not UTF-8.
  mutating func readString(
    _ field: @autoclosure () -> String, of subject: String? = nil, from bytes: RawSpan
  ) throws(Refusal) -> String {
    let start = offset
    let length = try read("length of \(field())", as: UInt64.self, of: subject, from: bytes)
    let room = min(remaining(in: bytes), Self.maximumStringByteCount)
    guard length <= room else {
      throw Refusal(
        .malformed, file: file, at: start, subject: subject,
        "length of \(field()): expected at most \(room) bytes, found \(length)", advice: Self.incomplete)
    }
    let stored = bytes.extracting(offset..<offset + Int(length))
    guard let text = unsafe stored.withUnsafeBytes({ unsafe String(validating: $0, as: UTF8.self) }) else {
      throw Refusal(
        .malformed, file: file, at: offset, subject: subject, "\(field()): the bytes are not UTF-8",
        advice: "write the file again with UTF-8 text")
    }
    offset += Int(length)
    return text
  }
}
