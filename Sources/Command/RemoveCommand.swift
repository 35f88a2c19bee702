import ArgumentParser
import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldProcesses
import NormFoldReport
import NormFoldTraining

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
        masked_target, end_of_text, planned_steps, shuffle, abort, validation,
        taper and schedule.
        Documentation/Removal.md explains them.

      EXAMPLES
        normfold remove gpt2/ lnfree/ --text owt/*.txt --recipe gpt2-small-aux --for transformers
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe my.json --log steps.jsonl --for gpt2
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe my.json --resume --for gpt2
        normfold remove gpt2/ lnfree/ --tokens train.bin --recipe gpt2-small-aux --plan --cores 64 --for gpt2
        normfold remove gpt2/ control/ --tokens train.bin --recipe my.json --no-removal --for transformers
        normfold remove gpt2/ out/ --tokens t.bin --recipe my.json --arithmetic int:8,12 --for gpt2
        mpirun -n 8 normfold remove gpt2/ lnfree/ --tokens train.bin --recipe gpt2-small --for gpt2
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

  @Option(
    help: ArgumentHelp(
      "Compute linear maps, embeddings and norms in integers, forward and back: int:W,A, W bits for weights and derivatives, A for "
        + "activations (Documentation/IntegerArithmetic.md).", valueName: "int:W,A"))
  var arithmetic: String?

  @Option(help: ArgumentHelp("Write one JSON object for each step.", valueName: "file"))
  var log: String?

  @Option(
    help: ArgumentHelp(
      "Write one JSON object for each measurement on the text that the recipe's 'validation' holds out.",
      valueName: "file"))
  var logEval: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Fix these kinds of norms only: ln_2, ln_1.qk, ln_1.v, ln_f. The others stay, which 'convert --allow-partial' takes.",
      valueName: "kind"))
  var sites: [String] = []

  @Option(
    help: ArgumentHelp(
      "Steps in which each norm goes over to its constant, instead of the recipe's 'taper'.", valueName: "steps"))
  var taper: Int?

  @Option(help: ArgumentHelp("Steps from one checkpoint to the next.", valueName: "steps"))
  var saveEvery = 100

  @Flag(help: "Go on from DESTINATION.removal, if it is there.")
  var resume = false

  @Flag(help: "The control run: the same training with every norm left alone, and no auxiliary loss.")
  var noRemoval = false

  @Flag(help: "Keep less in memory: every block runs a second time on the way back.")
  var recompute = false

  @Flag(help: "Under mpirun, each process keeps its share of the optimiser's moments only.")
  var shardOptimizer = false

  @Flag(help: "Say what the run would do and need, and do nothing.")
  var plan = false

  @Option(help: ArgumentHelp("With --plan, the cores of a machine that the time is for.", valueName: "number"))
  var cores: Int?

  @Option(help: ArgumentHelp("With --plan, the machines, with one process of an MPI each.", valueName: "number"))
  var nodes = 1

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
    if nodes < 1 { throw ValidationError("--nodes: expected at least 1, found \(nodes)") }
    if let taper, taper < 0 { throw ValidationError("--taper: expected a number of steps, found \(taper)") }
    if let cores, cores < 1 { throw ValidationError("--cores: expected at least 1, found \(cores)") }
    if saveEvery < 1 { throw ValidationError("--save-every: expected at least 1 step, found \(saveEvery)") }
  }

  func run() throws {
    try LaunchedProcesses.run { try run(in: $0) ? .success : .mismatch }
  }

  /// - Returns: whether every claim holds, as far as this process knows.
  private func run(in processes: any ProcessGroup) throws -> Bool {
    let isReporting = processes.rank == 0
    let (removal, place) = try processes.together { () throws(Refusal) -> (Removal, Destination?) in
      (try settings(for: processes), isReporting && !plan ? try page.destination(replacing: force) : nil)
    }
    if plan {
      guard isReporting else { return true }
      let plan = try RemovalPlan(of: removal)
      try output.print(plan, as: plan.text(cores: cores ?? removal.workers.count, machines: nodes))
      return true
    }
    try processes.together { () throws(Refusal) in
      try place?.refuse(in: Destination(directory: destination, replacing: force))
    }
    if isReporting, let notice = processes.bindingNotice { output.logger.warning("\(notice)") }
    let steps = StepLines(recipe: removal.recipe, isQuiet: output.quiet || !isReporting)
    let watchdog = processes.count > 1 ? Watchdog() : nil
    let report = try output.withProgress { line in
      try removal.runTogether(
        logger: isReporting ? output.logger : Logger(label: "normfold") { _ in SwiftLogNoOpLogHandler() },
        step: { record in
          watchdog?.note(record.step)
          steps.show(record)
          if record.step == removal.recipe.steps - 1 { watchdog?.rest() }
        }, progress: isReporting ? line.handler : { _ in })
    }
    guard let report else { return true }
    try output.print(
      report, as: report.text, options: removal, verdict: report.conversion.verdict, holds: report.conversion.holds)
    try page.write(Page(report), of: report, options: removal, to: place, with: output)
    return report.conversion.holds
  }

  private func settings(for processes: any ProcessGroup) throws(Refusal) -> Removal {
    var removal = Removal(source: source, destination: destination, targets: targets)
    removal.text = tokens.map { .tokens(file: $0) } ?? .text(files: text)
    removal.recipe = try Recipe(named: recipe)
    removal.precision = precision
    if let arithmetic { removal.integers = try IntegerArithmetic(parsing: arithmetic) }
    removal.removesNorms = !noRemoval
    removal.resumes = resume
    removal.savesEvery = saveEvery
    removal.log = log
    removal.validationLog = logEval
    if let taper { removal.recipe.taper = taper }
    removal.sites = sites
    removal.recomputesBlocks = recompute
    removal.sharesOptimizer = shardOptimizer
    removal.replacesDestination = force
    removal.readingOptions.tokenizer = tokenizer ?? .ofCheckpoint
    removal.workers = threads.threads == nil ? processes.workers : threads.workers
    removal.processes = processes
    removal.stops = StopRequest.isMade
    return removal
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
      "\(Quantity.count(Int(min(speed, 1e12)))) tokens/s", "\(Quantity.duration(left)) left",
    ]
    if !record.fixed.isEmpty { parts.append("fixed \(record.fixed.joined(separator: ", "))") }
    let line = parts.joined(separator: "  ")
    let width = StandardError.width
    StandardError.write((line.count <= width ? line : parts.joined(separator: " ").wrapped(to: width)) + "\n")
  }
}

extension RemovalPlan {
  /// Bytes in a second over a network of 10 and of 1 Gbit/s, as MPI reaches them by TCP.
  private static let networks = [("10 Gbit/s", 1.1e9), ("1 Gbit/s", 0.118e9)]

  func text(cores: Int, machines: Int) -> String {
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
        "  Time: \(Quantity.duration(3_600 * hours(cores: cores))) on \(cores) \(cores == 1 ? "core" : "cores"), if each does five sixths of the "
          + "\(speed) that products reach now while all cores of this machine multiply.",
      ] + (machines > 1 ? severalText(cores: cores, machines: machines) : [])).joined(separator: "\n")
  }

  private func severalText(cores: Int, machines: Int) -> [String] {
    let times = Self.networks.map { name, speed in
      "\(Quantity.duration(3_600 * hours(machines: machines, cores: cores, bytesPerSecond: speed))) over \(name)"
    }
    return [
      "  On \(machines) machines of \(cores) \(cores == 1 ? "core" : "cores"): \(times.joined(separator: ", ")). Each sends and receives "
        + "\(Quantity.bytes(Int(exchangedByteCount(processes: machines)))) a step.",
      "  With --shard-optimizer, \(Quantity.bytes(byteCount(sharedBy: machines))) on each of them.",
    ]
  }
}

extension RemovalReport {
  var text: String {
    let kind =
      (removesNorms ? "removal" : "control run, no norm removed") + (integers.map { " in \($0.name)" } ?? "")
    let fixed = records.reduce(0) { $0 + $1.fixed.count }
    return [
      "\(source.printable): \(kind), \(Quantity.count(records.count)) steps, \(Quantity.count(tokenCount)) tokens",
      "  Mean loss of the last \(min(20, records.count)) steps: \(Quantity.fixed(finalLoss, digits: 4)) nats; of the first: "
        + "\(Quantity.fixed(records.first?.loss ?? .nan, digits: 4)).",
      "  \(fixed) sites were fixed. The training checkpoint is \(checkpoint.printable).", "", conversion.text,
    ].joined(separator: "\n")
  }
}
