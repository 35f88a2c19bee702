/// Columns of text as wide as what they hold.
struct Table {
  enum Alignment { case left, right }

  private let header: [String]
  private let alignments: [Alignment]
  private var rows: [[String]] = []
  /// A line below the table.
  var footnote: String?

  init(_ columns: KeyValuePairs<String, Alignment>) { self.init(columns: columns.map { ($0.key, $0.value) }) }

  init(columns: [(title: String, alignment: Alignment)]) {
    header = columns.map(\.title)
    alignments = columns.map(\.alignment)
  }

  mutating func add(_ cells: String...) { add(cells: cells) }

  mutating func add(cells: [String]) { rows.append(cells) }

  var text: String {
    let widths = header.indices.map { column in ([header] + rows).map { $0[column].count }.max() ?? 0 }
    // Closer together where they would not fit otherwise: a line that is wrapped is no row any more.
    let isWide = widths.reduce(0) { $0 + $1 + 2 } > String.lineWidth
    let gap = isWide ? " " : "  "
    func line(_ cells: [String]) -> String {
      let padded = cells.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - cells[column].count)
        return alignments[column] == .left ? cells[column] + space : space + cells[column]
      }
      var text = "  " + padded.joined(separator: gap)
      while text.last == " " { text.removeLast() }
      return text
    }
    let rule = "  " + widths.map { String(repeating: "─", count: $0) }.joined(separator: gap)
    let lines = [line(header), rule] + rows.map(line) + (footnote.map { ["  " + $0] } ?? [])
    return lines.joined(separator: "\n")
  }
}
