import NormFoldFormats

/// The records of a CSV file (RFC 4180): fields with commas between, in quotes where they hold commas, quotes or ends of lines.
package struct CommaSeparatedValues {
  struct Record {
    /// The line in the file on which it begins, from 1 on.
    let line: Int
    let fields: [String]
  }

  /// The first record of the file.
  let header: [String]
  /// The others, each with as many fields as the header; empty lines are skipped.
  let records: [Record]

  /// Tables of words have some megabytes.
  private static let maximumByteCount = 1 << 30

  /// - Throws: `.malformed` for a file that is not UTF-8 or has no header, and for a record that does not fit it, with its line.
  package init(file path: String) throws(Refusal) {
    let file = try MappedFile.readable(at: path)
    guard file.byteCount <= Self.maximumByteCount else {
      throw Refusal(.malformed, file: path, "expected at most \(Self.maximumByteCount) bytes, found \(file.byteCount)")
    }
    let bytes = try file.parse { (bytes) throws(Refusal) in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
    var reader = RecordReader(bytes: bytes[...])
    var records: [Record] = []
    while let record = try reader.next(file: path) {
      if record.fields != [""] { records.append(record) }
    }
    guard let first = records.first else { throw Refusal(.malformed, file: path, "has no header") }
    for record in records where record.fields.count != first.fields.count {
      throw Refusal(
        .malformed, file: path, subject: "line \(record.line)",
        "expected \(first.fields.count) fields, as many as the header has, found \(record.fields.count)")
    }
    header = first.fields
    self.records = Array(records.dropFirst())
  }

  private struct RecordReader {
    var bytes: ArraySlice<UInt8>
    var line = 1

    private static let (comma, quote, newline, carriageReturn) = (
      UInt8(ascii: ","), UInt8(ascii: "\""), UInt8(ascii: "\n"), UInt8(ascii: "\r")
    )

    /// The next record; nil at the end of the file.
    mutating func next(file: String) throws(Refusal) -> Record? {
      guard !bytes.isEmpty else { return nil }
      let start = line
      func refusal(_ problem: String) -> Refusal {
        Refusal(.malformed, file: file, subject: "line \(start)", problem)
      }
      var fields: [String] = []
      while true {
        var field: [UInt8] = []
        if bytes.first == Self.quote {
          bytes.removeFirst()
          while true {
            guard let byte = bytes.popFirst() else { throw refusal("a quote is not closed") }
            if byte == Self.newline { line += 1 }
            guard byte == Self.quote else {
              field.append(byte)
              continue
            }
            // Two quotes are one of the text.
            guard bytes.first == Self.quote else { break }
            bytes.removeFirst()
            field.append(byte)
          }
        } else {
          while let byte = bytes.first, byte != Self.comma, byte != Self.newline {
            field.append(byte)
            bytes.removeFirst()
          }
          if bytes.first != Self.comma, field.last == Self.carriageReturn { field.removeLast() }
        }
        guard let text = String(validating: field, as: UTF8.self) else { throw refusal("is not UTF-8") }
        fields.append(text)
        if bytes.first == Self.carriageReturn { bytes.removeFirst() }
        guard let end = bytes.popFirst(), end != Self.newline else {
          line += 1
          return Record(line: start, fields: fields)
        }
        guard end == Self.comma else { throw refusal("expected a comma behind the closing quote") }
      }
    }
  }
}
