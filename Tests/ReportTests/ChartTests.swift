import Foundation
import Testing

@testable import NormFoldReport

/// Numbers that make trouble for charts.
struct ChartCase: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let chart: any Chart

  private static let series: [(name: String, values: [Double])] = [
    ("ordinary", [3, 1, 4, 1.5]), ("all zero", [0, 0, 0]), ("all one number", [7, 7, 7]), ("a single one", [0.25]),
    ("a single zero", [0]), ("none", []), ("not numbers", [.nan, .infinity, -.infinity]),
    ("one not a number", [1, .nan, 3]),
    ("over 300 decades", [1e-300, 1e-5, 1e300]), ("subnormal", [.leastNonzeroMagnitude, .leastNormalMagnitude / 100]),
    ("the largest", [.greatestFiniteMagnitude]),
    ("negative", [-5, -1, 2]), ("zeros among small ones", [0, 1e-16, 1e-7, 0]),
    ("many", (0..<150).map { exp(Double($0) / 30) }),
    ("close together", [1e6, 1e6 + 1e-9]), ("close to nothing", [.leastNormalMagnitude / 1_000, 0]),
  ]

  static let all: [ChartCase] =
    series.flatMap { name, values -> [ChartCase] in
      let points = values.enumerated().map { index, value in
        LineChart.Point(
          x: Double(index), y: value, spread: value.isFinite && value > 0 ? value / 2...value : nil)
      }
      let lines = [
        LineChart.Series(name: "a", mark: 0, points: points),
        .init(name: "b", mark: 9, points: Array(points.reversed())),
      ]
      let names = values.indices.map { $0 == 0 ? "embedding" : $0 == values.count - 1 ? "final" : "\($0)" }
      let bins = values.enumerated().map { index, value in
        Histogram.Bin(
          edges: pow(2, Double(index))..<pow(2, Double(index + 1)),
          count: value.isFinite ? Int(min(max(0, value), 1e15)) : 0)
      }
      var charts: [(String, any Chart)] = []
      for (kind, vertical) in [
        ("automatic", LineChart.Vertical.automatic), ("log", .logarithmic), ("linear", .linear),
      ] {
        charts.append(
          (
            "lines, \(kind)",
            LineChart(
              series: lines, xTitle: "block", yTitle: "y", horizontal: .categories(names), vertical: vertical)
          ))
      }
      charts.append(("lines over numbers", LineChart(series: lines, xTitle: "x", yTitle: "y", horizontal: .numbers)))
      for kind in [Scale.Kind.linear, .logarithmic] {
        charts.append(
          (
            "histogram, \(kind)",
            Histogram(
              series: [
                .init(name: "a", mark: 0, bins: bins, belowCount: bins.count), .init(name: "b", mark: 1, bins: bins),
              ],
              xTitle: "x", yTitle: "count", horizontal: kind, hasLogarithmicCounts: kind == .logarithmic,
              thresholds: values.prefix(4).map { Threshold(value: $0, label: "a limit") })
          ))
      }
      charts.append(
        (
          "limits",
          LimitChart(rows: values.map { .init(name: "logits", use: $0, holds: $0 <= 1, text: "2.5e-15 of 1.0e-09") })
        ))
      charts.append(
        (
          "bounds",
          BoundChart(
            bars: values.enumerated().map {
              .init(name: "\($0)", use: $1, holds: $1 <= 1, part: "blocks.0.mlp.input.weight")
            })
        ))
      charts.append(
        (
          "heat map",
          HeatMap(
            values: [values, values.reversed()], rowNames: ["0", "1"], columnNames: values.indices.map { "\($0)" },
            rowTitle: "layer", columnTitle: "head", valueTitle: "entropy", range: 0...4)
        ))
      return charts.map { ChartCase(testDescription: "\(name): \($0)", chart: $1) }
    }
}

@Suite struct ChartTests {
  @Test("Every mark and label lies in its box, whatever the numbers and at any width", arguments: ChartCase.all)
  func bounds(_ given: ChartCase) throws {
    for width in [904.0, 340] {
      let drawing = given.chart.drawing(width: width)
      #expect(drawing.width == width)
      let svg = try #require(Markup.parse(Node.element("svg", [:], drawing.nodes).rendered()))
      var count = 0
      for element in svg.all {
        guard let box = try Box(element) else { continue }
        count += 1
        var (left, right) = (box.left, box.right)
        if element.name == "text" {
          let share = ["start": 0.0, "middle": 0.5, "end": 1][element.attributes["text-anchor"] ?? ""] ?? .nan
          let length = element.text.estimatedWidth
          (left, right) = (left - share * length, right + (1 - share) * length)
        }
        #expect(
          left >= 0 && right <= width && box.top >= 0 && box.bottom <= drawing.height,
          "\(element.name) \(element.attributes) '\(element.text)' in \(width) × \(drawing.height)")
      }
      #expect(count > 0)
      #expect(!svg.all.flatMap(\.attributes.values).contains { $0.contains("nan") || $0.contains("inf") })
    }
    #expect(!given.chart.summary.isEmpty)
  }

  @Test(
    "A number lies on the line of the mark that names it",
    arguments: [
      (LineChart.Vertical.logarithmic, [1e-6, 1e-3, 1]), (.logarithmic, [0.5, 2, 20]),
      (.linear, [0, 0.2, 0.6]), (.linear, [-4, 0, 4]),
    ] as [(LineChart.Vertical, [Double])])
  func places(vertical: LineChart.Vertical, values: [Double]) throws {
    let chart = LineChart(
      series: [
        .init(name: "a", mark: 1, points: values.enumerated().map { .init(x: Double($0), y: $1) })
      ], xTitle: "block", yTitle: "y", horizontal: .categories(["0", "1", "2"]), vertical: vertical, height: 400)
    let svg = try #require(Markup.parse(Node.element("svg", [:], chart.drawing(width: 904).nodes).rendered()))
    let labels = svg.all("text").filter { $0.attributes["text-anchor"] == "end" }
    let levels = Dictionary(
      try labels.map { (Self.value($0.text), (try #require(try Box($0))).bottom - 4) }, uniquingKeysWith: { a, _ in a })
    let points = svg.all("path").filter { $0.classes.contains("point") || $0.classes.contains("hollow") }
    #expect(points.count == values.count)
    for (value, point) in zip(values, points) {
      let box = try #require(try Box(point))
      let level = try #require(levels[Float(value)], "no mark for \(value) in \(levels.keys.sorted())")
      #expect(abs((box.top + box.bottom) / 2 - level) < 0.02)
    }
  }

  /// `0.5`, `10⁻³`
  private static func value(_ label: String) -> Float {
    if let number = Float(label) { return number }
    let digits: [Character: String] = [
      "⁻": "-", "⁰": "0", "¹": "1", "²": "2", "³": "3", "⁴": "4", "⁵": "5", "⁶": "6", "⁷": "7", "⁸": "8", "⁹": "9",
    ]
    return Float("1e" + label.dropFirst(2).compactMap { digits[$0] }.joined()) ?? .nan
  }

  @Test("Marks along an axis are round, in order, within it, and not more than asked for")
  func ticks() {
    for exponent in stride(from: -252, through: 252, by: 7) {
      for (low, high) in [(1.0, 1.7), (0.2, 9), (3, 8_000), (1, 1e12)] {
        let factor = pow(10, Double(exponent))
        for scale in [
          Scale(linearAround: [low * factor, high * factor], includingZero: false),
          Scale(logarithmicAround: [low * factor, high * factor]),
        ] {
          let ticks = scale.ticks(atMost: 7)
          #expect(ticks.count >= 2 && ticks.count <= 11, "\(low) to \(high) times 10^\(exponent)")
          #expect(zip(ticks, ticks.dropFirst()).allSatisfy { $0.value < $1.value })
          #expect(Set(ticks.map(\.label)).count == ticks.count)
          #expect(scale.lower <= low * factor * (1 + 1e-9) && scale.upper >= high * factor * (1 - 1e-9))
        }
      }
    }
  }

  @Test("A histogram's steps are as high as its counts")
  func histogram() throws {
    let counts = [1, 10, 100, 0, 1_000]
    let chart = Histogram(
      series: [
        .init(
          name: "a", mark: 0,
          bins: counts.enumerated().map { .init(edges: pow(10, Double($0))..<pow(10, Double($0 + 1)), count: $1) })
      ], xTitle: "x", yTitle: "y", horizontal: .logarithmic, hasLogarithmicCounts: true)
    let svg = try #require(Markup.parse(Node.element("svg", [:], chart.drawing(width: 904).nodes).rendered()))
    let grid = try svg.all("line").filter { $0.classes == ["grid"] }.compactMap { try Box($0)?.top }
    let bars = try svg.all("rect").filter { $0.classes == ["hover"] }.map { try #require(try Box($0)) }
    #expect(bars.count == 5)
    let marks = svg.all("text").filter { $0.attributes["text-anchor"] == "end" }.map(\.text)
    #expect(marks == ["1", "10", "100", "1,000"])
    for (bar, level) in zip([bars[0], bars[1], bars[2], bars[4]], grid) { #expect(abs(bar.top - level) < 0.02) }
    #expect(bars[3].top == bars[3].bottom)
    #expect(svg.all("rect").compactMap { $0.all("title").first?.text }.first == "a, 1 to 10: 1")
  }
}
