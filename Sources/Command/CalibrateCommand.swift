import ArgumentParser
import Logging
import NormFold
import NormFoldFormats
import NormFoldMeasurement
import NormFoldProcesses
import NormFoldReport

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Measures on a text what each norm divides by, and writes a file for --deviations.",
    usage: "normfold calibrate MODEL (--text FILE... | --tokens FILE) [-o FILE] [OPTIONS]",
    discussion: """
      A norm divides by σ = √(variance + ε) over the features of each token. The report shows its mean, spread and \
      extremes over tokens, the first position of a chunk apart, whose residual stream is much longer in GPT-2. With -o, \
      the deviations are written in the form of the published tables.

      ESTIMATORS
        per-token-mean  the mean of σ over tokens, as the LN-removal code averages
                        while it trains (default)
        pooled          the spread of all centred features of all tokens together,
                        without ε, as in the published tables

      EXAMPLES
        normfold calibrate gpt2/ --text book.txt
        normfold calibrate gpt2/ --tokens train.bin --limit 100000 -o deviations.json
        normfold convert gpt2/ out/ --for transformers --deviations deviations.json
      """)

  @Argument(help: .checkpoint, completion: .file())
  var model: String

  @OptionGroup var measurement: MeasurementOptions

  @Option(help: ArgumentHelp("How the deviations of tokens become one.", valueName: "per-token-mean|pooled"))
  var estimator = CalibrationReport.Estimator.perTokenMean

  @Option(
    name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Write the deviations.", valueName: "file"))
  var destination: String?

  @Flag(help: "Replace an existing file.")
  var force = false

  @OptionGroup var input: InputOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws { try measurement.requireTokens() }

  func run() throws { try LaunchedProcesses.run { try calibrate(in: $0) } }

  private func calibrate(in processes: any ProcessGroup) throws -> ExitStatus {
    let isReporting = processes.rank == 0
    let (place, pagePlace) = try processes.together { () throws(Refusal) -> (Destination?, Destination?) in
      guard isReporting else { return (nil, nil) }
      return try places()
    }
    var calibration = Calibration(measurement.input(model: model, options: input, threads: threads))
    if threads.threads == nil { calibration.input.workers = processes.workers }
    calibration.estimator = estimator
    let report = try output.withProgress { try calibration.run(in: processes, progress: $0.measuring(in: processes)) }
    guard isReporting else { return .success }
    if let place {
      for warning in try StagedOutput.write(Array(report.deviationFile.utf8), to: place) {
        output.logger.warning("\(warning.printable)")
      }
    }
    let ending = place.map { "\n\n  Wrote \($0.path.printable), for --deviations." } ?? ""
    try output.print(
      report, as: report.text + ending, options: calibration,
      advice: place == nil ? "" : "the output itself is in place")
    try page.write(Page(report), of: report, options: calibration, to: pagePlace, with: output)
    return .success
  }

  /// The places of the deviations and of the page, neither of which may lie over an input.
  private func places() throws(Refusal) -> (deviations: Destination?, page: Destination?) {
    let place = try destination.map { (path) throws(Refusal) in try Destination(file: path, replacing: force) }
    let pagePlace = try page.destination(replacing: force)
    let inputs = ([model, measurement.tokens, input.deviations] + measurement.text).compactMap(\.self)
    try place?.refuse(overlapping: Set(inputs.compactMap(FileIdentity.init(ofItemAt:))))
    if let place { try pagePlace?.refuse(in: place) }
    return (place, pagePlace)
  }
}

extension CalibrationReport.Estimator: ExpressibleByArgument {}

extension CalibrationReport {
  var text: String {
    var table = Table([
      "norm": .left, "σ": .right, "spread": .right, "from": .right, "to": .right, "pooled": .right,
      "first σ": .right, "first pooled": .right,
    ])
    for site in sites {
      table.add(
        site.norm.printable, Quantity.short(site.usual.mean), Quantity.short(site.usual.standardDeviation),
        Quantity.short(site.usual.smallest), Quantity.short(site.usual.largest), Quantity.short(site.usual.pooled),
        Quantity.short(site.first.mean), Quantity.short(site.first.pooled))
    }
    table.footnote = "σ: mean over all positions but the first; its spread and extremes are of single tokens"
    let count = "\(Quantity.count(tokenCount)) tokens in \(Quantity.count(sequenceCount)) chunks"
    let lines = [model.printable] + chunking.text(count: count, texts: texts, precision: precision) + ["", table.text]
    return (lines + warnings.map { "  Warning: \($0.printable)" }).joined(separator: "\n")
  }
}
