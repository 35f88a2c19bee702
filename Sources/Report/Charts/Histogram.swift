import Glibc
import NormFold

/// A chart of how numbers are distributed: counts per bin, each series an outline of steps over one axis.
package struct Histogram: Chart {
  package struct Bin: Sendable {
    /// From the lower edge up to the upper, which is not in it.
    let edges: Range<Double>
    let count: Int
  }

  package struct Series: Sendable {
    let name: String
    let bins: [Bin]
    /// The number of values that lie below every bin, on a logarithmic axis: zeros, and what is as good as zero.
    let belowCount: Int
    let mark: Mark

    init(name: String, mark: Int, bins: [Bin], belowCount: Int = 0) {
      self.name = name
      self.mark = Mark(mark)
      self.bins = bins
      self.belowCount = belowCount
    }
  }

  let series: [Series]
  let xTitle: String
  let yTitle: String
  let horizontal: Scale.Kind
  /// Is true if counts are shown by powers of ten, so that a handful beside millions can be seen.
  let hasLogarithmicCounts: Bool
  var thresholds: [Threshold] = []
  var height = 300.0

  /// The label of the lane left of the scale.
  private static let belowLabel = "0"

  package var legend: [LegendEntry] {
    series.count < 2 ? [] : series.map { LegendEntry(name: $0.name, mark: $0.mark, symbol: .area) }
  }

  package var summary: String {
    let parts = series.map { series in
      let filled = series.bins.filter { $0.count > 0 }
      let total = filled.reduce(series.belowCount) { $0 + $1.count }
      guard let first = filled.first, let last = filled.last,
        let mode = filled.max(by: { $0.count < $1.count })
      else { return "\(series.name): \(Quantity.count(total)), none of them on the scale" }
      return
        "\(series.name): \(Quantity.count(total)) from \(Quantity.short(first.edges.lowerBound)) to "
        + "\(Quantity.short(last.edges.upperBound)), most between \(Quantity.short(mode.edges.lowerBound)) and "
        + "\(Quantity.short(mode.edges.upperBound))"
    }
    return "\(yTitle) by \(xTitle). \(parts.joined(separator: "; "))."
  }

  private var scale: Scale {
    let edges = series.flatMap(\.bins).filter { $0.count > 0 }.flatMap { [$0.edges.lowerBound, $0.edges.upperBound] }
    let values = edges + thresholds.map(\.value)
    return horizontal == .logarithmic
      ? Scale(decadesAround: values) : Scale(linearAround: values, includingZero: false)
  }

  package func drawing(width: Double) -> Drawing {
    var drawing = Drawing(width: width, height: height)
    let x = scale
    let largest = Double(series.flatMap { $0.bins.map(\.count) + [$0.belowCount] }.max() ?? 0)
    // Half a one is the ground of a logarithmic count, so that a one can be seen to stand on it.
    let y =
      hasLogarithmicCounts
      ? Scale(.logarithmic, from: 0.5, to: pow(10, max(1, ceil(log10(max(1, largest))))))
      : Scale(linearAround: [largest], includingZero: true)
    let yTicks = y.ticks(atMost: 5)
    let hasBelow = series.contains { $0.belowCount > 0 }
    let labels = placedLabels(x, width: width)
    let left = max(28, (yTicks.map(\.label.estimatedWidth).max() ?? 0) + 12)
    let frame = PlotFrame(
      left: left + (hasBelow ? 40 : 0), right: width - 16,
      top: 30 + 16 * Double((labels.map(\.row).max() ?? -1) + 1), bottom: height - 44)

    drawing.text(yTitle, 0, 12, class: "axis-title")
    for tick in yTicks {
      let level = frame.y(y.fraction(tick.value))
      drawing.line(left, level, frame.right, level, class: "grid")
      drawing.text(tick.label, left - 8, level + 4, .end, class: "tick")
    }
    drawing.line(frame.left, frame.bottom, frame.right, frame.bottom, class: "axis")
    for tick in x.ticks(atMost: max(2, Int(width / 70))) {
      let place = frame.x(x.fraction(tick.value))
      drawing.line(place, frame.bottom, place, frame.bottom + 4, class: "axis")
      let half = tick.label.estimatedWidth / 2
      if hasBelow, place - half < left + 12 + Self.belowLabel.estimatedWidth / 2 + 8 { continue }
      drawing.text(tick.label, min(max(place, half), width - half), frame.bottom + 17, .middle, class: "tick")
    }
    drawing.text(xTitle, (frame.left + frame.right) / 2, height - 4, .middle, class: "axis-title")

    if hasBelow {
      drawing.line(left, frame.bottom, left + 24, frame.bottom, class: "axis")
      drawing.text(Self.belowLabel, left + 12, frame.bottom + 17, .middle, class: "tick")
    }
    func top(_ count: Int) -> Double { count > 0 ? frame.y(y.fraction(Double(count))) : frame.bottom }
    for line in series {
      if line.belowCount > 0 {
        let level = top(line.belowCount)
        drawing.rectangle(
          left + 2, level, 20, frame.bottom - level, class: "area \(line.mark.name)",
          title: "\(line.name): \(Quantity.count(line.belowCount)) at \(Self.belowLabel)")
        drawing.line(left + 2, level, left + 22, level, class: "line \(line.mark.name)")
      }
      guard let first = line.bins.firstIndex(where: { $0.count > 0 }),
        let last = line.bins.lastIndex(where: { $0.count > 0 })
      else { continue }
      let bins = line.bins[first...last]
      func column(_ value: Double) -> Double { frame.x(x.fraction(value)) }
      let start = "M\(column(bins[first].edges.lowerBound).coordinate) \(frame.bottom.coordinate)"
      let steps = bins.map { "V\(top($0.count).coordinate)H\(column($0.edges.upperBound).coordinate)" }.joined()
      drawing.path(start + steps + "V\(frame.bottom.coordinate)Z", class: "area \(line.mark.name)")
      drawing.path(start + steps + "V\(frame.bottom.coordinate)", class: "line \(line.mark.name)")
      // The whole height of a bin answers to the pointer.
      for bin in bins where series.count == 1 || bin.count > 0 {
        let (from, to) = (column(bin.edges.lowerBound), column(bin.edges.upperBound))
        drawing.rectangle(
          from, top(bin.count), to - from, frame.bottom - top(bin.count), class: "hover",
          title:
            "\(line.name), \(Quantity.short(bin.edges.lowerBound)) to \(Quantity.short(bin.edges.upperBound)): "
            + Quantity.count(bin.count))
      }
    }
    for (threshold, row) in labels {
      let place = frame.x(x.fraction(threshold.value))
      let level = 30 + 16 * Double(row)
      drawing.line(place, level + 2, place, frame.bottom, class: "limit")
      let half = threshold.label.estimatedWidth / 2
      drawing.text(
        threshold.label, min(max(place, half), width - half), level - 3, .middle, class: "limit-label")
    }
    return drawing
  }

  /// The labels of the thresholds, each in the first row where it hides no other.
  private func placedLabels(_ x: Scale, width: Double) -> [(threshold: Threshold, row: Int)] {
    var ends: [Double] = []
    return thresholds.filter { $0.value.isFinite && $0.value > 0 || horizontal == .linear }
      .sorted { $0.value < $1.value }.map { threshold in
        let half = threshold.label.estimatedWidth / 2 + 12
        let place = 60 + x.fraction(threshold.value) * (width - 76)
        let row = ends.firstIndex { place - half > $0 } ?? ends.count
        if row == ends.count { ends.append(place + half) } else { ends[row] = place + half }
        return (threshold, row)
      }
  }
}
