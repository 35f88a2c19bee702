import NormFold
import NormFoldMeasurement

extension Page {
  /// Makes a page on how a model's attention and residual stream behave on a text.
  package init(_ report: DiagnosisReport) {
    let count = "\(Quantity.count(report.tokenCount)) tokens in \(Quantity.count(report.sequenceCount)) chunks"
    let attention = report.attention
    let headCount = attention.entropy.reduce(0) { $0 + $1.count }
    self.init(
      kind: "Diagnosis", subject: report.model,
      verdict: .init(
        outcome: .neutral, title: "\(Quantity.percent(attention.sinkRate)) of\u{A0}heads are\u{A0}sinks",
        sentences: [
          "\(Quantity.percent(attention.sinkQueryRate)) of all heads' queries put more than "
            + "\(Quantity.percent(attention.sinkThreshold)) on position 0. \(Quantity.count(headCount)) heads in "
            + "\(attention.entropy.count) blocks, on \(count)."
        ]),
      keyFigures: report.keyFigures, warnings: report.warnings,
      sections: [
        MeasurementFacts.section(
          model: report.model, texts: report.texts, chunking: report.chunking, precision: report.precision,
          count: count), report.attentionSection, report.residualSection,
      ], footer: "\(Tool.nameAndVersion), \(Quantity.decimal(report.seconds)) s")
  }
}

extension DiagnosisReport {
  fileprivate var keyFigures: [Page.KeyFigure] {
    let norms = residual.meanNorm.last ?? []
    return [
      .init(
        name: "entropy of even attention", value: Quantity.fixed(attention.uniformEntropy, digits: 3), remark: "nats"),
      .init(
        name: "heads by quarter of it", value: attention.headCountByQuarter.map(String.init).joined(separator: ", "),
        remark: "lowest first; many in the highest is overload"),
      .init(
        name: "collapsed heads", value: "\(attention.collapsedHeadCount)",
        remark: "below \(Quantity.percent(attention.collapseThreshold)) of even attention"),
      .init(
        name: "residual norm behind the last block", value: Quantity.short(norms.last ?? .nan),
        remark: "at position 0: \(Quantity.short(norms.first ?? .nan))"),
    ]
  }

  // MARK: Attention

  fileprivate var attentionSection: Page.Section {
    .init(
      id: "attention", title: "Attention",
      lead:
        "Means over all queries. A head that looks everywhere evenly has the entropy of even attention, one that looks at a "
        + "single token has none.",
      content: [
        FigurePair([
          map(
            "entropy", "Entropy of each head", "In nats; the scale ends at even attention.", attention.entropy,
            valueTitle: "nats", range: 0...max(attention.uniformEntropy, 1e-9)),
          map(
            "sinks", "Attention on position 0",
            "A head with at least \(Quantity.percent(attention.sinkThreshold)) is a sink.", attention.sinkAttention,
            valueTitle: "share", range: 0...1),
        ]), attentionTable,
      ])
  }

  private func map(
    _ id: String, _ title: String, _ caption: String, _ values: [[Double]], valueTitle: String,
    range: ClosedRange<Double>
  ) -> Figure {
    Figure(
      id: id, title: title, caption: caption,
      chart: HeatMap(
        values: values, rowNames: values.indices.map { "\($0)" },
        columnNames: (0..<(values.map(\.count).max() ?? 0)).map { "\($0)" }, rowTitle: "block", columnTitle: "head",
        valueTitle: valueTitle, range: range))
  }

  private var attentionTable: DataTable {
    var table = DataTable(
      "Attention by block",
      header: [
        "block", "entropy, least", "mean", "most", "on position 0, least", "mean", "most", "sinks",
      ], alignments: [.right, .right, .right, .right, .right, .right, .right, .right])
    for (block, (entropy, sink)) in zip(attention.entropy, attention.sinkAttention).enumerated() {
      func summary(_ values: [Double], _ text: (Double) -> String) -> [Cell] {
        [values.min(), values.reduce(0, +) / Double(values.count), values.max()].map { .text(text($0 ?? .nan)) }
      }
      table.add(
        [.text("\(block)")] + summary(entropy) { Quantity.fixed($0, digits: 3) } + summary(sink, Quantity.percent)
          + [.text("\(sink.count { $0 >= attention.sinkThreshold }) of \(sink.count)")])
    }
    return table
  }

  // MARK: The residual stream

  /// The first position, and the ranges after it that can be told apart in one chart.
  private var shownRanges: [Int] { [0] + residual.positions.indices.dropFirst().suffix(5) }

  private func name(of range: Int) -> String {
    let range = residual.positions[range]
    return range.first == range.last ? "\(range.first)" : "\(range.first)–\(range.last)"
  }

  fileprivate var residualSection: Page.Section {
    let depths = residual.meanNorm.indices.map { $0 == 0 ? "embedding" : "\($0 - 1)" }
    var table = DataTable(
      "Norms of the residual stream",
      header: ["behind"] + shownRanges.map(name) + ["largest"],
      alignments: [.left] + shownRanges.map { _ in .right } + [.right])
    for (depth, norms) in residual.meanNorm.enumerated() {
      table.add(
        [.text(depth == 0 ? "embedding" : "block \(depth - 1)")]
          + shownRanges.map { .text(Quantity.short(norms[$0])) }
          + [.text(Quantity.short(residual.largestNorm[depth].max() ?? .nan))])
    }
    table.footnotes = ["Euclidean norms, means over the positions in the head of each column."]
    return .init(
      id: "residual", title: "Residual stream",
      content: [
        Figure(
          id: "norms", title: "Norm by depth and position",
          caption: "The mean Euclidean norm of the residual stream behind each block, at the positions of a chunk.",
          chart: LineChart(
            series: shownRanges.enumerated().map { mark, range in
              .init(
                name: "position \(name(of: range))", mark: mark,
                points: residual.meanNorm.enumerated().map { .init(x: Double($0), y: $1[range]) })
            }, xTitle: "behind block", yTitle: "norm", horizontal: .categories(depths))), table,
      ])
  }
}
