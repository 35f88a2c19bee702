import ArgumentParser
import NormFold
import NormFoldFormats
import NormFoldMeasurement
import NormFoldReport

struct DiagnoseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diagnose",
    abstract: "Shows how attention and the residual stream behave on a text.",
    usage: "normfold diagnose MODEL (--text FILE... | --tokens FILE) [OPTIONS]",
    discussion: """
      The entropy of a head's attention is a mean over queries, in nats. Many heads near that of even attention are \
      overloaded, some near 0 collapsed (arXiv 2410.09637). A head with at least 30% of its attention on position 0, in \
      the mean over queries, is a sink. --json has every head and every depth.

      EXAMPLES
        normfold diagnose gpt2-lnfree/ --text book.txt --limit 20000
        normfold diagnose gpt2/ --tokens val.bin --json | jq '.attention.sinkRate'
        normfold diagnose gpt2/ --text book.txt --limit 20000 --report report.html
      """)

  @Argument(help: .checkpoint, completion: .file())
  var model: String

  @OptionGroup var measurement: MeasurementOptions

  @Flag(help: "Replace an existing report.")
  var force = false

  @OptionGroup var input: InputOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws { try measurement.requireTokens() }

  func run() throws {
    let diagnosis = Diagnosis(measurement.input(model: model, options: input, threads: threads))
    let place = try page.destination(replacing: force)
    let report = try output.withProgress { try diagnosis.run(progress: $0.measuring) }
    try output.print(report, as: report.text, options: diagnosis)
    try page.write(Page(report), of: report, options: diagnosis, to: place, with: output)
  }
}

extension DiagnosisReport {
  var text: String {
    let count = "\(Quantity.count(tokenCount)) tokens in \(Quantity.count(sequenceCount)) chunks"
    var lines = [model.printable] + chunking.text(count: count, texts: texts, precision: precision)
    lines += ["", attentionTable.text, ""]
    let quarters = attention.headCountByQuarter.map(String.init).joined(separator: ", ")
    lines += [
      "  Heads by quarter of the entropy of even attention (\(Quantity.fixed(attention.uniformEntropy, digits: 3)) nats): "
        + "\(quarters); collapsed: \(attention.collapsedHeadCount).",
      "  Sinks: \(Quantity.percent(attention.sinkRate)) of heads; \(Quantity.percent(attention.sinkQueryRate)) of all "
        + "heads' queries put more than \(Quantity.percent(attention.sinkThreshold)) on position 0.",
      "", residualTable.text,
    ]
    lines += warnings.map { "  Warning: \($0.printable)" }
    return lines.joined(separator: "\n")
  }

  private var attentionTable: Table {
    var table = Table([
      "block": .right, "entropy, least": .right, "mean": .right, "most": .right, "on position 0, least": .right,
      "mean ": .right, "most ": .right, "sinks": .right,
    ])
    for (block, (entropy, sink)) in zip(attention.entropy, attention.sinkAttention).enumerated() {
      func summary(_ values: [Double], _ text: (Double) -> String) -> [String] {
        [values.min(), values.reduce(0, +) / Double(values.count), values.max()].map { text($0 ?? .nan) }
      }
      let nats = summary(entropy) { Quantity.fixed($0, digits: 3) }
      let shares = summary(sink, Quantity.percent)
      let sinks = sink.count { $0 >= attention.sinkThreshold }
      table.add(
        "\(block)", nats[0], nats[1], nats[2], shares[0], shares[1], shares[2], "\(sinks) of \(sink.count)")
    }
    return table
  }

  /// The first position, the ranges after it as far as the width allows, and the largest norm anywhere.
  private var residualTable: Table {
    let ranges = residual.positions
    // Even a context of a million has only a few ranges; the last ones say most.
    let shown = [0] + Array(ranges.indices.dropFirst().suffix(5))
    var table = Table(
      columns: [("|residual| behind", .left)]
        + shown.map { index in
          let range = ranges[index]
          return (range.first == range.last ? "\(range.first)" : "\(range.first)–\(range.last)", .right)
        } + [("largest", .right)])
    for (depth, norms) in residual.meanNorm.enumerated() {
      table.add(
        cells: [depth == 0 ? "embedding" : "block \(depth - 1)"] + shown.map { Quantity.short(norms[$0]) }
          + [Quantity.short(residual.largestNorm[depth].max() ?? .nan)])
    }
    table.footnote = "Euclidean norms, means over the positions that head each column; --json has all positions"
    return table
  }
}
