import NormFoldFormats

/// Texts, or pairs of texts, with a label each: a line each, with tabs between.
package struct LabelledTexts {
  struct Item: Sendable {
    let text: String
    let second: String?
    let label: Int
  }

  let items: [Item]

  /// - Parameter names: of the labels, by number.
  /// - Throws: `.malformed` for a line that is no example, with its number.
  package init(file path: String, names: [String]) throws(Refusal) {
    var columnCount: Int?
    items = try TextLines(file: path, unit: "example") { (line, refusal) throws(Refusal) in
      let parts = line.utf8.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false).map {
        String(Substring($0))
      }
      guard [2, 3].contains(parts.count), parts.count == columnCount ?? parts.count, let name = parts.last else {
        throw refusal(
          "expected \(columnCount.map { "\($0)" } ?? "2 or 3") columns with tabs between, found \(parts.count)",
          "give a text, for pairs a second one, and the label")
      }
      columnCount = parts.count
      guard let label = names.firstIndex(of: name) ?? Int(name), names.indices.contains(label) else {
        throw refusal("expected a label of the model, \(names.listed("or")), or its number, found '\(name)'", "")
      }
      return Item(text: parts[0], second: parts.count == 3 ? parts[1] : nil, label: label)
    }.items.map(\.value)
  }
}
