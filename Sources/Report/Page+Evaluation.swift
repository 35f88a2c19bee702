import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement

extension Page {
  /// The loss of a text under a model, and how far another model is from it.
  package init(_ report: EvaluationReport) {
    let loss = report.loss
    let count =
      "\(Quantity.count(loss.tokenCount)) scored tokens in \(Quantity.count(report.chunkCount)) chunks"
      + (report.droppedTokenCount > 0 ? ", \(Quantity.count(report.droppedTokenCount)) dropped" : "")
    var sentences = ["Perplexity \(Quantity.fixed(loss.perplexity, digits: 3)) on \(count)."]
    if loss.nonFiniteTokenCount > 0 {
      sentences.append(
        "Not finite on \(Quantity.count(loss.nonFiniteTokenCount)) tokens, which are in none of these numbers.")
    }
    self.init(
      kind: "Evaluation", subject: report.model,
      verdict: .init(
        outcome: loss.nonFiniteTokenCount > 0 ? .bad : .neutral,
        title: "\(Quantity.fixed(loss.mean, digits: 4))\u{A0}nats per\u{A0}token", sentences: sentences),
      keyFigures: report.keyFigures, warnings: report.warnings,
      sections: [
        MeasurementFacts.section(
          model: report.model, texts: report.texts, chunking: report.chunking, precision: report.precision,
          count: count), report.lossSection,
      ] + (report.comparison.map { [report.section(on: $0)] } ?? [])
        + (report.integers.map { [report.section(on: $0)] } ?? []),
      footer: "\(Tool.nameAndVersion), \(Quantity.decimal(report.seconds)) s")
  }
}

extension EvaluationReport {
  /// The model, and the one beside it, by the last parts of their paths where these differ.
  private var models: [(name: String, loss: LossStatistics)] {
    if let integers { return [("in \(integers.arithmetic.name)", loss), ("in floating point", integers.floatLoss)] }
    guard let comparison else { return [(model, loss)] }
    let names = [model, comparison.model].map(HubCache.name(ofModelIn:))
    return names[0] == names[1]
      ? [(model, loss), (comparison.model, comparison.loss)] : [(names[0], loss), (names[1], comparison.loss)]
  }

  fileprivate var keyFigures: [Page.KeyFigure] {
    if let integers {
      let difference = loss.mean - integers.floatLoss.mean
      return [
        .init(
          name: "difference of mean losses", value: (difference > 0 ? "+" : "") + Quantity.short(difference),
          remark: "nats; more than 0 where integers cost something"),
        .init(name: "KL divergence, mean", value: Quantity.short(integers.divergence.mean), remark: "nats"),
        .init(name: "KL divergence, largest", value: Quantity.short(integers.divergence.largest), remark: "nats"),
        .init(
          name: "same top-1 token", value: Quantity.percent(integers.top1Agreement),
          remark: "of \(Quantity.count(loss.tokenCount)) tokens"),
      ]
    }
    guard let comparison else {
      return [
        .init(name: "median", value: Quantity.fixed(loss.median, digits: 4), remark: "nats"),
        .init(
          name: "standard error of the mean", value: Quantity.fixed(loss.standardError, digits: 5), remark: "nats"),
      ]
    }
    return [
      .init(
        name: "difference of mean losses", value: Self.signed(comparison.lossDifference),
        remark: "nats; more than 0 where the other's is higher"),
      .init(name: "KL divergence, mean", value: Quantity.short(comparison.meanDivergence), remark: "nats"),
      .init(
        name: "Jensen-Shannon divergence, mean", value: Quantity.short(comparison.meanJensenShannon), remark: "nats"),
      .init(
        name: "same top-1 token", value: Quantity.percent(comparison.top1Agreement),
        remark: "of \(Quantity.count(loss.tokenCount)) tokens"),
    ]
  }

  /// The section on the model in integers; with several kinds of them, beside each other.
  fileprivate func section(on integers: IntegerEvaluation) -> Page.Section {
    var table = DataTable(
      "In integers, against floating point",
      [
        "integers": .left, "mean loss (nats)": .right, "KL divergence, mean (nats)": .right,
        "KL divergence, largest (nats)": .right, "same top-1 token": .right, "numbers that did not fit": .right,
      ])
    func add(
      _ arithmetic: IntegerArithmetic, _ loss: Double, _ divergence: IntegerEvaluation.Divergence, _ agreement: Double,
      _ overflows: [IntegerOverflow]
    ) {
      table.add([
        .text(arithmetic.name), .text(Quantity.fixed(loss, digits: 5)), .text(Quantity.scientific(divergence.mean)),
        .text(Quantity.scientific(divergence.largest)), .text(Quantity.percent(agreement)),
        .text(
          Quantity.count(overflows.reduce(0) { $0 + $1.count })
            + (overflows.first.map { ", most of them at \($0.path) (\(Quantity.count($0.count)))" } ?? "")),
      ])
    }
    add(integers.arithmetic, loss.mean, integers.divergence, integers.top1Agreement, integers.overflows)
    for other in otherIntegers {
      add(other.arithmetic, other.meanLoss, other.divergence, other.top1Agreement, other.overflows)
    }
    let figure = WidthFigure.figure(
      [integers.arithmetic.name] + otherIntegers.map(\.arithmetic.name),
      of: [("integers", [integers.divergence.mean] + otherIntegers.map(\.divergence.mean))])
    let losses = WidthFigure.lossFigure(
      [integers.arithmetic.name] + otherIntegers.map(\.arithmetic.name),
      of: [("integers", ([loss.mean] + otherIntegers.map(\.meanLoss)).map { $0 - integers.floatLoss.mean })])
    return .init(
      id: "integers", title: "In integers",
      lead:
        "The losses above are in \(integers.arithmetic.name). In floating point the mean loss is "
        + "\(Quantity.fixed(integers.floatLoss.mean, digits: 5)) nats.",
      content: (otherIntegers.isEmpty ? [] : [figure] + (losses.map { [$0] } ?? [])) + [table])
  }

  private static func signed(_ value: Double) -> String { (value >= 0 ? "+" : "") + Quantity.fixed(value, digits: 4) }

  fileprivate var lossSection: Page.Section {
    let beyond = models.map(\.loss.histogram.beyondCount)
    return .init(
      id: "losses", title: "Losses",
      content: [
        Figure(
          id: "histogram", title: "Losses of single tokens",
          caption: "How many tokens have which loss."
            + (beyond.contains { $0 > 0 }
              ? " Beyond the scale: \(beyond.map(Quantity.count).joined(separator: ", "))." : ""),
          chart: Histogram(
            series: models.enumerated().map { index, model in
              let width = model.loss.histogram.binWidth
              return Histogram.Series(
                name: model.name, mark: index,
                bins: model.loss.histogram.counts.enumerated().map { bin, count in
                  .init(edges: Double(bin) * width..<Double(bin + 1) * width, count: count)
                })
            }, xTitle: "loss, in nats", yTitle: "tokens", horizontal: .linear, hasLogarithmicCounts: false,
            thresholds: comparison == nil ? [.init(value: loss.mean, label: "mean")] : [])),
        Figure(
          id: "positions", title: "Loss by position",
          caption: "The mean loss of the tokens that are predicted at each position of a chunk.",
          chart: LineChart(
            series: models.enumerated().map { index, model in
              .init(
                name: model.name, mark: index,
                points: model.loss.byPosition.map { .init(x: Double($0.position), y: $0.mean) })
            }, xTitle: "position", yTitle: "loss, in nats", horizontal: .numbers,
            vertical: .linear)),
        lossTable,
      ])
  }

  private var lossTable: DataTable {
    var table = DataTable(
      "The losses", header: ["measure"] + models.map(\.name), alignments: [.left] + models.map { _ in .right })
    func row(_ name: String, _ text: (LossStatistics) -> String) {
      table.add([.text(name)] + models.map { .text(text($0.loss)) })
    }
    func interval(_ interval: LossStatistics.Interval) -> String {
      "\(Quantity.fixed(interval.lower, digits: 4)) … \(Quantity.fixed(interval.upper, digits: 4))"
    }
    row("mean, in nats per token") { Quantity.fixed($0.mean, digits: 5) }
    row("standard error") { Quantity.fixed($0.standardError, digits: 5) }
    row("perplexity") { Quantity.fixed($0.perplexity, digits: 3) }
    row("median") { Quantity.fixed($0.median, digits: 4) }
    row("central 95% of tokens") { interval($0.central95) }
    row("central 99.9% of tokens") { interval($0.central999) }
    row("smallest") { Quantity.fixed($0.smallest, digits: 4) }
    row("largest") { Quantity.fixed($0.largest, digits: 4) }
    return table
  }

  fileprivate func section(on comparison: ModelComparison) -> Page.Section {
    var table = DataTable("The comparison", ["measure": .left, "found": .right])
    table.add("difference of mean losses, in nats", .text(Self.signed(comparison.lossDifference)))
    table.add("KL divergence, mean in nats", .text(Quantity.short(comparison.meanDivergence)))
    table.add("KL divergence, largest in nats", .text(Quantity.short(comparison.largestDivergence)))
    table.add("Jensen-Shannon divergence, mean in nats", .text(Quantity.short(comparison.meanJensenShannon)))
    table.add("same top-1 token", .text(Quantity.percent(comparison.top1Agreement)))
    table.add("tokens not finite in one of them", .text(Quantity.count(comparison.unjudgedTokenCount)))
    return .init(
      id: "comparison", title: "Held against it",
      lead: "How the distributions of \(comparison.model) differ from this model's, on the same tokens.",
      content: [table])
  }
}
