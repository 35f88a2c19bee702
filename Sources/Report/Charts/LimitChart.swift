import NormFold

/// A chart of how much of each limit is used: one bar per claim on a logarithmic scale that ends a little beyond the
/// limit.
package struct LimitChart: Chart {
  package struct Row: Sendable {
    let name: String
    /// The share of the limit that is used; at most 1 where it holds.
    let use: Double
    let holds: Bool
    /// The two numbers, as they are written elsewhere.
    let text: String

    /// The share, beyond all others where it is no number.
    var closeness: Double { use.isFinite ? use : .infinity }

    /// The same row under another name: what it is about stands beside its numbers then.
    func named(_ other: String) -> Row { Row(name: other, use: use, holds: holds, text: "\(name): \(text)") }
  }

  let rows: [Row]

  package let legend: [LegendEntry] = []

  package var summary: String {
    rows.map { "\($0.name): \($0.text), \($0.holds ? "holds" : "fails")" }.joined(separator: "; ") + "."
  }

  private static let rowHeight = 44.0

  package func drawing(width: Double) -> Drawing {
    let height = Double(rows.count) * Self.rowHeight + 44
    var drawing = Drawing(width: width, height: height)
    let used = rows.map(\.use).filter { $0.isFinite && $0 > 0 }
    let scale = Scale(decadesAround: used + [1e-2, 10])
    let frame = PlotFrame(left: 8, right: width - 16, top: 4, bottom: Double(rows.count) * Self.rowHeight + 6)
    let limit = frame.x(scale.fraction(1))
    for (index, row) in rows.enumerated() {
      let top = frame.top + Double(index) * Self.rowHeight
      drawing.text(row.name, frame.left, top + 15, class: "row-label")
      // Where the limit is, if there is room.
      let end = max(limit - 8, frame.left + (row.name.estimatedWidth + 2) * 13 / 12 + row.text.estimatedWidth + 20)
      drawing.text(row.text, end, top + 15, .end, class: "row-value")
      let level = top + 29
      drawing.line(frame.left, level, frame.right, level, class: "grid")
      drawing.rectangle(limit, level - 8, frame.right - limit, 16, class: "forbidden")
      drawing.line(limit, level - 8, limit, level + 8, class: "border")
      let state = row.holds ? "good" : "bad"
      let title = "\(row.name): \(row.text)"
      // Nothing is used where nothing differs; all where it is no number.
      let reach = row.use.isFinite ? frame.x(scale.fraction(row.use)) : frame.right
      if row.use > 0 || !row.use.isFinite {
        drawing.rectangle(frame.left, level - 4, reach - frame.left, 8, class: "bar \(state)", title: title)
      }
      drawing.path(
        Mark(row.holds ? 0 : 4).path(row.use > 0 || !row.use.isFinite ? reach : frame.left, level, radius: 4.5),
        class: "dot \(state)", title: title)
    }
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, class: "axis")
    for tick in scale.ticks(atMost: max(2, Int(width / 90))) {
      let place = frame.x(scale.fraction(tick.value))
      drawing.line(place, frame.bottom, place, frame.bottom + 4, class: "axis")
      let label = tick.value == 1 ? "limit" : tick.value > 1 ? "\(tick.label) ×" : tick.label
      let half = label.estimatedWidth / 2
      drawing.text(label, min(max(place, half), width - half), frame.bottom + 17, .middle, class: "tick")
    }
    drawing.text(
      "share of the limit that is used", (frame.left + frame.right) / 2, height - 4, .middle, class: "axis-title")
    return drawing
  }
}
