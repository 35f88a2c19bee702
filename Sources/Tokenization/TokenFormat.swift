import NormFoldFormats

/// The form in which a file holds tokens.
package enum TokenFormat: String, CaseIterable, Sendable {
  /// One decimal number a line.
  case text
  /// Little-endian, nothing else: what nanoGPT's data scripts write.
  case uint16
  case uint32

  /// The largest id that it can hold.
  package var largestID: Int {
    switch self {
    case .text: .max
    case .uint16: Int(UInt16.max)
    case .uint32: Int(UInt32.max)
    }
  }

  /// - Precondition: no id is negative or above ``largestID``.
  package func bytes(of tokens: [Int]) -> [UInt8] {
    var bytes: [UInt8] = []
    switch self {
    case .text:
      for token in tokens {
        bytes += String(token).utf8
        bytes.append(UInt8(ascii: "\n"))
      }
    case .uint16, .uint32:
      let width = self == .uint16 ? 2 : 4
      bytes.reserveCapacity(tokens.count * width)
      for token in tokens {
        precondition((0...largestID).contains(token))
        for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: token >> (8 * index))) }
      }
    }
    return bytes
  }

  /// The tokens of a whole file; of text, any white space parts them.
  ///
  /// - Throws: `.malformed` with the offset of what is no id.
  package func tokens(in bytes: Span<UInt8>, file: String) throws(Refusal) -> [Int] {
    switch self {
    case .text: return try Self.numbers(in: bytes, file: file)
    case .uint16, .uint32:
      let width = self == .uint16 ? 2 : 4
      guard bytes.count % width == 0 else {
        throw Refusal(
          .malformed, file: file, "expected a multiple of \(width) bytes, found \(bytes.count)",
          advice: "the file is cut off, or holds tokens in another format")
      }
      return (0..<bytes.count / width).map { token in
        (0..<width).reduce(0) { $0 | Int(bytes[token * width + $1]) << (8 * $1) }
      }
    }
  }

  private static func numbers(in bytes: Span<UInt8>, file: String) throws(Refusal) -> [Int] {
    var tokens: [Int] = []
    var number: Int?
    for index in 0..<bytes.count {
      switch bytes[index] {
      case 0x30...0x39:
        let value = (number ?? 0) * 10 + Int(bytes[index] - 0x30)
        guard value <= UInt32.max else {
          throw Refusal(.malformed, file: file, at: index, "expected an id below 2^32, found a larger number")
        }
        number = value
      case 0x20, 0x09, 0x0A, 0x0D:
        if let number { tokens.append(number) }
        number = nil
      default:
        throw Refusal(
          .malformed, file: file, at: index, "expected decimal ids, found byte 0x\(String(bytes[index], radix: 16))",
          advice: "say with \(.format) how the file holds its tokens")
      }
    }
    if let number { tokens.append(number) }
    return tokens
  }
}
