import Foundation

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
    func line(_ cells: [String]) -> String {
      let padded = cells.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - cells[column].count)
        return alignments[column] == .left ? cells[column] + space : space + cells[column]
      }
      var text = "  " + padded.joined(separator: "  ")
      while text.last == " " { text.removeLast() }
      return text
    }
    let rule = "  " + widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ")
    let lines = [line(header), rule] + rows.map(line) + (footnote.map { ["  " + $0] } ?? [])
    return lines.joined(separator: "\n")
  }
}

/// Numbers as people read them.
enum Quantity {
  static func bytes(_ count: Int) -> String {
    switch count {
    case ..<1_000: "\(count) B"
    case ..<1_000_000: "\(decimal(Double(count) / 1e3)) kB"
    case ..<1_000_000_000: "\(decimal(Double(count) / 1e6)) MB"
    default: "\(decimal(Double(count) / 1e9)) GB"
    }
  }

  /// With thousands apart: `124,439,808`.
  static func count(_ count: Int) -> String {
    var text = ""
    for (index, digit) in String(count).reversed().enumerated() {
      if index > 0, index % 3 == 0, digit != "-" { text.append(",") }
      text.append(digit)
    }
    return String(text.reversed())
  }

  /// Two significant digits and a power of ten: `1.2e-06`.
  static func scientific(_ value: Double) -> String { value == 0 ? "0" : String(format: "%.1e", value) }

  /// Three significant digits, the shorter of plain and scientific.
  static func short(_ value: Double) -> String { String(format: "%.3g", value) }

  /// One digit behind the point.
  static func decimal(_ value: Double) -> String { fixed(value, digits: 1) }

  /// `99.61%`
  static func percent(_ share: Double) -> String { String(format: "%.2f%%", share * 100) }

  /// `digits` behind the point.
  static func fixed(_ value: Double, digits: Int) -> String { String(format: "%.\(digits)f", value) }
}
