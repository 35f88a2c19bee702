extension JSONValue {
  /// The document as text, two spaces a level, members in their order.
  package var text: String {
    var bytes: [UInt8] = []
    write(to: &bytes, indentation: 0)
    return String(decoding: bytes, as: UTF8.self) + "\n"
  }

  /// An object with these members.
  package static func object(_ members: KeyValuePairs<String, JSONValue>) -> JSONValue {
    .object(members.map { Member(key: $0, value: $1, byteOffset: 0) })
  }

  package static func number(_ value: Int) -> JSONValue { .number(String(value)) }

  /// Writes a number as Python writes a float: `1000000000000.0`.
  package static func number(_ value: Double) -> JSONValue {
    .number(abs(value) < 1e16 ? value.plainText : String(value))
  }

  private func write(to bytes: inout [UInt8], indentation: Int) {
    func breakLine(_ depth: Int) {
      bytes.append(UInt8(ascii: "\n"))
      bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * depth))
    }
    switch self {
    case .null: bytes.append(contentsOf: "null".utf8)
    case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
    case .number(let literal): bytes.append(contentsOf: literal.utf8)
    case .string(let string): bytes.append(jsonString: string)
    case .array(let values):
      bytes.append(UInt8(ascii: "["))
      for (index, value) in values.enumerated() {
        if index > 0 { bytes.append(UInt8(ascii: ",")) }
        breakLine(indentation + 1)
        value.write(to: &bytes, indentation: indentation + 1)
      }
      if !values.isEmpty { breakLine(indentation) }
      bytes.append(UInt8(ascii: "]"))
    case .object(let members):
      bytes.append(UInt8(ascii: "{"))
      for (index, member) in members.enumerated() {
        if index > 0 { bytes.append(UInt8(ascii: ",")) }
        breakLine(indentation + 1)
        bytes.append(jsonString: member.key)
        bytes.append(contentsOf: ": ".utf8)
        member.value.write(to: &bytes, indentation: indentation + 1)
      }
      if !members.isEmpty { breakLine(indentation) }
      bytes.append(UInt8(ascii: "}"))
    }
  }
}

extension Double {
  /// Without an exponent where Swift would write one for a large whole number.
  fileprivate var plainText: String { self == rounded() && abs(self) < 1e16 ? "\(Int(self)).0" : String(self) }
}
