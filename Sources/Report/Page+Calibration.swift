import NormFold
import NormFoldMeasurement

extension Page {
  /// Makes the page of a calibration: what each norm of a model divides by on a text.
  package init(_ report: CalibrationReport) {
    let count = "\(Quantity.count(report.tokenCount)) tokens in \(Quantity.count(report.sequenceCount)) chunks"
    let means = report.sites.map(\.usual.mean)
    self.init(
      kind: "Calibration", subject: report.model,
      verdict: .init(
        outcome: .neutral, title: "\(report.sites.count)\u{A0}norms measured",
        sentences: [
          "σ from \(Quantity.short(means.min() ?? .nan)) to \(Quantity.short(means.max() ?? .nan)) on \(count); as one "
            + "number by the estimator \(report.estimator.rawValue)."
        ]), warnings: report.warnings,
      sections: [
        MeasurementFacts.section(
          model: report.model, texts: report.texts, chunking: report.chunking, precision: report.precision,
          count: count),
        .init(
          id: "deviations", title: "Deviations",
          lead:
            "σ = √(variance + ε) over the features of a token: its mean over tokens, and from the smallest to the largest.",
          content: [
            report.figure("usual", "All positions but the first", \.usual),
            report.figure("first", "The first position", \.first), report.table,
          ]),
      ], footer: "\(Tool.nameAndVersion), \(Quantity.decimal(report.seconds)) s")
  }
}

extension CalibrationReport {
  fileprivate func figure(_ id: String, _ title: String, _ deviation: KeyPath<Site, Deviation>) -> Figure {
    let blocks = (sites.compactMap(\.block).max() ?? -1) + 1
    let places = [("attention", "pre"), ("MLP", "mid"), ("final", "")]
    let series = places.enumerated().map { index, place in
      LineChart.Series(
        name: place.0, mark: index,
        points: sites.filter { site in
          site.block == nil ? place.1.isEmpty : !place.1.isEmpty && site.key.hasSuffix(place.1)
        }.map { site in
          let value = site[keyPath: deviation]
          return .init(
            x: Double(site.block ?? blocks), y: value.mean,
            spread: value.smallest < value.largest ? value.smallest...value.largest : nil)
        })
    }.filter { !$0.points.isEmpty }
    return Figure(
      id: id, title: title, caption: "",
      chart: LineChart(
        series: series, xTitle: "block", yTitle: "σ",
        horizontal: .categories((0..<blocks).map { "\($0)" } + ["final"])))
  }

  fileprivate var table: DataTable {
    var table = DataTable(
      "The deviations",
      [
        "norm": .left, "ε": .right, "σ": .right, "spread": .right, "from": .right, "to": .right, "pooled": .right,
        "first σ": .right, "first pooled": .right,
      ])
    for site in sites {
      table.add(
        .code(site.norm), .text(Quantity.short(site.epsilon)), .text(Quantity.short(site.usual.mean)),
        .text(Quantity.short(site.usual.standardDeviation)), .text(Quantity.short(site.usual.smallest)),
        .text(Quantity.short(site.usual.largest)), .text(Quantity.short(site.usual.pooled)),
        .text(Quantity.short(site.first.mean)), .text(Quantity.short(site.first.pooled)))
    }
    table.footnotes = ["σ: mean over all positions but the first; its spread and extremes are of single tokens."]
    return table
  }
}
