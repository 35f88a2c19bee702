import ArgumentParser
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldProcesses
import NormFoldReport

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract:
      "Measures the loss of a text under a model, or how well a network labels texts or predicts numbers of words.",
    usage: """
      normfold eval MODEL (--text FILE... | --tokens FILE) [--compare OTHER] [OPTIONS]
      normfold eval CLASSIFIER --labels FILE.tsv [OPTIONS]
      normfold eval EYE-TRACKING-MODEL --table FILE.csv [OPTIONS]
      normfold eval ENCODER --sentences FILE.txt [OPTIONS]
      normfold eval VIT-OF-SEVERAL-TASKS --images FILE... [OPTIONS]
      """,
    discussion: """
      By default the text is cut as the LN-removal papers cut theirs: chunks as long as the context, one behind the \
      other, no token prepended, the remainder dropped; all tokens of a chunk but its first are scored. The report says \
      how it was cut. Started by mpirun, processes share the text out. Options on how to read a checkpoint are of MODEL; OTHER is read as it stands.

      A file of labels has an example a line: a text, for pairs a second one, and the label, by its name or number, with \
      tabs between. A table of words has a header, a word a line, and for each the numbers that the network reads and \
      those that it predicts. Of an encoder, each line of a file becomes a vector as sentence-transformers makes it, and \
      cosines say which lines are near each other (Documentation/Encoders.md). Pictures are compared with the keys of the tasks that a ViT has \
      norms for (Documentation/Vision.md).

      EXAMPLES
        normfold eval gpt2-lnfree/ --text book.txt
        normfold eval gpt2/ --tokens val.bin --limit 100000 --compare gpt2-lnfree/
        normfold eval gpt2/ --text book.txt --deviations std.json --compare gpt2/
        normfold eval gpt2/ --text book.txt --context 512 --stride 256 --json
        normfold eval out/ --text book.txt --compare gpt2/ --report report.html
        normfold eval out/ --text book.txt --arithmetic int:8,12
        normfold eval bert-sst2/ --labels test.tsv
        normfold eval eye-tracking/model.pth --table words.csv
        normfold eval paraphrase-minilm-l3/ --sentences lines.txt
        normfold eval continual/model.pth --images cat.ppm dog.ppm
      """)

  @Argument(help: .checkpoint, completion: .file())
  var model: String

  @OptionGroup var measurement: MeasurementOptions

  @Option(
    help: ArgumentHelp(
      "Label the texts of a file, an example a line: text, second text for pairs, label; tabs between.",
      valueName: "file.tsv"), completion: .file())
  var labels: String?

  @Option(
    help: ArgumentHelp(
      "Predict the numbers of a table of words: sentence_id, word, what is read of each and what was measured.",
      valueName: "file.csv"), completion: .file())
  var table: String?

  @Option(
    help: ArgumentHelp(
      "Make a vector of each line of a file, and say which lines are near each other.", valueName: "file.txt"),
    completion: .file())
  var sentences: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Say which task pictures belong to: PPM of the network's size, or .safetensors with pixel_values.",
      valueName: "file"), completion: .file())
  var images: [String] = []

  @Option(
    help: ArgumentHelp(
      "Start each chunk so many tokens behind the one before, and score only what is new in it.", valueName: "tokens"))
  var stride: Int?

  @Option(help: ArgumentHelp("Hold another checkpoint against it, on the same tokens.", valueName: "checkpoint"))
  var compare: String?

  @Flag(help: "Compute norms as the checkpoint's own runtime does, with a large epsilon, not as what they mean.")
  var asStored = false

  @Flag(help: "Replace an existing report.")
  var force = false

  @OptionGroup var integers: IntegerOptions
  @OptionGroup var input: InputOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    let options = [
      ("--labels", labels != nil), ("--table", table != nil), ("--sentences", sentences != nil),
      ("--images", !images.isEmpty),
    ].filter(\.1)
    guard let option = options.first?.0 else { return try measurement.requireTokens() }
    if options.count > 1 { throw ValidationError("expected \(option) or \(options[1].0), found both") }
    let takesIntegers = labels != nil || sentences != nil
    let isAlone =
      measurement.isEmpty && stride == nil && compare == nil && !asStored
      && (takesIntegers || integers.arithmetic.isEmpty) && page.report == nil
    guard isAlone else {
      throw ValidationError(
        "\(option) goes with --tokenizer, --precision\(takesIntegers ? ", --arithmetic" : "") and options on reading, and with "
          + "no others")
    }
  }

  func run() throws {
    if let labels { return try label(labels) }
    if let table { return try predict(table) }
    if let sentences { return try compareSentences(sentences) }
    if !images.isEmpty { return try selectTasks() }
    try LaunchedProcesses.run { try evaluate(in: $0) }
  }

  private func evaluate(in processes: any ProcessGroup) throws -> ExitStatus {
    var evaluation = Evaluation(measurement.input(model: model, options: input, threads: threads))
    if threads.threads == nil { evaluation.input.workers = processes.workers }
    evaluation.input.chunking.stride = stride
    evaluation.other = compare
    evaluation.computesNormsAsStored = asStored
    (evaluation.integers, evaluation.otherIntegers) = try integers.integers()
    let isReporting = processes.rank == 0
    let place = try processes.together { () throws(Refusal) -> Destination? in
      guard isReporting else { return nil }
      return try page.destination(replacing: force)
    }
    let report = try output.withProgress { try evaluation.run(in: processes, progress: $0.measuring(in: processes)) }
    if isReporting {
      try output.print(report, as: report.text, options: evaluation)
      try page.write(Page(report), of: report, options: evaluation, to: place, with: output)
    }
    return report.loss.nonFiniteTokenCount > 0 ? .nonFinite : .success
  }
}

extension EvalCommand {
  /// Returns a measurement of a network that continues no text, with the options on reading, precision and threads,
  /// which are the only ones that count for it.
  private func configured<Measurement: ModelMeasurement>(_ measurement: Measurement) -> Measurement {
    let source = self.measurement.input(model: model, options: input, threads: threads)
    var configured = measurement
    configured.precision = source.precision
    configured.readingOptions = source.readingOptions
    configured.workers = source.workers
    return configured
  }

  private func label(_ file: String) throws {
    var evaluation = configured(LabelEvaluation(model: model, labels: file))
    evaluation.integers = try integers.single()
    let report = try output.withProgress { try evaluation.run(progress: $0.measuring) }
    try output.print(report, as: report.text, options: evaluation)
    if report.nonFiniteCount > 0 { throw ExitStatus.Verdict(status: .nonFinite) }
  }

  private func predict(_ table: String) throws {
    let evaluation = configured(WordEvaluation(model: model, table: table))
    let report = try output.withProgress { try evaluation.run(progress: $0.measuring) }
    try output.print(report, as: report.text, options: evaluation)
    if report.nonFiniteCount > 0 { throw ExitStatus.Verdict(status: .nonFinite) }
  }

  private func compareSentences(_ file: String) throws {
    var vectors = configured(SentenceVectors(model: model, sentences: file))
    vectors.integers = try integers.single()
    let report = try output.withProgress { try vectors.run(progress: $0.measuring) }
    try output.print(report, as: report.text, options: vectors)
    if report.nonFiniteCount > 0 { throw ExitStatus.Verdict(status: .nonFinite) }
  }

  private func selectTasks() throws {
    let selection = configured(TaskSelection(model: model, images: images))
    let report = try selection.run()
    try output.print(report, as: report.text, options: selection)
  }
}

extension TaskSelectionReport {
  var text: String {
    let count = images.first?.similarities.count ?? 0
    var table = Table(
      columns: [("picture", .left), ("task", .right)] + (0..<count).map { ("cosine to \($0)", .right) })
    for image in images {
      table.add(
        cells: [image.name.printable, "\(image.task)"] + image.similarities.map { Quantity.fixed($0, digits: 5) })
    }
    let lines = [
      model.printable, "  states of the class token behind the untuned norms; \(precision.displayName)", "", table.text,
    ]
    return (lines + warnings.map { "  Warning: \($0.printable)" }).joined(separator: "\n")
  }
}

extension SentenceReport {
  var text: String {
    let cut = texts.count(where: \.isCut)
    var table = Table(["line": .right, "text": .left, "nearest": .right, "cosine": .right])
    for item in texts {
      table.add(
        "\(item.line)", item.text.printable, item.nearest.map { "\($0)" } ?? "",
        item.cosine.map { Quantity.fixed($0, digits: 5) } ?? "")
    }
    let count = texts.count == 1 ? "1 text" : "\(Quantity.count(texts.count)) texts"
    var lines = [
      model.printable,
      "  \(count) of \(sentences.printable)\(cut > 0 ? ", \(Quantity.count(cut)) cut" : ""); vectors: "
        + "\(pooling)\(isNormalised ? ", normalised" : ""); \(precision.displayName)", "", table.text,
    ]
    if let integers {
      var table = Table(["in \(integers.arithmetic.name), against floating point": .left, "": .right])
      table.add("cosine of a text's two vectors, mean", Quantity.fixed(integers.meanCosine, digits: 6))
      table.add("  smallest", Quantity.fixed(integers.smallestCosine, digits: 6))
      table.add("same nearest text", Quantity.percent(integers.nearestAgreement))
      lines += ["", table.text] + integers.overflows.text(in: integers.arithmetic)
    }
    if nonFiniteCount > 0 {
      lines.append("  NOT FINITE, or zero: \(Quantity.count(nonFiniteCount)) vectors, which are near to none.")
    }
    return (lines + warnings.map { "  Warning: \($0.printable)" }).joined(separator: "\n")
  }
}

extension WordReport {
  var text: String {
    var errors = Table(["prediction": .left, "mean absolute error": .right, "R²": .right])
    for target in targets {
      errors.add(
        target.name, Quantity.fixed(target.meanAbsoluteError, digits: 5),
        Quantity.fixed(target.determination, digits: 5))
    }
    errors.add("mean", Quantity.fixed(meanAbsoluteError, digits: 5), "")
    var lines = [
      model.printable,
      "  on \(Quantity.count(wordCount)) words in \(Quantity.count(sentenceCount)) sentences of \(table.printable); "
        + precision.displayName, "", errors.text,
    ]
    if nonFiniteCount > 0 {
      lines.append("  NOT FINITE on \(nonFiniteCount) words, which are in none of these numbers.")
    }
    return (lines + warnings.map { "  Warning: \($0.printable)" }).joined(separator: "\n")
  }
}

extension LabelReport {
  var text: String {
    let cut = cutCount > 0 ? ", \(Quantity.count(cutCount)) cut to the context" : ""
    var table = Table(["": .left, "found": .right])
    table.add("accuracy", Quantity.percent(accuracy))
    table.add("loss, mean in nats", Quantity.fixed(loss, digits: 5))
    var labels = Table(["label": .left, "examples": .right, "right": .right])
    for label in byLabel {
      labels.add(label.name.printable, Quantity.count(label.count), Quantity.count(label.correctCount))
    }
    var lines = [
      model.printable,
      "  on \(Quantity.count(count)) examples of \(self.labels.printable)\(cut); \(precision.displayName)", "",
      table.text, "", labels.text,
    ]
    if let integers {
      var table = Table(["in \(integers.arithmetic.name), against floating point": .left, "": .right])
      table.add("accuracy in floating point", Quantity.percent(integers.floatAccuracy))
      table.add("loss in floating point", Quantity.fixed(integers.floatLoss, digits: 5))
      table.add("KL divergence, mean in nats", Quantity.short(integers.divergence))
      table.add("same label", Quantity.percent(integers.labelAgreement))
      lines += ["", table.text] + integers.overflows.text(in: integers.arithmetic)
    }
    if nonFiniteCount > 0 { lines.append("  NOT FINITE on \(nonFiniteCount) examples, which count as wrong.") }
    return (lines + warnings.map { "  Warning: \($0.printable)" }).joined(separator: "\n")
  }
}

extension EvaluationReport {
  var text: String {
    let count =
      "\(Quantity.count(loss.tokenCount)) scored tokens in \(Quantity.count(chunkCount)) chunks"
      + (droppedTokenCount > 0 ? ", \(droppedTokenCount) dropped" : "")
    var lines = [model.printable] + chunking.text(count: count, texts: texts, precision: precision)
    let second = integers.map { ("in floating point", $0.floatLoss) } ?? comparison.map { ("of the other", $0.loss) }
    let first = integers.map { "loss in \($0.arithmetic.name)" } ?? "loss"
    var table = Table(
      second.map { ["": .left, first: .right, $0.0: .right] } ?? ["": .left, first: .right])
    func add(_ name: String, _ value: (LossStatistics) -> String) {
      if let second { table.add(name, value(loss), value(second.1)) } else { table.add(name, value(loss)) }
    }
    func interval(_ interval: LossStatistics.Interval) -> String {
      "\(Quantity.fixed(interval.lower, digits: 4)) … \(Quantity.fixed(interval.upper, digits: 4))"
    }
    add("mean, in nats per token") { Quantity.fixed($0.mean, digits: 5) }
    add("  standard error") { Quantity.fixed($0.standardError, digits: 5) }
    add("perplexity") { Quantity.fixed($0.perplexity, digits: 3) }
    add("median") { Quantity.fixed($0.median, digits: 4) }
    add("central 95% of tokens") { interval($0.central95) }
    add("central 99.9% of tokens") { interval($0.central999) }
    add("largest") { Quantity.fixed($0.largest, digits: 4) }
    lines += ["", table.text]
    if let comparison {
      var differences = Table(["\(comparison.model.printable), the other, against it": .left, "": .right])
      differences.add("difference of mean losses, in nats", signed(comparison.lossDifference))
      differences.add("KL divergence, mean in nats", Quantity.short(comparison.meanDivergence))
      differences.add("Jensen-Shannon divergence, mean in nats", Quantity.short(comparison.meanJensenShannon))
      differences.add("same top-1 token", Quantity.percent(comparison.top1Agreement))
      lines += ["", differences.text]
      if comparison.unjudgedTokenCount > 0 {
        lines.append("  Not finite in one of them, and in no divergence: \(comparison.unjudgedTokenCount) tokens.")
      }
    }
    if let integers {
      var differences = Table(["in integers, against floating point": .left, "": .right])
      differences.add("difference of mean losses, in nats", signed(loss.mean - integers.floatLoss.mean))
      differences.add("KL divergence, mean in nats", Quantity.short(integers.divergence.mean))
      differences.add("KL divergence, largest", Quantity.short(integers.divergence.largest))
      differences.add("same top-1 token", Quantity.percent(integers.top1Agreement))
      lines += ["", differences.text]
      lines += integers.overflows.text(in: integers.arithmetic)
      lines += otherText
    }
    if loss.nonFiniteTokenCount > 0 {
      lines.append("  NOT FINITE on \(loss.nonFiniteTokenCount) tokens, which are in none of these numbers.")
    }
    lines += warnings.map { "  Warning: \($0.printable)" }
    return lines.joined(separator: "\n")
  }

  /// A table of all integers, where there are several.
  private var otherText: [String] {
    guard let integers, !otherIntegers.isEmpty else { return [] }
    var table = Table([
      "integers": .left, "loss": .right, "KL mean": .right, "KL largest": .right, "same top-1": .right,
    ])
    func add(_ name: String, _ loss: Double, _ divergence: IntegerEvaluation.Divergence, _ agreement: Double) {
      table.add(
        name, Quantity.fixed(loss, digits: 5), Quantity.scientific(divergence.mean),
        Quantity.scientific(divergence.largest), Quantity.percent(agreement))
    }
    add(integers.arithmetic.name, loss.mean, integers.divergence, integers.top1Agreement)
    for other in otherIntegers { add(other.arithmetic.name, other.meanLoss, other.divergence, other.top1Agreement) }
    return ["", table.text] + otherIntegers.flatMap { $0.overflows.text(in: $0.arithmetic) }
  }

  private func signed(_ value: Double) -> String { (value > 0 ? "+" : "") + Quantity.short(value) }
}

extension [IntegerOverflow] {
  /// A line that says what did not fit, if anything.
  fileprivate func text(in arithmetic: IntegerArithmetic) -> [String] {
    guard let worst = first else { return [] }
    return [
      "  OVERFLOW: \(Quantity.count(reduce(0) { $0 + $1.count })) numbers did not fit into \(arithmetic.name), "
        + "most of them at \(worst.path) (\(Quantity.count(worst.count)))."
    ]
  }
}
