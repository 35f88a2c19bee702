import ArgumentParser
import NormFold
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldReport
import NormFoldVerify

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Folds the norms of a checkpoint, verifies the logits, and writes the result for a runtime.",
    usage: "normfold convert SOURCE DESTINATION --for TARGET... [OPTIONS]",
    discussion: """
      The output is written beside the destination, opened again, verified, and renamed into place only when every \
      claim holds. An existing destination is kept unless --force is given, and survives whole if anything fails.

      TARGETS
      \(ConversionPlan.targetSummaries.wrapped(to: 80))

      EXAMPLES
        normfold convert gpt2-lnfree/ out/ --for transformers
        normfold convert model.safetensors out/ --for transformers gpt2 --type bf16
        normfold convert gpt2-lnfree/ out/ --for gpt2 --force --json > report.json
        normfold convert gpt2-lnfree/ out/ --for llama.cpp --type q8_0
        normfold convert schaeff/gpt2-small_LNFree300 out/ --for transformers
        normfold convert model.gguf out/ --for transformers
        normfold convert lns-1b/ out/ --for llama.cpp --norm-scaling lns
        normfold convert gpt2-lnfree/ out/ --for gpt2 --report report.html
        normfold convert gpt2/ out/ --for onnxruntime --to-norm rms
        normfold convert Qwen3-0.6B/ out/ --for transformers --to-norm unit
        normfold convert Llama-3.1-8B/ out/ --for transformers --max-shard-size 2GB
        normfold convert bert/ out/ --adapter ln/ --for transformers --allow-partial
        normfold convert vit-base/ out/ --for transformers onnxruntime --to-norm unit
        normfold convert model.pth out/ --for transformers --task all --allow-partial
      """)

  @Argument(help: .checkpoint, completion: .file())
  var source: String

  @Argument(help: "The directory that is to appear.", completion: .directory)
  var destination: String

  @Option(
    name: .customLong("for"), parsing: .upToNextOption,
    help: ArgumentHelp(
      "What the output is for, a name from TARGETS; with several, each gets a directory of its name.",
      valueName: "target"), completion: .list(Conversion.knownTargets))
  var targets: [String]

  @OptionGroup var written: ConversionOptions

  @Flag(help: "Replace an existing destination, once every claim holds.")
  var force = false

  @Flag(inversion: .prefixedNo, help: "Open the output again and hold it against the source before it appears.")
  var verify = true

  @Option(
    help: ArgumentHelp(
      "What tells the files of the source and of the output from others: the SHA-256 of the SHA-256s of pieces of 16 MiB, "
        + "which several cores compute, or the plain one.", valueName: "sha256-tree-16M|sha256"))
  var digest = DigestAlgorithm.tree

  @OptionGroup var integers: IntegerOptions
  @OptionGroup var input: InputOptions
  @OptionGroup var verification: VerificationOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if input.task == .all, output.json || page.report != nil {
      throw ValidationError("--task all: writes a report for each task; name one task for --json or --report")
    }
  }

  func run() throws {
    guard input.task == .all else { return try convert(to: self.destination, reading: reading) }
    guard let count = try Conversion.taskCount(of: source) else {
      // What a network without tasks says of one.
      var reading = reading
      reading.task = 0
      return try convert(to: self.destination, reading: reading)
    }
    _ = try Destination(directory: self.destination, replacing: force)
    for task in 0..<count {
      var reading = reading
      reading.task = task
      try convert(to: "\(self.destination)/task-\(task)", reading: reading)
    }
  }

  private var reading: ReadingOptions { input.readingOptions(tokenizer: written.tokenizer) }

  private func convert(to place: String, reading: ReadingOptions) throws {
    var conversion = try written.conversion(
      of: source, to: place, for: targets, reading: reading)
    conversion.replacesDestination = force
    conversion.verifies = verify
    conversion.workers = threads.workers
    conversion.digest = digest
    (conversion.integers, conversion.otherIntegers) = try integers.integers()
    conversion.probeOptions = verification.probeOptions
    let destination = try page.destination(replacing: force)
    try destination?.refuse(in: Destination(directory: place, replacing: force))
    let report = try output.withProgress { try conversion.run(logger: output.logger, progress: $0.handler) }
    try output.print(
      report, as: report.text, options: conversion, verdict: report.verdict, holds: report.holds,
      advice: report.published ? "the output itself is in place" : "")
    try page.write(Page(report), of: report, options: conversion, to: destination, with: output)
    if !report.holds { throw ExitStatus.Verdict(status: .mismatch) }
  }
}

extension ConversionReport {
  /// One line.
  var verdict: String {
    guard holds else { return "\(source.printable): \(failures.count) claims do not hold; nothing was written." }
    let places = outputs.map(\.directory.printable).joined(separator: ", ")
    return verification == nil ? "\(places): written, and not verified." : "\(places): every claim holds."
  }

  var text: String {
    var lines = ["\(source.printable): \(dialect)"]
    if let verification { lines += probesText(verification) }
    lines += warnings.map { "  Warning: \($0.printable)" }
    if holds {
      for output in outputs {
        lines.append(
          "  Wrote \(output.directory.printable) for \(output.target): \(Quantity.bytes(output.byteCount)), "
            + "\(output.foldedNormCount) norms folded, \(output.rest).")
        lines += output.notes.map { "  Note: \($0.text(naming: .flags))" }
      }
    } else {
      lines += failures.map { "  \($0)" }
      lines.append("  " + "Nothing was written.".toned(.bad))
    }
    lines += integers?.text ?? []
    lines += otherIntegers.flatMap(\.text)
    guard let verification else {
      return (lines + ["  Nothing was verified; 'normfold verify' holds the output against the source."]).joined(
        separator: "\n")
    }
    let noun = verification.targets.first?.judgement.noun ?? "logit"
    let shifts = verification.targets.contains { $0.judgement.isUpToShift }
    lines += [
      "",
      "  Differences are the largest of any \(noun)\(shifts ? " or log-probability" : ""), as a share of the largest \(noun).",
      "", claimsTable(verification).text,
    ]
    return lines.joined(separator: "\n")
  }

  private func probesText(_ verification: Verification) -> [String] {
    var lines: [String] = []
    if let literal = verification.literal { lines += literalText(literal.logits) }
    lines.append(
      "  Probes of \(Quantity.count(verification.tokenCount)) tokens: \(verification.probes.joined(separator: ", ")).")
    if !verification.overflows.isEmpty {
      lines.append(
        "  The source itself overflows on \(verification.overflows.count) tokens, which were not judged: "
          + "\(verification.overflows.prefix(3).joined(separator: "; ")).")
    }
    return lines
  }

  /// Says what it means that the source, as it is stored, is not exactly the network with fixed norms.
  private func literalText(_ difference: LogitDifference) -> [String] {
    guard changesFunction else {
      return [
        "  With its epsilon as stored, its logits are within \(Quantity.scientific(difference.relative)) of those of exactly fixed norms."
      ]
    }
    return [
      "  CHANGES THE FUNCTION: with the norms computed, as stored, the logits differ by up to "
        + "\(Quantity.short(difference.largest)),",
      "  KL divergence \(Quantity.short(difference.meanDivergence)) nats, same top-1 token "
        + "\(Quantity.percent(difference.top1Agreement)). The claims are against the fixed norms.",
    ]
  }

  /// The three claims of each output, with their numbers.
  private func claimsTable(_ verification: Verification) -> Table {
    var table = Table(["output": .left, "claim": .left, "found": .right, "limit": .right, "": .left])
    for verdict in verdicts {
      for (index, measure) in verdict.measures.enumerated() {
        table.add(
          index == 0 ? verdict.output.target : "", (measure.isDetail ? "  " : "") + measure.name,
          measure.valueText,
          measure.limitText, measure.holds.map { $0 ? "holds" : "FAILS" } ?? "",
          tone: measure.holds.map(Tone.init))
      }
    }
    table.footnote = limitsFootnote(verification)
    return table
  }
}
