import ArgumentParser
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldReport
import NormFoldVerify

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Holds the logits of one checkpoint against those of another.",
    usage: "normfold verify REFERENCE CANDIDATE [OPTIONS]",
    discussion: """
      Every matrix, table, bias and norm of the candidate is held against that of the reference, with what was folded \
      into it: no weight may be farther off than rounding to its type can put it. Then the candidate is run in single \
      precision against the reference in double precision on some tokens; the limit is what rounding alone does to the \
      reference on the same tokens. Exit status 7 says that they are not the same network.

      EXAMPLES
        normfold verify gpt2-lnfree/ out/
        normfold verify gpt2-lnfree/ out/ --probe-length 64 --seed 7 --json
        normfold verify gpt2-lnfree/ out/ --text book.txt
        normfold verify gpt2-lnfree/ out/ --report report.html --force
        normfold verify gpt2-lnfree/ out/ --arithmetic int:8,12
        normfold verify gpt2/ gpt2-onnx/model.onnx
      """)

  @Argument(help: "The checkpoint that is right.", completion: .file())
  var reference: String

  @Argument(help: "The checkpoint or ONNX graph in question.", completion: .file())
  var candidate: String

  @Flag(help: "Let all logits of a position be off by one constant, as --center-unembed makes them.")
  var upToShift = false

  @Option(
    help: ArgumentHelp(
      "Where the tokenizer lies, if not beside the reference: a directory or a GGUF file.", valueName: "path"))
  var tokenizer: ReadingOptions.Tokenizer?

  @Flag(help: "Replace an existing report.")
  var force = false

  @OptionGroup var integers: IntegerOptions
  @OptionGroup var input: InputOptions
  @OptionGroup var verification: VerificationOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    var run = VerificationRun(reference: reference, candidate: candidate)
    run.isUpToShift = upToShift
    run.readingOptions = input.readingOptions(tokenizer: tokenizer)
    run.probeOptions = verification.probeOptions
    run.workers = threads.workers
    (run.integers, run.otherIntegers) = try integers.integers()
    let destination = try page.destination(replacing: force)
    let report = try output.withProgress { try run.run(progress: $0.handler) }
    try output.print(
      report, as: report.text, options: run, verdict: report.verdict, holds: report.holds)
    try page.write(Page(report), of: report, options: run, to: destination, with: output)
    if !report.holds { throw ExitStatus.Verdict(status: .mismatch) }
  }
}

extension VerificationRun.Report {
  var text: String {
    var table = Table(["": .left, "float64": .right, "float32": .right, "limit": .right])
    table.add(
      "largest |Δ \(judgement.noun)| / largest |\(judgement.noun)|",
      Quantity.scientific(judgement.double.logits.relative),
      Quantity.scientific(judgement.single.logits.relative),
      isUpToShift ? "" : Quantity.scientific(judgement.limits.logits / largestLogit))
    table.add(
      "root mean square |Δ \(judgement.noun)|", Quantity.scientific(judgement.double.logits.rootMeanSquare),
      Quantity.scientific(judgement.single.logits.rootMeanSquare), "")
    if let limit = judgement.limits.cosineDistance {
      table.add(
        "1 − cosine, largest", Quantity.scientific(judgement.double.logits.cosineDistance ?? .nan),
        Quantity.scientific(judgement.single.logits.cosineDistance ?? .nan), Quantity.scientific(limit))
    }
    if judgement.limits.isOfDistribution {
      table.add(
        "largest |Δ log-probability|", Quantity.scientific(judgement.double.logits.largestLogProbability),
        Quantity.scientific(judgement.single.logits.largestLogProbability),
        isUpToShift ? Quantity.scientific(judgement.limits.logits) : "")
      table.add(
        "KL divergence, mean (nats)", Quantity.scientific(judgement.double.logits.meanDivergence),
        Quantity.scientific(judgement.single.logits.meanDivergence), Quantity.scientific(judgement.limits.divergence))
      table.add(
        "same top-1 token", Quantity.percent(judgement.double.logits.top1Agreement),
        Quantity.percent(judgement.single.logits.top1Agreement), Quantity.percent(judgement.limits.agreement))
    }
    var lines = ["\(candidate.printable) against \(reference.printable)"]
    lines += partsText
    lines += [
      "  on \(tokenCount) tokens: \(probes.joined(separator: ", "))", "", table.text, "",
    ]
    if let long = judgement.long {
      lines.append(
        "  On \(long.single.logits.tokenCount) of these tokens both were run in single precision only: "
          + "\(Quantity.scientific(long.single.logits.largest(upToShift: isUpToShift) / largestLogit)), "
          + "limit \(Quantity.scientific(long.limits.logits / largestLogit)).")
    }
    let worst = judgement.single.logits.worst
    lines.append(
      "  Worst: \(worst.probe), position \(worst.position), token \(worst.token): "
        + "\(Quantity.scientific(abs(worst.found - worst.expected))) from \(Quantity.short(worst.expected)).")
    if let residual = judgement.single.residuals.last {
      lines.append(
        "  Residual stream behind the last block: \(Quantity.scientific(residual.relative)) of its largest value.")
    }
    if !overflows.isEmpty {
      lines.append("  The reference itself overflows on \(overflows.count) tokens, which were not judged.")
    }
    let nonFiniteTokenCount = judgement.single.logits.nonFiniteTokenCount
    if nonFiniteTokenCount > 0 {
      lines.append(
        "  The candidate's logits are NaN or infinite on \(nonFiniteTokenCount) tokens on which the reference's are finite; "
          + "the numbers above are of the others.")
    }
    lines += (judgement.overflow.map { ["  \($0.sentence)"] } ?? [])
    lines += integers?.text ?? []
    lines += otherIntegers.flatMap(\.text)
    lines += warnings.map { "  Warning: \($0.printable)" }
    lines += ["", verdict.toned(Tone(holds))]
    return lines.joined(separator: "\n")
  }

  /// Says whether all parts are the same, and what differs.
  private var partsText: [String] {
    guard let parts = judgement.parts else { return [] }
    var lines = ["  \(parts.summary)."]
    lines += parts.failureSentences().map { "  \($0.printable)" }
    lines += parts.notes.map { "  Note: \($0.printable)." }
    lines += parts.notCompared.map { "  Not compared part by part: \($0.printable)." }
    return lines
  }
}
