import NormFold

/// A number for each pair of a row and a column, as a shade.
package struct HeatMap: Chart {
  /// The number of shades that the style sheet has: `h0` for the smallest numbers.
  static let shadeCount = 9

  /// [row][column]; what is not finite is left blank and says so.
  let values: [[Double]]
  let rowNames: [String]
  let columnNames: [String]
  let rowTitle: String
  let columnTitle: String
  let valueTitle: String
  /// The range that the shades run over; what is beyond has the shade of the end.
  let range: ClosedRange<Double>

  package let legend: [LegendEntry] = []

  package var summary: String {
    let finite = values.joined().filter(\.isFinite)
    guard let smallest = finite.min(), let largest = finite.max() else { return "\(valueTitle): no finite numbers." }
    return
      "\(valueTitle) by \(rowTitle) and \(columnTitle): \(Quantity.short(smallest)) to \(Quantity.short(largest))."
  }

  private func shade(_ value: Double) -> String {
    guard value.isFinite else { return "blank" }
    let span = range.upperBound - range.lowerBound
    let fraction = span > 0 ? min(max((value - range.lowerBound) / span, 0), 1) : 0
    return "h\(min(Int(fraction * Double(Self.shadeCount)), Self.shadeCount - 1))"
  }

  package func drawing(width: Double) -> Drawing {
    let columnCount = Double(max(1, columnNames.count))
    let left = max(28, (rowNames.map(\.estimatedWidth).max() ?? 0) + 12)
    let cellWidth = min((width - left - 8) / columnCount, 72)
    let cellHeight = min(max(cellWidth * 0.6, 12), rowNames.count > 24 ? 14 : 30)
    let gap = cellWidth > 8 ? 1.0 : 0.0
    let top = 24.0
    let bottom = top + cellHeight * Double(rowNames.count)
    var drawing = Drawing(width: width, height: bottom + 92)

    drawing.text(rowTitle, 0, 12, class: "axis-title")
    let showsNumbers = cellWidth >= 40 && cellHeight >= 18
    for (row, name) in rowNames.enumerated() {
      let level = top + Double(row) * cellHeight
      if Double(row % max(1, Int((13 / cellHeight).rounded(.up)))) == 0 {
        drawing.text(name, left - 8, level + cellHeight / 2 + 4, .end, class: "tick")
      }
      for (column, value) in values[row].enumerated() {
        let place = left + Double(column) * cellWidth
        let text = value.isFinite ? Quantity.short(value) : "not finite"
        let shade = shade(value)
        drawing.rectangle(
          place, level, cellWidth - gap, cellHeight - gap, class: "cell \(shade)",
          title: "\(rowTitle) \(name), \(columnTitle) \(columnNames[column]): \(text)")
        if showsNumbers, value.isFinite {
          drawing.text(
            Quantity.short(value), place + (cellWidth - gap) / 2, level + cellHeight / 2 + 4, .middle,
            class: "on-\(shade)")
        }
      }
    }
    let widest = (columnNames.map(\.estimatedWidth).max() ?? 0) + 8
    let stride = max(1, Int((widest / cellWidth).rounded(.up)))
    for (column, name) in columnNames.enumerated() where column % stride == 0 {
      drawing.text(name, left + (Double(column) + 0.5) * cellWidth, bottom + 15, .middle, class: "tick")
    }
    drawing.text(columnTitle, left + columnCount * cellWidth / 2, bottom + 34, .middle, class: "axis-title")

    // The key: what the shades stand for.
    let keyWidth = min(240, width - left - 8)
    let keyTop = bottom + 52
    let step = keyWidth / Double(Self.shadeCount)
    for index in 0..<Self.shadeCount {
      drawing.rectangle(left + Double(index) * step, keyTop, step, 10, class: "cell h\(index)")
    }
    drawing.text(Quantity.short(range.lowerBound), left, keyTop + 24, class: "tick")
    drawing.text(Quantity.short(range.upperBound), left + keyWidth, keyTop + 24, .end, class: "tick")
    drawing.text(valueTitle, left + keyWidth / 2, keyTop + 24, .middle, class: "axis-title")
    return drawing
  }
}
