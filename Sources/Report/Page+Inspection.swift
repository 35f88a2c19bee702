import NormFold

extension Page {
  /// Makes the page of an inspection: the norms of a checkpoint, and what adapters change in them.
  package init(_ inspection: Inspection) {
    let count = "\(inspection.foldableSiteCount) of \(inspection.sites.count)\u{A0}norms can be folded"
    self.init(
      kind: "Inspection", subject: inspection.path,
      verdict: .init(
        outcome: .neutral, title: count,
        sentences: [
          "\(inspection.layout), \(inspection.blockCount) blocks, width \(inspection.dModel); \(inspection.dialect)."
        ]), warnings: inspection.warnings,
      sections: [
        .init(id: "checkpoint", title: "Checkpoint", content: [inspection.facts]),
        .init(
          id: "norms", title: "Norms",
          lead: "What each norm multiplies by (γ, or γ/σ where its deviation is fixed) and adds (β).",
          content: inspection.figures + [inspection.sitesTable]),
      ] + (inspection.adapterChanges.map { [.adapters($0)] } ?? []))
  }
}

extension Page.Section {
  /// Returns the section on what adapters change, norm by norm: the finding of LN-tuning is that the norm behind the
  /// MLP changes most (arXiv 2403.20284).
  fileprivate static func adapters(_ changes: [Inspection.AdapterChange]) -> Page.Section {
    var table = DataTable(
      "The changes",
      ["norm": .left, "Δγ": .right, "|Δγ| ≤": .right, "Δβ": .right, "|Δβ| ≤": .right])
    for change in changes {
      table.add(
        .code(change.name), .text(Quantity.short(change.gain)), .text(Quantity.short(change.largestGain)),
        .text(Quantity.short(change.bias)), .text(Quantity.short(change.largestBias)))
    }
    table.footnotes = ["Δγ and Δβ are root mean squares over the features of a norm."]
    return .init(
      id: "adapters", title: "What adapters change",
      lead: "The root mean square of the change of each norm's gain and bias, block by block.",
      content: [
        figure(changes, id: "gains", title: "Changes of gains", yTitle: "Δγ", \.gain),
        figure(changes, id: "biases", title: "Changes of biases", yTitle: "Δβ", \.bias), table,
      ])
  }

  private static func figure(
    _ changes: [Inspection.AdapterChange], id: String, title: String, yTitle: String,
    _ value: (Inspection.AdapterChange) -> Double
  ) -> Figure {
    let blocks = (changes.compactMap(\.block).max() ?? -1) + 1
    let places = changes.map(\.place).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    // What is in no block stands beside them: the norm of the embedding before, the others behind.
    let outer = changes.filter { $0.block == nil }
    let first = outer.count { $0.isBeforeBlocks }
    let series = places.enumerated().map { index, place in
      LineChart.Series(
        name: place, mark: index,
        points: changes.filter { $0.place == place }.map { change in
          let x = change.block.map { $0 + first } ?? (change.isBeforeBlocks ? 0 : first + blocks)
          return .init(x: Double(x), y: value(change))
        })
    }
    let names =
      outer.filter(\.isBeforeBlocks).map(\.place) + (0..<blocks).map { "\($0)" }
      + (outer.contains { !$0.isBeforeBlocks } ? ["final"] : [])
    return Figure(
      id: id, title: title, caption: "",
      chart: LineChart(series: series, xTitle: "block", yTitle: yTitle, horizontal: .categories(names)))
  }
}

extension [Inspection.Site] {
  /// A line for each place of norms, block by block: a number of each norm, and from where to where it goes; nil where no norm has one.
  func chart(_ title: String, value: (Inspection.Site) -> (Double, Double, Double)?) -> LineChart? {
    let blocks = (compactMap(\.block).max() ?? -1) + 1
    let places = map(\.place).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    let series = places.enumerated().compactMap { index, place -> LineChart.Series? in
      let points = filter { $0.place == place }.compactMap { site in
        value(site).map { middle, low, high in
          LineChart.Point(
            x: Double(site.block ?? blocks), y: middle, spread: low < high ? low...high : nil)
        }
      }
      return points.isEmpty ? nil : LineChart.Series(name: place, mark: index, points: points)
    }
    guard !series.isEmpty else { return nil }
    return LineChart(
      series: series, xTitle: "block", yTitle: title,
      horizontal: .categories((0..<blocks).map { "\($0)" } + (contains { $0.block == nil } ? ["final"] : [])))
  }
}

extension Inspection {
  fileprivate var facts: FactList {
    let types = elementTypes.sorted { $0.key < $1.key }.map { "\($0.key) × \($0.value)" }.joined(separator: ", ")
    var facts = FactList()
    facts.add("file", .text("\(container), \(Quantity.bytes(byteCount)), \(tensorCount) tensors (\(types))"))
    facts.add(
      "network",
      .text(
        "\(layout), \(blockCount) blocks, width \(dModel), \(headCount) heads (\(keyValueHeadCount) of keys and values), MLP \(dMLP), "
          + "\(activation)"),
      .text(
        image.map { "images of \($0), \(contextLength) tokens" }
          ?? "context \(contextLength), vocabulary \(Quantity.count(vocabularySize))"),
      .text("\(Quantity.count(parameterCount)) parameters, gives \(output)"))
    if !dropped.isEmpty {
      facts.add(
        "left out",
        Set(dropped.values).sorted().map { rule in .text("\(dropped.values.count { $0 == rule }) × \(rule)") })
    }
    if !wrappers.isEmpty { facts.add("names are read without", wrappers.map { .code($0) }) }
    return facts
  }

  fileprivate var figures: [any Content] {
    let chart = sites.chart("γ/σ, or γ") { ($0.medianScale, $0.smallestScale, $0.largestScale) }
    return chart.map {
      [
        Figure(
          id: "scales", title: "Scales by layer",
          caption: "The median of the features, and from the smallest to the largest.", chart: $0)
      ]
    } ?? []
  }

  fileprivate var sitesTable: DataTable {
    var table = DataTable(
      "The norms",
      [
        "norm": .left, "kind": .left, "deviation": .left, "γ/σ, or γ": .right, "|β| ≤": .right, "foldable": .left,
      ])
    for site in sites {
      table.add(
        .code(site.name), .text(site.kind), .text(site.deviation),
        .text("\(Quantity.short(site.smallestScale)) … \(Quantity.short(site.largestScale))"),
        .text(Quantity.short(site.largestBias)), .text(site.isFoldable ? "yes" : "no"))
    }
    return table
  }
}

extension Inspection.AdapterChange {
  fileprivate var isBeforeBlocks: Bool { place == "embedding" }
}
