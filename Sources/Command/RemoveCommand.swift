import ArgumentParser
import Arithmetic
import Formats
import Measurement
import Networks
import NormFold
import Report
import Training

struct RemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Takes the norms out of a checkpoint by fine-tuning, then folds and verifies the result.",
    usage:
      "normfold remove SOURCE DESTINATION (--text FILE... | --tokens FILE) --recipe NAME|FILE --for TARGET... [OPTIONS]",
    discussion: """
      One norm after another is fixed at a deviation that was measured while it was still computed, as a schedule says, \
      while the network is trained on as a language model (arXiv 2409.13710, 2507.02559). The run is saved in \
      DESTINATION.removal every --save-every steps, as a training checkpoint that 'inspect', 'eval' and 'convert' read; \
      --resume goes on from there, with the same bits as a run that was not interrupted. At the end the result is \
      converted to DESTINATION as 'convert' does it.

      RECIPES
      \(Recipe.published.map { "  \($0.name)\(String(repeating: " ", count: max(1, 18 - $0.name.count)))\($0.summary)" }.joined(separator: "\n"))
        or a JSON file with the keys context, batch, micro_batches, steps, lr,
        min_lr, warmup, betas, adam_eps, weight_decay, clip, momentum, aux_weight,
        masked_target, end_of_text, planned_steps, shuffle, abort and schedule.
        Documentation/Removal.md explains them.

      EXAMPLES
        normfold remove gpt2/ lnfree/ --text owt/*.txt --recipe gpt2-small-aux --for transformers
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe my.json --log steps.jsonl --for gpt2
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe my.json --resume --for gpt2
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe gpt2-small-aux --plan --cores 64 --for gpt2
        normfold remove gpt2/ control/ --tokens train.bin --recipe my.json --no-removal --for transformers
      """)

  @Argument(help: "The checkpoint to start from, as transformers stores it; every norm is still computed.")
  var source: String

  @Argument(help: "The directory that is to appear. The training checkpoint lies beside it, in DESTINATION.removal.")
  var destination: String

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Texts in UTF-8, read with the model's tokenizer, the end-of-text token between two.", valueName: "file"))
  var text: [String] = []

  @Option(
    help: ArgumentHelp(
      "Token ids instead: decimal with white space between, or, in a file called .bin, little-endian 16-bit numbers, which is not loaded into memory.",
      valueName: "file"))
  var tokens: String?

  @Option(help: ArgumentHelp("What the run is to do: a name from RECIPES, or a file.", valueName: "name|file"))
  var recipe: String

  @Option(
    name: .customLong("for"), parsing: .upToNextOption,
    help: ArgumentHelp("What the result is for, as of 'convert'.", valueName: "target"))
  var targets: [String]

  @Option(help: ArgumentHelp("What parameters, gradients and moments are.", valueName: "single|double"))
  var precision = Precision.single

  @Option(help: ArgumentHelp("Write one JSON object for each step.", valueName: "file"))
  var log: String?

  @Option(help: ArgumentHelp("Steps from one checkpoint to the next.", valueName: "steps"))
  var saveEvery = 100

  @Flag(help: "Go on from DESTINATION.removal, if it is there.")
  var resume = false

  @Flag(help: "The control run: the same training with every norm left alone, and no auxiliary loss.")
  var noRemoval = false

  @Flag(help: "Keep less in memory: every block runs a second time on the way back.")
  var recompute = false

  @Flag(help: "Say what the run would do and need, and do nothing.")
  var plan = false

  @Option(help: ArgumentHelp("With --plan, the cores that the time is for.", valueName: "number"))
  var cores: Int?

  @Option(
    help: ArgumentHelp(
      "Where the tokenizer lies, if not beside the source: a directory or a GGUF file.", valueName: "path"))
  var tokenizer: ReadingOptions.Tokenizer?

  @Flag(help: "Replace an existing destination, once every claim holds.")
  var force = false

  @OptionGroup var threads: ThreadOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard text.isEmpty != (tokens == nil) else {
      throw ValidationError("expected --text with files, or --tokens with a file of ids")
    }
    if let cores, cores < 1 { throw ValidationError("--cores: expected at least 1, found \(cores)") }
    if saveEvery < 1 { throw ValidationError("--save-every: expected at least 1 step, found \(saveEvery)") }
  }

  func run() throws {
    var removal = Removal(source: source, destination: destination, targets: targets)
    removal.text = tokens.map { .tokens(file: $0) } ?? .text(files: text)
    removal.recipe = try Recipe(named: recipe)
    removal.precision = precision
    removal.removesNorms = !noRemoval
    removal.resumes = resume
    removal.savesEvery = saveEvery
    removal.log = log
    removal.recomputesBlocks = recompute
    removal.replacesDestination = force
    removal.readingOptions.tokenizer = tokenizer ?? .ofCheckpoint
    removal.workers = threads.workers
    if plan {
      let plan = try RemovalPlan(of: removal)
      return try output.print(plan, as: plan.text(cores: cores ?? threads.workers.count))
    }
    let place = try page.destination(replacing: force)
    try place?.refuse(in: Destination(directory: destination, replacing: force))
    let steps = StepLines(recipe: removal.recipe, isQuiet: output.quiet)
    let report = try output.withProgress { line in
      try removal.run(logger: output.logger, step: steps.show, progress: line.handler)
    }
    try output.print(report, as: report.text)
    try page.write(Page(report), to: place, with: output)
    if !report.conversion.holds { throw ExitStatus.Verdict(status: .mismatch) }
  }
}

/// Lines on standard error that say how far a run is: one for each step while norms are being fixed, or for every tenth.
private final class StepLines {
  private let recipe: Recipe
  private let isQuiet: Bool
  private let start = ContinuousClock.now
  private var count = 0

  init(recipe: Recipe, isQuiet: Bool) { (self.recipe, self.isQuiet) = (recipe, isQuiet) }

  func show(_ record: TrainingRecord) {
    count += 1
    guard !isQuiet else { return }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let isLast = record.step == recipe.steps - 1
    guard StandardError.isTerminal || isLast || !record.fixed.isEmpty || record.step % 10 == 0 else { return }
    let speed = Double(count * recipe.tokensPerStep) / seconds
    let left = seconds / Double(count) * Double(recipe.steps - 1 - record.step)
    var parts: [String] = [
      "step \(record.step + 1) of \(recipe.steps)", "loss \(Quantity.fixed(record.loss, digits: 4))",
      "gradient \(Quantity.short(record.gradientNorm))", "rate \(Quantity.scientific(record.rate))",
      "\(Quantity.short(speed)) tokens/s", "\(Quantity.duration(left)) left",
    ]
    if !record.fixed.isEmpty { parts.append("fixed \(record.fixed.joined(separator: ", "))") }
    StandardError.write(parts.joined(separator: "  ") + "\n")
  }
}

extension RemovalPlan {
  func text(cores: Int) -> String {
    let speed = "\(Quantity.short(operationsPerSecond / 1e9)) GFLOP/s a core"
    var lines = [
      "\(source.printable): \(Quantity.count(parameterCount)) parameters",
      "  \(Quantity.count(stepCount)) steps of \(Quantity.count(tokensPerStep)) tokens: \(Quantity.count(tokenCount)) tokens.",
    ]
    lines += switches.map { "  \($0.kind): fixed before steps \($0.firstStep) to \($0.lastStep)." }
    return
      (lines + [
        "  Memory: \(Quantity.bytes(byteCount)).",
        "  Products: \(Quantity.short(operationsPerToken / 1e9)) GFLOP a token, \(Quantity.scientific(operationCount)) in all.",
        "  Time: \(Quantity.duration(3_600 * hours(cores: cores))) on \(cores) cores, if each does three quarters of the "
          + "\(speed) that a product reaches on one core of this machine now.",
      ]).joined(separator: "\n")
  }
}

extension RemovalReport {
  var text: String {
    let kind = removesNorms ? "removal" : "control run, no norm removed"
    let fixed = records.reduce(0) { $0 + $1.fixed.count }
    return [
      "\(source.printable): \(kind), \(Quantity.count(records.count)) steps, \(Quantity.count(tokenCount)) tokens",
      "  Mean loss of the last \(min(20, records.count)) steps: \(Quantity.fixed(finalLoss, digits: 4)) nats; of the first: "
        + "\(Quantity.fixed(records.first?.loss ?? .nan, digits: 4)).",
      "  \(fixed) sites were fixed. The training checkpoint is \(checkpoint.printable).", "", conversion.text,
    ].joined(separator: "\n")
  }
}
