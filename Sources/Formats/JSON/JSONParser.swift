extension JSONValue {
  /// Deeper than any header or config goes; the parser recurses, so nesting must be bounded.
  package static let maximumDepth = 32

  /// Parses RFC 8259 text strictly: valid UTF-8, no key twice in an object (after unescaping), nothing but white
  /// space around the value.
  ///
  /// - Parameters:
  ///   - file: names the text in messages.
  ///   - baseOffset: where the text starts in that file.
  /// - Throws: `.malformed` with the byte at which the text stops being JSON.
  package init(parsing text: RawSpan, file: String, baseOffset: Int = 0) throws(Refusal) {
    self = try unsafe text.withUnsafeBytes { (buffer) throws(Refusal) in
      var parser = unsafe JSONParser(bytes: buffer, file: file, baseOffset: baseOffset)
      return try parser.parseDocument()
    }
  }
}

/// A key as its bytes spell it. Swift holds "é" and "e\u{301}" for equal strings; JSON does not, and vocabularies
/// have both.
private struct ExactKey: Hashable {
  let string: String

  /// The first comparison is the fast one, and false nearly always. Hashes of equal strings are equal.
  static func == (one: ExactKey, other: ExactKey) -> Bool {
    one.string == other.string && one.string.utf8.elementsEqual(other.string.utf8)
  }
}

@safe private struct JSONParser {
  /// Borrowed from the span in ``JSONValue/init(parsing:file:baseOffset:)``; every access is behind a check of
  /// `position` against `bytes.count`.
  let bytes: UnsafeRawBufferPointer
  let file: String
  let baseOffset: Int
  var position = 0

  init(bytes: UnsafeRawBufferPointer, file: String, baseOffset: Int) {
    unsafe self.bytes = bytes
    self.file = file
    self.baseOffset = baseOffset
  }

  private var isAtEnd: Bool { unsafe position >= bytes.count }
  private var current: UInt8? { isAtEnd ? nil : unsafe bytes[position] }

  private func refusal(_ problem: String, at offset: Int? = nil, advice: Message = "") -> Refusal {
    Refusal(.malformed, file: file, at: baseOffset + (offset ?? position), problem, advice: advice)
  }

  private func syntaxRefusal(_ problem: String, at offset: Int? = nil) -> Refusal {
    refusal("not valid JSON: \(problem)", at: offset)
  }

  private func expectation(of expected: String) -> Refusal {
    guard let byte = current else { return syntaxRefusal("expected \(expected), found the end of the text") }
    let isPrintable = (0x21...0x7E).contains(byte)
    let found = isPrintable ? "'\(Character(UnicodeScalar(byte)))'" : "byte 0x\(String(byte, radix: 16))"
    return syntaxRefusal("expected \(expected), found \(found)")
  }

  private mutating func skipWhitespace() {
    while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard current == byte else { return false }
    position += 1
    return true
  }

  mutating func parseDocument() throws(Refusal) -> JSONValue {
    guard unsafe !bytes.starts(with: [0xEF, 0xBB, 0xBF]) else {
      throw refusal("the JSON starts with a byte order mark", advice: "save it as UTF-8 without one")
    }
    skipWhitespace()
    let value = try parseValue(depth: 0)
    skipWhitespace()
    guard isAtEnd else { throw expectation(of: "nothing after the value") }
    return value
  }

  private mutating func parseValue(depth: Int) throws(Refusal) -> JSONValue {
    guard depth < JSONValue.maximumDepth else {
      throw refusal("the JSON is nested deeper than \(JSONValue.maximumDepth) levels")
    }
    switch current {
    case UInt8(ascii: "{"): return try parseObject(depth: depth)
    case UInt8(ascii: "["): return try parseArray(depth: depth)
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
    case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
    case UInt8(ascii: "n"): return try parseWord("null", .null)
    case UInt8(ascii: "-"), .some(0x30...0x39): return .number(try parseNumber())
    case UInt8(ascii: "N"), UInt8(ascii: "I"):
      throw refusal(
        "not valid JSON: expected a value, and NaN and Infinity are none",
        advice: "write a number, or null, in its place")
    default: throw expectation(of: "a value")
    }
  }

  private mutating func parseWord(_ word: String, _ value: JSONValue) throws(Refusal) -> JSONValue {
    for byte in word.utf8 {
      guard take(byte) else { throw expectation(of: "'\(word)'") }
    }
    return value
  }

  private mutating func parseObject(depth: Int) throws(Refusal) -> JSONValue {
    position += 1
    var members: [JSONValue.Member] = []
    var keys: Set<ExactKey> = []
    skipWhitespace()
    if take(UInt8(ascii: "}")) { return .object([]) }
    members.reserveCapacity(3)
    while true {
      let start = position
      guard current == UInt8(ascii: "\"") else { throw expectation(of: "a key") }
      let key = try parseString()
      // A set costs more than it saves on the three fields of a tensor's entry.
      let exact = ExactKey(string: key)
      let isDuplicate =
        members.count < 8 ? members.contains { ExactKey(string: $0.key) == exact } : !keys.insert(exact).inserted
      guard !isDuplicate else {
        throw refusal(
          "the key '\(key.prefix(80))' occurs twice", at: start,
          advice: "a name must mean one thing; write the file again")
      }
      skipWhitespace()
      guard take(UInt8(ascii: ":")) else { throw expectation(of: "':'") }
      skipWhitespace()
      members.append(.init(key: key, value: try parseValue(depth: depth + 1), byteOffset: baseOffset + start))
      if members.count == 8 { keys = Set(members.map { ExactKey(string: $0.key) }) }
      skipWhitespace()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else { throw expectation(of: "',' or '}'") }
      skipWhitespace()
    }
  }

  private mutating func parseArray(depth: Int) throws(Refusal) -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    skipWhitespace()
    if take(UInt8(ascii: "]")) { return .array([]) }
    values.reserveCapacity(2)
    while true {
      values.append(try parseValue(depth: depth + 1))
      skipWhitespace()
      if take(UInt8(ascii: "]")) { return .array(values) }
      guard take(UInt8(ascii: ",")) else { throw expectation(of: "',' or ']'") }
      skipWhitespace()
    }
  }

  /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
  private mutating func parseNumber() throws(Refusal) -> String {
    let start = position
    _ = take(UInt8(ascii: "-"))
    if !take(UInt8(ascii: "0")) { try parseDigits() }
    if take(UInt8(ascii: ".")) { try parseDigits() }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try parseDigits()
    }
    return unsafe String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
  }

  private mutating func parseDigits() throws(Refusal) {
    guard let first = current, (0x30...0x39).contains(first) else { throw expectation(of: "a digit") }
    while let byte = current, (0x30...0x39).contains(byte) { position += 1 }
  }

  private mutating func parseString() throws(Refusal) -> String {
    let start = position
    position += 1
    let contentStart = position
    var everyBit: UInt8 = 0
    while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
      everyBit |= byte
      position += 1
    }
    if current == UInt8(ascii: "\"") {
      let content = unsafe UnsafeRawBufferPointer(rebasing: bytes[contentStart..<position])
      position += 1
      // ASCII needs no validation, and nearly all strings are.
      if everyBit < 0x80 { return unsafe String(decoding: content, as: UTF8.self) }
      guard let string = unsafe String(validating: content, as: UTF8.self) else {
        throw syntaxRefusal("the string is not valid UTF-8", at: start)
      }
      return string
    }
    return try parseEscapedString(start: start, from: contentStart)
  }

  /// The slow path: from the first escape on, unescaped bytes are collected one by one.
  private mutating func parseEscapedString(start: Int, from contentStart: Int) throws(Refusal) -> String {
    var unescaped = unsafe [UInt8](bytes[contentStart..<position])
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        guard let string = String(validating: unescaped, as: UTF8.self) else {
          throw syntaxRefusal("the string is not valid UTF-8", at: start)
        }
        return string
      case UInt8(ascii: "\\"):
        position += 1
        unescaped.append(contentsOf: Character(try parseEscape()).utf8)
      case ..<0x20:
        throw syntaxRefusal("control character 0x\(String(byte, radix: 16)) in a string")
      default:
        unescaped.append(byte)
        position += 1
      }
    }
    throw syntaxRefusal("the string that starts here does not end", at: start)
  }

  private mutating func parseEscape() throws(Refusal) -> Unicode.Scalar {
    guard let byte = current else { throw expectation(of: "an escape") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return try parseUnicodeEscape()
    default:
      position -= 1
      throw expectation(of: "an escape")
    }
  }

  private mutating func parseUnicodeEscape() throws(Refusal) -> Unicode.Scalar {
    let start = position
    let high = try parseHexadecimal()
    if let scalar = Unicode.Scalar(high) { return scalar }
    if (0xD800...0xDBFF).contains(high), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
      let low = try parseHexadecimal()
      if (0xDC00...0xDFFF).contains(low),
        let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
      {
        return scalar
      }
    }
    throw syntaxRefusal("half of a surrogate pair", at: start)
  }

  private mutating func parseHexadecimal() throws(Refusal) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = current, let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
        throw expectation(of: "four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
