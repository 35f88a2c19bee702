import Glibc
import NormFold
import NormFoldArithmetic
import NormFoldVerify

/// Networks that were held against one reference, each with its name and its place among the marks.
typealias ComparedNetworks = [(name: String, mark: Int, outcome: NetworkDifference)]

/// A figure of where along the residual stream networks part from the reference.
enum ResidualFigure {
  /// - Returns: nil where no network has a residual stream.
  static func figure(id: String, title: String, networks: ComparedNetworks, remark: String = "") -> Figure? {
    let series = networks.filter { !$0.outcome.residuals.isEmpty }.map { network in
      LineChart.Series(
        name: network.name, mark: network.mark,
        points: network.outcome.residuals.map { .init(x: Double($0.depth), y: $0.relative) })
    }
    guard let depth = networks.map(\.outcome.residuals.count).max(), depth > 0 else { return nil }
    return Figure(
      id: id, title: title,
      caption: "The largest difference from the source at each depth, over the largest value there.\(remark)",
      chart: LineChart(
        series: series, xTitle: "behind block", yTitle: "relative difference",
        horizontal: .categories(["embedding"] + (1..<max(depth, 1)).map { "\($0 - 1)" }), vertical: .logarithmic,
        height: 320))
  }
}

extension IntegerDrift {
  /// The section on what integers do to each network, block by block and in its logits.
  ///
  /// - Parameter others: the same networks in other integers, which get a figure and a table together with these.
  func section(beside others: [IntegerDrift]) -> Page.Section {
    let compared: ComparedNetworks = networks.enumerated().map { ($1.name, $0, $1.difference) }
    let figure = ResidualFigure.figure(
      id: "integers-figure", title: "Residual stream in integers, behind each block", networks: compared)
    let all = [self] + others
    let widths = WidthFigure.figure(
      all.map(\.arithmetic.name),
      of: networks.indices.map { network in
        (networks[network].name, all.map { $0.networks[network].difference.logits.meanDivergence })
      })
    // Of the tokens that the probes go on with; networks that continue no text have no such loss.
    let losses = WidthFigure.lossFigure(
      all.map(\.arithmetic.name),
      of: networks.indices.map { network in
        (networks[network].name, all.map { $0.networks[network].difference.logits.lossDifference ?? .nan })
      })
    let byWidth = others.isEmpty ? [] : [widths] + (losses.map { [$0] } ?? [])
    return .init(
      id: "integers", title: "In integers",
      lead: "Each network in \(arithmetic.name), held against itself in double precision. Nothing is claimed of it.",
      content: (figure.map { [$0] } ?? []) + byWidth + all.map(\.table))
  }

  private var table: DataTable {
    var table = DataTable(
      "In \(arithmetic.name), against double precision", header: ["measure"] + networks.map(\.name),
      alignments: [.left] + networks.map { _ in .right })
    func row(_ name: String, _ text: (NetworkDrift) -> String) {
      table.add([.text(name)] + networks.map { .text(text($0)) })
    }
    row("KL divergence, mean (nats)") { Quantity.scientific($0.difference.logits.meanDivergence) }
    row("KL divergence, largest (nats)") { Quantity.scientific($0.difference.logits.largestDivergence) }
    row("same top-1 token") { Quantity.percent($0.difference.logits.top1Agreement) }
    row("largest |Δ logit| / largest |logit|") { Quantity.scientific($0.difference.logits.relative) }
    row("residual stream behind the last block") {
      $0.difference.residuals.last.map { Quantity.scientific($0.relative) } ?? "–"
    }
    row("numbers that did not fit") { Quantity.count($0.overflows.reduce(0) { $0 + $1.count }) }
    row("most of them at") { $0.overflows.first.map { "\($0.path) (\(Quantity.count($0.count)))" } ?? "–" }
    return table
  }
}

extension LogitDifference {
  /// The mean loss minus the reference's, in nats; nil where there is none.
  fileprivate var lossDifference: Double? {
    guard let loss, let referenceLoss else { return nil }
    return loss - referenceLoss
  }
}

/// Figures of what integers of several widths cost each network.
enum WidthFigure {
  /// - Parameters:
  ///   - names: of the integers.
  ///   - networks: each with the difference of the loss for each of these, NaN where there is none.
  /// - Returns: nil where no network has a loss.
  static func lossFigure(_ names: [String], of networks: [(name: String, differences: [Double])]) -> Figure? {
    guard networks.contains(where: { $0.differences.contains(where: \.isFinite) }) else { return nil }
    return figure(
      id: "width-losses-figure", title: "Loss by the width of integers",
      caption:
        "The mean loss of each network in integers, on the tokens that it was to predict, minus its loss in floating point.",
      names, networks.map { ($0.name, $0.differences) }, vertical: .linear)
  }

  /// - Parameters:
  ///   - names: of the integers.
  ///   - networks: each with a divergence for each of these.
  static func figure(_ names: [String], of networks: [(name: String, divergences: [Double])]) -> Figure {
    figure(
      id: "widths-figure", title: "Divergence by the width of integers",
      caption: "The mean Kullback-Leibler divergence of each network in integers from itself in floating point.",
      names, networks.map { ($0.name, $0.divergences) }, vertical: .logarithmic)
  }

  private static func figure(
    id: String, title: String, caption: String, _ names: [String], _ networks: [(name: String, values: [Double])],
    vertical: LineChart.Vertical
  ) -> Figure {
    Figure(
      id: id, title: title, caption: caption,
      chart: LineChart(
        series: networks.enumerated().map { index, network in
          LineChart.Series(
            name: network.name, mark: index,
            points: network.values.enumerated().map { .init(x: Double($0), y: $1) })
        }, xTitle: "integers", yTitle: "nats", horizontal: .categories(names), vertical: vertical, height: 320))
  }
}

/// A figure of how the differences of logits are distributed.
enum DistributionFigure {
  static func figure(
    id: String, title: String, remark: String = "", networks: ComparedNetworks,
    thresholds: [Threshold]
  ) -> Figure {
    Figure(
      id: id, title: title,
      caption: "How many logits are off by how much, in bins of a power of two.\(remark)",
      chart: Histogram(
        series: networks.map { network in
          let counts = network.outcome.logits.magnitudes.counts
          let bins = zip(MagnitudeHistogram.exponents, counts).map { exponent, count in
            Histogram.Bin(edges: pow(2, Double(exponent))..<pow(2, Double(exponent + 1)), count: count)
          }
          return Histogram.Series(
            name: network.name, mark: network.mark, bins: Array(bins.dropFirst()), belowCount: counts[0])
        }, xTitle: "|Δ logit|", yTitle: "logits", horizontal: .logarithmic, hasLogarithmicCounts: true,
        thresholds: thresholds, height: 320))
  }
}

/// Every measure of a comparison.
enum MeasureTable {
  static func table(
    _ caption: String, _ networks: [(name: String, outcome: NetworkDifference)], of judgement: Judgement,
    largestLogit: Double
  ) -> DataTable {
    var table = DataTable(
      caption, header: ["measure"] + networks.map(\.name),
      alignments: [.left] + networks.map { _ in .right })
    func row(_ name: String, _ text: (LogitDifference) -> String) {
      table.add([.text(name)] + networks.map { .text(text($0.outcome.logits)) })
    }
    let noun = judgement.noun
    row("largest |Δ \(noun)| / largest |\(noun)|") { Quantity.scientific($0.relative) }
    row("largest |Δ \(noun)|") { Quantity.scientific($0.largest) }
    row("root mean square |Δ \(noun)|") { Quantity.scientific($0.rootMeanSquare) }
    if judgement.limits.cosineDistance != nil {
      row("1 − cosine, largest") { Quantity.scientific($0.cosineDistance ?? .nan) }
    }
    if judgement.limits.isOfDistribution {
      row("largest |Δ log-probability|") { Quantity.scientific($0.largestLogProbability) }
      row("root mean square |Δ log-probability|") { Quantity.scientific($0.rootMeanSquareLogProbability) }
      row("KL divergence, mean (nats)") { Quantity.scientific($0.meanDivergence) }
      row("KL divergence, largest (nats)") { Quantity.scientific($0.largestDivergence) }
      row("same top-1 token") { Quantity.percent($0.top1Agreement) }
    }
    if judgement.double.logits.referenceLoss != nil {
      row("loss (nats)") { $0.loss.map { Quantity.fixed($0, digits: 6) } ?? "–" }
      row("loss of the reference (nats)") { $0.referenceLoss.map { Quantity.fixed($0, digits: 6) } ?? "–" }
    }
    table.add(
      [.text("residual stream behind the last block")]
        + networks.map { network in
          network.outcome.residuals.last.map { .text(Quantity.scientific($0.relative)) } ?? Cell.nothing
        })
    table.add(
      ["worst place"]
        + networks.map { network in
          let worst = network.outcome.logits.worst
          return .lines([.text("\(worst.probe),"), .text("position \(worst.position), token \(worst.token)")])
        })
    row("expected there") { Quantity.short($0.worst.expected) }
    row("found there") { Quantity.short($0.worst.found) }
    row("tokens judged") { Quantity.count($0.tokenCount) }
    row("tokens that give NaN or infinity") { Quantity.count($0.nonFiniteTokenCount) }
    table.footnotes = ["The largest \(noun) of the reference is \(Quantity.short(largestLogit))."]
    return table
  }
}

/// On which tokens a comparison looked.
enum ProbeList {
  static func section(_ probes: [String], tokenCount: Int, overflows: [String], reference: String) -> Page.Section {
    var facts = FactList()
    facts.add("Probes (tokens)", probes.map(Cell.text))
    facts.add("Judged", .text("\(Quantity.count(tokenCount)) tokens"))
    if !overflows.isEmpty {
      let shown = overflows.prefix(20).map(Cell.text)
      facts.add(
        "Not judged",
        [.text("The \(reference) itself overflows on \(Quantity.count(overflows.count)) tokens:")] + shown
          + (overflows.count > shown.count ? [.text("and \(overflows.count - shown.count) more")] : []))
    }
    return .init(id: "probes", title: "Probes", content: [facts])
  }
}
