import NormFoldFormats
import TestSupport

/// The tokenizer of the small fixtures.
enum SmallTokenizer {
  static let path = Fixtures.path("shakespeare-4x128/tokenizer")

  /// Its `tokenizer.json` with another value for one member.
  static func json(replacing key: String, by value: String) throws -> [UInt8] { try json(replacing: [key: value]) }

  /// Its `tokenizer.json` with other values for some members.
  static func json(replacing values: [String: String]) throws -> [UInt8] {
    let file = try MappedFile(path: path + "/tokenizer.json")
    let original = try file.withBytes { try JSONValue(parsing: $0, file: file.path) }
    let members = (original.members ?? []).map { "\"\($0.key)\": " + (values[$0.key] ?? $0.value.text) }
    return Array("{\(members.joined(separator: ", "))}".utf8)
  }
}
