import NormFold

/// Series of numbers over layers or positions, each joined by a line.
///
/// On a logarithmic axis zeros have a lane of their own below, and on any what is not finite one above: neither is left out.
package struct LineChart: Chart {
  package struct Point: Sendable {
    let x: Double
    let y: Double
    /// From the smallest to the largest of what `y` stands for.
    let spread: ClosedRange<Double>?

    init(x: Double, y: Double, spread: ClosedRange<Double>? = nil) {
      self.x = x
      self.y = y
      self.spread = spread
    }
  }

  package struct Series: Sendable {
    let name: String
    let points: [Point]
    /// The mark of the series; series of two charts that mean the same look the same.
    let mark: Mark

    init(name: String, mark: Int, points: [Point]) {
      self.name = name
      self.mark = Mark(mark)
      self.points = points
    }
  }

  /// The marks along the horizontal axis.
  enum Horizontal: Sendable {
    /// Whole numbers from 0 stand for these.
    case categories([String])
    case numbers
  }

  enum Vertical: Sendable {
    /// From zero, or below it.
    case linear
    case logarithmic
    /// Logarithmic where the numbers are positive and span more than a decade.
    case automatic
  }

  let series: [Series]
  let xTitle: String
  let yTitle: String
  let horizontal: Horizontal
  var vertical = Vertical.automatic
  var height = 300.0

  package var legend: [LegendEntry] {
    series.count < 2 ? [] : series.map { LegendEntry(name: $0.name, mark: $0.mark, symbol: .line) }
  }

  package var summary: String {
    let ranges = series.map { series in
      let values = series.points.map(\.y).filter(\.isFinite)
      guard let smallest = values.min(), let largest = values.max() else { return "\(series.name): no finite numbers" }
      return "\(series.name): \(Quantity.short(smallest)) to \(Quantity.short(largest))"
    }
    return "\(yTitle) by \(xTitle). \(ranges.joined(separator: "; "))."
  }

  private var scale: Scale {
    let points = series.flatMap(\.points)
    let values = points.flatMap { [$0.y] + ($0.spread.map { [$0.lowerBound, $0.upperBound] } ?? []) }
    let finite = values.filter(\.isFinite)
    switch vertical {
    case .logarithmic: return Scale(logarithmicAround: finite)
    case .linear: return Scale(linearAround: finite, includingZero: true)
    case .automatic:
      let spansDecades = (finite.min() ?? 0) > 0 && (finite.max() ?? 0) > 10 * (finite.min() ?? 0)
      return spansDecades ? Scale(logarithmicAround: finite) : Scale(linearAround: finite, includingZero: true)
    }
  }

  package func drawing(width: Double) -> Drawing {
    var drawing = Drawing(width: width, height: height)
    let y = scale
    let values = series.flatMap(\.points).map(\.y)
    let hasZeros = y.kind == .logarithmic && values.contains { $0 <= 0 }
    let hasInfinities = values.contains { !$0.isFinite }
    let yTicks = y.ticks(atMost: height < 260 ? 5 : 7)
    let labels = yTicks.map(\.label) + (hasInfinities ? ["not finite"] : [])
    let frame = PlotFrame(
      left: max(28, (labels.map(\.estimatedWidth).max() ?? 0) + 12), right: width - 16,
      top: 30 + (hasInfinities ? 26 : 0), bottom: height - 44 - (hasZeros ? 26 : 0))
    let zeroLane = frame.bottom + 20
    let infinityLane = frame.top - 20

    drawing.text(yTitle, 0, 12, class: "axis-title")
    for tick in yTicks {
      let level = frame.y(y.fraction(tick.value))
      drawing.line(frame.left, level, frame.right, level, class: "grid")
      drawing.text(tick.label, frame.left - 8, level + 4, .end, class: "tick")
    }
    if hasZeros {
      drawing.line(frame.left, zeroLane, frame.right, zeroLane, class: "lane")
      drawing.text("0", frame.left - 8, zeroLane + 4, .end, class: "tick")
    }
    if hasInfinities {
      drawing.line(frame.left, infinityLane, frame.right, infinityLane, class: "lane")
      drawing.text("not finite", frame.left - 8, infinityLane + 4, .end, class: "tick")
    }

    let x = horizontalScale
    let base = hasZeros ? zeroLane + 10 : frame.bottom
    drawing.line(frame.left, base, frame.right, base, class: "axis")
    for tick in horizontalTicks(x, width: frame.right - frame.left) {
      let place = frame.x(x.fraction(tick.value))
      drawing.line(place, base, place, base + 4, class: "axis")
      // The outermost stay within the box.
      let half = tick.label.estimatedWidth / 2
      drawing.text(
        tick.label, min(max(place, half), width - half), base + 17, .middle, class: "tick")
    }
    drawing.text(xTitle, (frame.left + frame.right) / 2, height - 4, .middle, class: "axis-title")

    let spacing = (frame.right - frame.left) / Double(max(1, series.map(\.points.count).max() ?? 1))
    // Spreads would hide each other where they stand on one place.
    let hasSpreads = series.contains { $0.points.contains { $0.spread != nil } }
    let thickness = min(6, spacing / Double(series.count + 2))
    func shift(_ index: Int) -> Double {
      hasSpreads ? (Double(index) - Double(series.count - 1) / 2) * thickness : 0
    }
    func place(_ point: Point, _ index: Int) -> (x: Double, y: Double) {
      let level =
        !point.y.isFinite
        ? infinityLane : y.kind == .logarithmic && point.y <= 0 ? zeroLane : frame.y(y.fraction(point.y))
      return (frame.x(x.fraction(point.x)) + shift(index), level)
    }
    func isOnScale(_ point: Point) -> Bool { point.y.isFinite && (y.kind == .linear || point.y > 0) }
    // The first lies on top.
    for (index, line) in series.enumerated().reversed() {
      for point in line.points {
        guard let spread = point.spread, spread.lowerBound.isFinite, spread.upperBound.isFinite else { continue }
        let (from, to) = (frame.y(y.fraction(spread.upperBound)), frame.y(y.fraction(spread.lowerBound)))
        drawing.rectangle(
          place(point, index).x - thickness / 2, from, thickness, to - from, class: "spread \(line.mark.name)")
      }
      for run in line.points.split(whereSeparator: { !isOnScale($0) }) where run.count > 1 {
        let path = run.map { point in "\(place(point, index).x.coordinate) \(place(point, index).y.coordinate)" }
        drawing.path("M" + path.joined(separator: "L"), class: "line \(line.mark.name)")
      }
    }
    // Beyond some density points would only hide each other.
    let radius = spacing > 24 ? 4.2 : spacing > 10 ? 3 : 2.2
    for (index, line) in series.enumerated().reversed() where spacing > 4 {
      for point in line.points {
        let (column, level) = place(point, index)
        drawing.path(
          line.mark.path(column, level, radius: radius),
          class: isOnScale(point) ? "point \(line.mark.name)" : "hollow \(line.mark.name)",
          title: "\(line.name), \(name(of: point.x)): \(Quantity.short(point.y))")
      }
    }
    return drawing
  }

  private func name(of x: Double) -> String {
    guard case .categories(let names) = horizontal, x >= 0, Int(x) < names.count else {
      return "\(xTitle) \(Quantity.short(x))"
    }
    return names[Int(x)]
  }

  private var horizontalScale: Scale {
    switch horizontal {
    case .categories(let names):
      // A single one stands in the middle.
      return names.count > 1
        ? Scale(.linear, from: -0.35, to: Double(names.count) - 0.65) : Scale(.linear, from: -1, to: 1)
    case .numbers:
      let values = series.flatMap(\.points).map(\.x).filter(\.isFinite)
      let (first, last) = (values.min() ?? 0, values.max() ?? 1)
      return first < last ? Scale(.linear, from: first, to: last) : Scale(.linear, from: first - 1, to: first + 1)
    }
  }

  private func horizontalTicks(_ scale: Scale, width: Double) -> [Scale.Tick] {
    guard case .categories(let names) = horizontal else { return scale.ticks(atMost: max(2, Int(width / 80))) }
    // The widest of those that are repeated decides; the first and the last are words and need more.
    let inner = names.dropFirst().dropLast().map(\.estimatedWidth).max() ?? 0
    let perLabel = width / Double(max(1, names.count))
    let stride = [1, 2, 4, 5, 8, 10, 20, 50, 100].first { Double($0) * perLabel >= inner + 10 } ?? 200
    var ticks: [Scale.Tick] = []
    var end = -Double.infinity
    let last = names.count - 1
    func span(_ index: Int) -> (Double, Double) {
      let centre = scale.fraction(Double(index)) * width
      return (centre - names[index].estimatedWidth / 2 - 4, centre + names[index].estimatedWidth / 2 + 4)
    }
    // Round numbers, and every name.
    for index in names.indices where Int(names[index]).map({ $0 % stride == 0 }) ?? true || index == last {
      let (from, to) = span(index)
      // The last one is always shown.
      guard from >= end, index == last || to <= span(last).0 else { continue }
      ticks.append(Scale.Tick(value: Double(index), label: names[index]))
      end = to
    }
    return ticks
  }
}

/// The rectangle that the marks of a chart lie in.
struct PlotFrame: Sendable {
  let left: Double
  let right: Double
  let top: Double
  let bottom: Double

  func x(_ fraction: Double) -> Double { left + fraction * (right - left) }
  func y(_ fraction: Double) -> Double { bottom - fraction * (bottom - top) }
}
