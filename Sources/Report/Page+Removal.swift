import NormFold
import NormFoldTraining

extension Page {
  /// Makes the page of a removal: how the loss went while norms were fixed, and what became of the conversion.
  package init(_ report: RemovalReport) {
    let holds = report.conversion.holds
    let switched = report.records.reduce(0) { $0 + $1.fixed.count }
    let title = report.removesNorms ? "\(switched)\u{A0}sites fixed" : "Control run"
    self.init(
      kind: "Removal", subject: report.source,
      verdict: .init(
        outcome: holds ? .good : .bad, title: holds ? title : "\(title). The conversion failed.",
        sentences: [
          "\(Quantity.count(report.records.count)) steps on \(Quantity.count(report.tokenCount)) tokens. Mean loss of the last "
            + "\(min(20, report.records.count)): \(Quantity.fixed(report.finalLoss, digits: 4)) nats."
        ] + report.conversion.failures), warnings: report.conversion.warnings,
      sections: [
        .init(
          id: "loss", title: "The run",
          lead:
            "Cross entropy without the auxiliary term, and the norm of the gradient before clipping. Of long runs each point is the "
            + "mean of a few steps, from the smallest of them to the largest.",
          content: [
            report.figure("loss-by-step", "Loss", "nats per token", \.loss),
            report.figure("gradient-by-step", "Norm of the gradient", "norm", \.gradientNorm),
          ] + report.validationFigures),
        .init(
          id: "deviations", title: "What norms divide by",
          lead:
            "The moving mean of √(variance + ε) of each kind of norm, from the smallest block to the largest. A norm that is "
            + "fixed keeps what it was measured at.",
          content: [report.deviationFigure]),
        .init(
          id: "switches", title: "Switches",
          lead: "What was fixed, before which step, at what, and what that did to the loss.",
          content: [report.switchTable]),
      ], footer: "\(Tool.nameAndVersion), trained for \(Quantity.duration(report.trainingSeconds))")
  }
}

extension RemovalReport {
  /// Points that a chart shows at most.
  private static let pointCount = 120

  fileprivate func figure(
    _ id: String, _ title: String, _ unit: String, _ value: KeyPath<TrainingRecord, Double>
  ) -> Figure {
    let size = max(1, (records.count + Self.pointCount - 1) / Self.pointCount)
    let points = stride(from: 0, to: records.count, by: size).map { start in
      let values = records[start..<min(start + size, records.count)].map { $0[keyPath: value] }
      let (smallest, largest) = (values.min() ?? .nan, values.max() ?? .nan)
      return LineChart.Point(
        x: Double(start) + Double(values.count - 1) / 2, y: values.reduce(0, +) / Double(values.count),
        spread: smallest < largest ? smallest...largest : nil)
    }
    return Figure(
      id: id, title: title, caption: "",
      chart: LineChart(
        series: [.init(name: title, mark: 0, points: points)], xTitle: "step", yTitle: unit, horizontal: .numbers))
  }

  fileprivate var validationFigures: [Figure] {
    guard validations.count > 1 else { return [] }
    let points = validations.map { LineChart.Point(x: Double($0.step), y: $0.loss) }
    return [
      Figure(
        id: "held-out-loss", title: "Loss on text that is held out", caption: "At step 0: what the run started from.",
        chart: LineChart(
          series: [.init(name: "Held out", mark: 0, points: points)], xTitle: "steps taken", yTitle: "nats per token",
          horizontal: .numbers))
    ]
  }

  fileprivate var deviationFigure: Figure {
    // Norms of a kind have one name but for the block's number.
    var kinds: [String] = []
    for name in deviationSamples.last?.deviations.keys.sorted() ?? [] where !kinds.contains(name.withoutNumbers) {
      kinds.append(name.withoutNumbers)
    }
    let series = kinds.enumerated().map { mark, kind in
      LineChart.Series(
        name: kind, mark: mark,
        points: deviationSamples.map { sample in
          let values = sample.deviations.filter { $0.key.withoutNumbers == kind }.map(\.value)
          let (smallest, largest) = (values.min() ?? .nan, values.max() ?? .nan)
          return LineChart.Point(
            x: Double(sample.step), y: values.reduce(0, +) / Double(max(1, values.count)),
            spread: smallest < largest ? smallest...largest : nil)
        })
    }
    return Figure(
      id: "deviations-by-step", title: "Deviations", caption: "",
      chart: LineChart(series: series, xTitle: "step", yTitle: "σ", horizontal: .numbers))
  }

  fileprivate var switchTable: DataTable {
    var table = DataTable(
      "The switches",
      ["site": .left, "step": .right, "σ": .right, "loss before": .right, "highest after": .right, "then": .right])
    for record in records {
      for site in record.fixed {
        let before = records[max(0, record.step - 5)..<record.step].map(\.loss)
        let after = records[record.step..<min(record.step + 10, records.count)].map(\.loss)
        let sigma = deviations.first {
          site == $0.key || site.hasPrefix($0.key + ".") || $0.key.hasSuffix("." + site.norm)
        }
        table.add(
          .code(site), .text("\(record.step)"), .text(sigma.map { Quantity.short($0.value) } ?? ""),
          .text(Quantity.fixed(before.reduce(0, +) / Double(max(1, before.count)), digits: 3)),
          .text(Quantity.fixed(after.max() ?? .nan, digits: 3)), .text(Quantity.fixed(after.last ?? .nan, digits: 3)))
      }
    }
    table.footnotes = [
      "Loss before: the mean of five steps. Highest after: of ten steps. Then: of the tenth. Single steps differ by their tokens."
    ]
    return table
  }
}

extension String {
  /// The norm of a site: `h.0.ln_1` of `h.0.ln_1.qk`.
  fileprivate var norm: String {
    for path in [".qk", ".v"] where hasSuffix(path) { return String(dropLast(path.count)) }
    return self
  }
}

extension String {
  /// `transformer.h.#.ln_1` of `transformer.h.3.ln_1`.
  fileprivate var withoutNumbers: String {
    split(separator: ".").map { $0.allSatisfy(\.isNumber) ? "#" : $0 }.joined(separator: ".")
  }
}
