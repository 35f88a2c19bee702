import NormFold

/// A chart of how close the parts of a network are to their bounds: one bar for each group of parts, on a logarithmic
/// scale that ends a little beyond the bound.
package struct BoundChart: Chart {
  package struct Bar: Sendable {
    /// The block, or what stands before and behind the blocks.
    let name: String
    /// The share of its bound that the worst part uses; at most 1 where it holds.
    let use: Double
    let holds: Bool
    /// That part.
    let part: String
  }

  let bars: [Bar]

  package let legend: [LegendEntry] = []

  package var summary: String {
    bars.map { "\($0.name): \(Quantity.short($0.use)) at \($0.part)\($0.holds ? "" : ", differs")" }
      .joined(separator: "; ") + "."
  }

  private static let height = 220.0

  package func drawing(width: Double) -> Drawing {
    var drawing = Drawing(width: width, height: Self.height)
    let used = bars.map(\.use).filter { $0.isFinite && $0 > 0 }
    let scale = Scale(decadesAround: used + [1e-1, 10])
    let ticks = scale.ticks(atMost: 5)
    let left = max(28, (ticks.map { Self.label($0).estimatedWidth }.max() ?? 0) + 12)
    let frame = PlotFrame(left: left, right: width - 8, top: 8, bottom: Self.height - 44)
    let limit = frame.y(scale.fraction(1))
    drawing.rectangle(frame.left, frame.top, frame.right - frame.left, limit - frame.top, class: "forbidden")
    for tick in ticks {
      let level = frame.y(scale.fraction(tick.value))
      drawing.line(frame.left, level, frame.right, level, class: "grid")
      drawing.text(Self.label(tick), frame.left - 8, level + 4, .end, class: "tick")
    }
    drawing.line(frame.left, limit, frame.right, limit, class: "border")
    let step = (frame.right - frame.left) / Double(max(1, bars.count))
    // Names that would touch each other are left out.
    let widest = (bars.map(\.name.estimatedWidth).max() ?? 0) + 8
    let period = max(1, Int((widest / step).rounded(.up)))
    for (index, bar) in bars.enumerated() {
      let start = frame.left + Double(index) * step
      // All of it where it is no number; nothing where nothing differs.
      let top = bar.use.isFinite ? (bar.use > 0 ? frame.y(scale.fraction(bar.use)) : frame.bottom) : frame.top
      drawing.rectangle(
        start + step / 8, top, step * 3 / 4, frame.bottom - top, class: "bar \(bar.holds ? "good" : "bad")",
        title: "\(bar.name): \(Quantity.short(bar.use)) of the bound, \(bar.part)")
      if index % period == 0 {
        let half = bar.name.estimatedWidth / 2
        let place = min(max(start + step / 2, half), width - half)
        drawing.text(bar.name, place, frame.bottom + 17, .middle, class: "tick")
      }
    }
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, class: "axis")
    drawing.text("block", (frame.left + frame.right) / 2, Self.height - 4, .middle, class: "axis-title")
    return drawing
  }

  private static func label(_ tick: Scale.Tick) -> String { tick.value == 1 ? "bound" : tick.label }
}
