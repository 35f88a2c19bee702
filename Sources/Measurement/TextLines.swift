import NormFoldFormats

/// Something that a file says in each of its lines; empty lines are left out.
struct TextLines<Value: Sendable>: Sendable {
  struct Item: Sendable {
    /// From 1 on.
    let line: Int
    let value: Value
  }

  let items: [Item]

  /// Files of texts have some megabytes.
  private static var maximumByteCount: Int { 1 << 30 }

  /// - Parameters:
  ///   - unit: what a line is, for messages: `text`.
  ///   - body: makes a value of a line, given the refusal of a problem in it.
  /// - Throws: `.malformed` for a file that is too large, is not UTF-8, or has no lines; what `body` throws.
  init(
    file path: String, unit: String,
    _ body: (_ text: String, _ refusal: (_ problem: String, _ advice: Message) -> Refusal) throws(Refusal) -> Value
  ) throws(Refusal) {
    let file = try MappedFile.readable(at: path)
    guard file.byteCount <= Self.maximumByteCount else {
      throw Refusal(.malformed, file: path, "expected at most \(Self.maximumByteCount) bytes, found \(file.byteCount)")
    }
    let bytes = try file.parse { (bytes) throws(Refusal) in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
    var items: [Item] = []
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let content = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      if content.isEmpty { continue }
      func refusal(_ problem: String, _ advice: Message) -> Refusal {
        Refusal(.malformed, file: path, subject: "line \(index + 1)", problem, advice: advice)
      }
      guard let text = String(validating: content, as: UTF8.self) else { throw refusal("is not UTF-8", "") }
      items.append(Item(line: index + 1, value: try body(text, refusal)))
    }
    guard !items.isEmpty else { throw Refusal(.malformed, file: path, "has no \(unit)s") }
    self.items = items
  }
}
