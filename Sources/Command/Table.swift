/// Columns of text as wide as what they hold, or as the terminal allows.
struct Table {
  enum Alignment { case left, right }

  private let header: [String]
  private let alignments: [Alignment]
  private var rows: [[String]] = []
  /// The colours of last cells, by the number of their row.
  private var tones: [Int: Tone] = [:]
  /// A line below the table.
  var footnote: String?

  init(_ columns: KeyValuePairs<String, Alignment>) { self.init(columns: columns.map { ($0.key, $0.value) }) }

  init(columns: [(title: String, alignment: Alignment)]) {
    header = columns.map(\.title)
    alignments = columns.map(\.alignment)
  }

  /// - Parameter tone: of the last cell.
  mutating func add(_ cells: String..., tone: Tone? = nil) {
    tones[rows.count] = tone
    add(cells: cells)
  }

  mutating func add(cells: [String]) { rows.append(cells) }

  /// The table for whoever reads standard output: cut to the width of a terminal, whole in a file or a pipe.
  var text: String { text(width: Terminal.width) }

  /// The lines of the table, none of which ``Swift/String/wrapped(to:)`` breaks: a row in two lines is no row any more.
  ///
  /// - Parameter width: that every line must fit; nil where nothing may be cut. Cells of columns of text are cut for
  ///   it, numbers never: where these alone are wider, so is the table.
  func text(width: Int?) -> String {
    var cells = [header] + rows
    var widths = header.indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
    // The columns stand closer together where they would not fit otherwise.
    let gap = Self.lineWidth(of: widths, gap: 2) > width ?? String.lineWidth ? 1 : 2
    if let width {
      let fitting = fit(widths, gap: gap, to: width)
      for column in widths.indices where fitting[column] < widths[column] {
        let shorter = Self.shortened(cells.map { $0[column] }, to: fitting[column])
        for row in cells.indices { cells[row][column] = shorter[row] }
      }
      widths = fitting
    }
    func line(_ cells: [String], _ tone: Tone? = nil) -> String {
      let padded = cells.indices.map { column in
        let space = String(repeating: " ", count: widths[column] - cells[column].count)
        return alignments[column] == .left ? cells[column] + space : space + cells[column]
      }
      var text = "  " + padded.joined(separator: String(repeating: " ", count: gap))
      while text.last == " " { text.removeLast() }
      guard let tone, let last = cells.last, text.hasSuffix(last) else { return text }
      return text.dropLast(last.count) + last.toned(tone)
    }
    var lines = cells.indices.map { line(cells[$0], tones[$0 - 1]) }
    lines.insert(line(widths.map { String(repeating: "─", count: $0) }), at: 1)
    return (lines.map(\.unbreakable) + (footnote.map { ["  " + $0] } ?? [])).joined(separator: "\n")
  }

  private static func lineWidth(of widths: [Int], gap: Int) -> Int {
    2 + widths.reduce(0, +) + gap * (widths.count - 1)
  }

  /// Widths at which a line fits, taken from the widest column of text first.
  private func fit(_ widths: [Int], gap: Int, to width: Int) -> [Int] {
    let smallest = 8
    var widths = widths
    for _ in 0..<max(0, Self.lineWidth(of: widths, gap: gap) - width) {
      let columns = widths.indices.filter { alignments[$0] == .left && widths[$0] > smallest }
      guard let widest = columns.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    return widths
  }

  /// Cuts the cells of a column at their ends, or in the middle or at the start where that leaves more of them
  /// different: names of tensors differ at either end.
  private static func shortened(_ cells: [String], to width: Int) -> [String] {
    let ways = [width - 1, (width - 1) / 2, 0].map { front in
      cells.map { cell in
        cell.count <= width ? cell : "\(cell.prefix(front))…\(cell.suffix(width - 1 - front))"
      }
    }
    let distinct = ways.map { Set($0).count }
    let best = distinct.indices.first { distinct[$0] == distinct.max() } ?? 0
    return ways[best]
  }
}
