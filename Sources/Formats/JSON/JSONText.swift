extension [UInt8] {
  /// Appends `string` as JSON text, escaped as serde_json does: quotation mark, backslash and control characters
  /// only, the short form where there is one. Everything else stays UTF-8.
  package mutating func append(jsonString string: String) {
    append(UInt8(ascii: "\""))
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""): append(contentsOf: #"\""#.utf8)
      case UInt8(ascii: "\\"): append(contentsOf: #"\\"#.utf8)
      case 0x08: append(contentsOf: #"\b"#.utf8)
      case 0x09: append(contentsOf: #"\t"#.utf8)
      case 0x0A: append(contentsOf: #"\n"#.utf8)
      case 0x0C: append(contentsOf: #"\f"#.utf8)
      case 0x0D: append(contentsOf: #"\r"#.utf8)
      case ..<0x20: append(contentsOf: ((byte < 0x10 ? #"\u000"# : #"\u00"#) + String(byte, radix: 16)).utf8)
      default: append(byte)
      }
    }
    append(UInt8(ascii: "\""))
  }
}
