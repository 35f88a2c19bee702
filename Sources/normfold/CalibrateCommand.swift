import ArgumentParser
import Conversion
import Formats
import Measurement
import Report

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
        per-token-mean  the mean of σ over tokens, as the LN-removal code averages while it trains (default)
        pooled          the spread of all centred features of all tokens together, without ε, as in the published tables

      EXAMPLES
        normfold calibrate gpt2/ --text book.txt
        normfold calibrate gpt2/ --tokens train.bin --limit 100000 -o deviations.json
        normfold convert gpt2/ out/ --for transformers --deviations deviations.json
      """)

  @Argument(help: "A checkpoint: a directory, or one file with its config.json beside it.")
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

  func run() throws {
    let place = try destination.map { (path) throws(Refusal) in try Destination(file: path, replacing: force) }
    let pagePlace = try page.destination(replacing: force)
    let inputs = ([model, measurement.tokens, input.deviations] + measurement.text).compactMap(\.self)
    try place?.refuse(overlapping: Set(inputs.compactMap(FileIdentity.init(ofItemAt:))))
    var calibration = Calibration(measurement.input(model: model, options: input, threads: threads))
    calibration.estimator = estimator
    let line = ProgressLine(isQuiet: output.quiet)
    defer { line.finish() }
    let report = try calibration.run(progress: line.measuring)
    line.finish()
    var advice = ""
    if let place {
      let staged = try StagedOutput(for: place)
      let file = try OutputFile(creating: staged.path + "/deviations.json")
      try file.write(Array(report.deviationFile.utf8))
      try file.finish()
      for warning in try staged.publish(file: "deviations.json") { StandardError.write("warning: \(warning)\n") }
      advice = "the output itself is in place"
    }
    let ending = place.map { ["", "  Wrote \($0.path.printable), for --deviations."] } ?? []
    if output.json {
      try StandardOutput.print(json: report, advice: advice)
    } else {
      try StandardOutput.print((report.lines + ending).joined(separator: "\n").wrapped(), advice: advice)
    }
    try page.write(Page(report), to: pagePlace, isQuiet: output.json, logger: output.logger)
  }
}

extension CalibrationReport.Estimator: ExpressibleByArgument {}

extension CalibrationReport {
  var lines: [String] {
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
    return [model.printable] + chunking.text(count: count, texts: texts, precision: precision) + ["", table.text]
      + warnings.map { "  Warning: \($0.printable)" }
  }
}
