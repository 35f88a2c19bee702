import NormFoldFormats

/// The fields of a message in the wire format of Protocol Buffers, one after the other.
///
///     field    tag: varint (number << 3 | type) | value
///     value    type 0: varint, type 1: 8 bytes, type 2: byte count as a varint, and as many bytes, type 5: 4 bytes
///
/// Source: protobuf.dev, "Encoding".
struct ProtobufReader {
  enum Value: Equatable {
    case number(UInt64)
    case bits32(UInt32)
    case bits64(UInt64)
    /// The range of the bytes in the file.
    case bytes(Range<Int>)
  }

  private let bytes: [UInt8]
  private let file: String
  private var offset: Int
  private let end: Int

  /// - Parameter range: the message; nil for the whole file.
  init(_ bytes: [UInt8], _ range: Range<Int>? = nil, file: String) {
    self.bytes = bytes
    self.file = file
    offset = range?.lowerBound ?? 0
    end = range?.upperBound ?? bytes.count
  }

  /// - Returns: nil at the end of the message.
  /// - Throws: `.malformed` with the offset of a field that is cut off or of an unknown type.
  mutating func next() throws(Refusal) -> (number: Int, value: Value)? {
    guard offset < end else { return nil }
    let start = offset
    let tag = try varint()
    let number = Int(truncatingIfNeeded: tag >> 3)
    guard number > 0, tag >> 3 < 1 << 29 else {
      throw refusal(at: start, "expected a field, found the number \(tag >> 3)")
    }
    switch tag & 7 {
    case 0: return (number, .number(try varint()))
    case 1: return (number, .bits64(try integer(ofByteCount: 8, from: start)))
    case 2:
      let count = try varint()
      guard count <= UInt64(end - offset) else {
        throw refusal(at: start, "field \(number) needs \(count) bytes, \(end - offset) left")
      }
      defer { offset += Int(count) }
      return (number, .bytes(offset..<offset + Int(count)))
    case 5: return (number, .bits32(UInt32(try integer(ofByteCount: 4, from: start))))
    case let type: throw refusal(at: start, "field \(number) has the type \(type), which no message has")
    }
  }

  private mutating func varint() throws(Refusal) -> UInt64 {
    var (value, start): (UInt64, Int) = (0, offset)
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard offset < end else { throw refusal(at: start, "a number is cut off") }
      let byte = bytes[offset]
      offset += 1
      if shift < 64 { value |= UInt64(byte & 0x7F) << shift }
      if byte < 0x80 { return value }
    }
    start = offset
    throw refusal(at: start, "a number has more than ten bytes")
  }

  private mutating func integer(ofByteCount count: Int, from start: Int) throws(Refusal) -> UInt64 {
    guard count <= end - offset else { throw refusal(at: start, "a field needs \(count) bytes, \(end - offset) left") }
    defer { offset += count }
    return (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }

  private func refusal(at offset: Int, _ problem: String) -> Refusal {
    Refusal(.malformed, file: file, at: offset, problem, advice: "the file is damaged, or no model of SentencePiece's")
  }
}
