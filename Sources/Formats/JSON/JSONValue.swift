/// A JSON document, read strictly: every key kept, numbers as they were written.
///
/// Foundation's decoders keep the first of two equal keys without a word and turn `1e12` and `1000000000000` into
/// the same thing; headers and configs from strangers need both told apart.
package enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  /// The literal: `-1`, `1000000000000.0`, `1e12`.
  case number(String)
  case string(String)
  case array([JSONValue])
  /// In the order of the text; no two keys have the same bytes.
  case object([Member])

  package struct Member: Equatable, Sendable {
    package let key: String
    package let value: JSONValue
    /// The start of the key, in bytes from the start of the text.
    package let byteOffset: Int

    package init(key: String, value: JSONValue, byteOffset: Int = 0) {
      self.key = key
      self.value = value
      self.byteOffset = byteOffset
    }
  }

  package subscript(key: String) -> JSONValue? { members?.first { $0.key == key }?.value }
  package var members: [Member]? { if case .object(let members) = self { members } else { nil } }
  package var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var isNull: Bool { self == .null }
  /// A whole number without sign, fraction or exponent, as header fields must be; nil for anything else.
  package var count: Int? {
    guard case .number(let literal) = self, literal.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int(literal)
  }
  /// A whole number, perhaps negative, without fraction or exponent.
  package var integer: Int? { if case .number(let literal) = self { Int(literal) } else { nil } }
  /// Any number, rounded to the nearest Double.
  package var double: Double? { if case .number(let literal) = self { Double(literal) } else { nil } }

  /// A description of the value, for messages; long numbers and strings are cut.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let literal): literal.count > 40 ? "\(literal.prefix(40))…" : literal
    case .string(let value): value.count > 40 ? "\"\(value.prefix(40))…\"" : "\"\(value)\""
    case .array: "an array"
    case .object: "an object"
    }
  }
}
