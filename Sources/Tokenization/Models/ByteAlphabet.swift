/// GPT-2's printable alphabet: vocabularies write each byte as one character, the printable ones of Latin-1 as
/// themselves, the other 68 in order from U+0100 on. A space is `Ġ`, a line feed `Ċ`.
///
/// Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, and the encoder
/// that was published with it.
enum ByteAlphabet {
  private static func isPrintable(_ byte: UInt32) -> Bool {
    (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte)
  }

  /// The character of each byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt32(0)..<256).map { byte in
      if isPrintable(byte) { return Unicode.Scalar(UInt8(byte)) }
      defer { next += 1 }
      return Unicode.Scalar(next) ?? "\u{0}"
    }
  }()

  /// Returns whether a byte occurs in UTF-8. A vocabulary that was made of text may lack the 13 others.
  static func occursInText(_ byte: UInt8) -> Bool { byte < 0xC0 || (0xC2...0xF4).contains(byte) }

  /// The byte of each scalar below U+0144; nil for the 68 of Latin-1 that stand for none.
  private static let bytes: [UInt8?] = {
    var bytes = [UInt8?](repeating: nil, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar.value)] = UInt8(byte) }
    return bytes
  }()

  /// The bytes that a token stands for; nil where a character is not in the alphabet.
  static func bytes(of text: some StringProtocol) -> [UInt8]? {
    let table = bytes
    var result: [UInt8] = []
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      guard scalar.value < 0x144, let byte = table[Int(scalar.value)] else { return nil }
      result.append(byte)
    }
    return result
  }
}
