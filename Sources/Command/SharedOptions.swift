import ArgumentParser
import Glibc
import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldReport
import NormFoldVerify

extension ArgumentHelp {
  static let checkpoint: ArgumentHelp =
    "A checkpoint: a directory, one file with its config.json beside it, or the id of a model in the Hub's cache."
}

/// The options that every command takes.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON document instead of text.")
  var json = false

  @Flag(name: .shortAndLong, help: "Print the verdict only, where there is one, and neither progress nor notices.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Say more about what is being done.")
  var verbose = false

  @Option(
    help: ArgumentHelp(
      "When verdicts have a colour: auto is in a terminal, unless NO_COLOR is set.",
      valueName: "auto|always|never"))
  var color = ColorChoice.auto

  @Flag(
    help: ArgumentHelp(
      "Say on standard error how far the run is, one JSON object a line.", visibility: .hidden))
  var progressLines = false

  func validate() { ColorChoice.choose(color) }

  /// Diagnostics go to standard error; results are printed.
  var logger: Logger {
    var logger = Logger(label: "normfold") { _ in DiagnosticHandler() }
    logger.logLevel = quiet ? .error : verbose ? .info : .notice
    return logger
  }

  /// Does what takes long, behind a line that says how far it is.
  func withProgress<Result>(_ body: (ProgressLine) throws -> Result) rethrows -> Result {
    let line = ProgressLine(progressLines ? .lines : quiet ? .none : .bar)
    defer { line.finish() }
    return try body(line)
  }

  /// Prints a result: one JSON document where that was asked for, text otherwise.
  ///
  /// - Parameters:
  ///   - options: what the command was told, defaults included, for the document.
  ///   - verdict: what is left of the text with `--quiet`; nil where there is no verdict to tell from the rest.
  ///   - holds: whether it is a good one, which its colour says; nil for one without colour.
  ///   - advice: what a reader should know who does not get to see it.
  func print(
    _ result: some Encodable, as text: @autoclosure () -> String, options: (any Encodable)? = nil,
    verdict: String? = nil, holds: Bool? = nil, advice: Message = ""
  ) throws {
    if json {
      try StandardOutput.print(json: result, options: options, advice: advice)
    } else if quiet, let verdict {
      try StandardOutput.print(
        (holds.map { verdict.toned(Tone($0)) } ?? verdict).wrapped(), advice: advice)
    } else {
      try StandardOutput.print(text().wrapped(), advice: advice)
    }
  }
}

/// The options for what the files of an input leave open.
struct InputOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Merge this adapter of peft (LN_TUNING, LoRA) into the checkpoint; several are merged one after the other.",
      valueName: "directory"), completion: .directory)
  var adapter: [String] = []

  @Option(
    help: ArgumentHelp(
      "What the tensors of a home-made network are, as JSON; 'inspect --draft-layout' writes a first draft of it.",
      valueName: "file"), completion: .file(extensions: ["json"]))
  var layout: String?

  @Option(
    help: ArgumentHelp("Which unembedding counts where a tied checkpoint stores another one.", valueName: "stored|tied")
  )
  var head: ReadingOptions.Head?

  @Option(
    help: ArgumentHelp(
      "Fixed deviations for a checkpoint that has none of its own: std_dict and std_bos_dict as JSON, or one number for all "
        + "norms (1 where gains were divided by 1e6, as the published models' cards do).",
      valueName: "file|number"))
  var deviations: String?

  @Option(
    help: ArgumentHelp(
      "What differing entries of a deviation buffer stand for where width and context are equal.",
      valueName: "feature|position"))
  var deviationAxis: ReadingOptions.DeviationAxis?

  @Option(
    help: ArgumentHelp(
      "For nanoGPT checkpoints with --deviations: the step of gpt2_noLN's removal schedule, instead of iter_num.",
      valueName: "step"))
  var removalStep: Int?

  @Option(
    help: ArgumentHelp(
      "The norms were scaled in training, which no file says: lns for LayerNorm Scaling.", valueName: "lns"))
  var normScaling: NormScaling?

  @Flag(
    help: ArgumentHelp(
      "A NormFormer was trained by fairseq of 2021-10-19 to 2021-11-03, whose head scales also exchanged heads and features."
    ))
  var permutedHeadScales = false

  @Option(
    help: ArgumentHelp(
      "Which copy of a multiway network of torchscale counts; a decoder computes A alone.", valueName: "A|B"))
  var modality: ReadingOptions.Modality?

  @Flag(help: "Take the end-of-text token for a token like any other, whatever its buffers say.")
  var assumeEotDisabled = false

  @Option(
    help: ArgumentHelp(
      "The task whose norms count, from 0 on, in a ViT that has norms for several; 'convert' takes all, too, and writes a directory for each.",
      valueName: "number|all"))
  var task: TaskChoice?

  @Option(
    help: ArgumentHelp(
      "What stands in the places of norms without tensors: identity for nothing.", valueName: "identity"))
  var norms: ReadingOptions.MissingNorms?

  @Option(
    help: ArgumentHelp(
      "Take this off the names of tensors that begin with it; what known wrappers add (module., _orig_mod.) goes by itself.",
      valueName: "prefix"))
  var stripPrefix: [String] = []

  @Option(help: ArgumentHelp("Leave tensors of this name out of account; * stands for any part.", valueName: "name"))
  var ignore: [String] = []

  func validate() throws {
    if let number = deviations.flatMap(Double.init), !(number > 0 && number.isFinite) {
      throw ValidationError("--deviations: expected a positive number, or a file, found \(deviations ?? "")")
    }
  }

  /// - Parameter tokenizer: where it lies, if the user says so.
  func readingOptions(tokenizer: ReadingOptions.Tokenizer? = nil) -> ReadingOptions {
    var options = ReadingOptions()
    options.tokenizer = tokenizer ?? .ofCheckpoint
    options.adapters = adapter
    options.layout = layout
    options.head = head
    if let number = deviations.flatMap(Double.init) {
      options.deviation = number
    } else {
      options.deviations = deviations
    }
    options.missingNorms = norms
    if case .one(let number) = task { options.task = number }
    options.deviationAxis = deviationAxis
    options.removalStep = removalStep
    options.normScaling = normScaling
    options.permutesHeadScales = permutedHeadScales
    options.modality = modality
    options.assumesEndOfTextDisabled = assumeEotDisabled
    options.strippedPrefixes = stripPrefix
    options.ignoredTensors = ignore
    return options
  }
}

/// One task of several, or all of them.
enum TaskChoice: ExpressibleByArgument, Equatable {
  case one(Int)
  case all

  init?(argument: String) {
    if argument == "all" {
      self = .all
    } else if let number = Int(argument), number >= 0 {
      self = .one(number)
    } else {
      return nil
    }
  }
}

extension ReadingOptions.Head: ExpressibleByArgument {}
extension ReadingOptions.DeviationAxis: ExpressibleByArgument {}
extension ReadingOptions.MissingNorms: ExpressibleByArgument {}
extension ReadingOptions.Modality: ExpressibleByArgument {}
extension NormScaling: ExpressibleByArgument {}
extension DigestAlgorithm: ExpressibleByArgument {}

extension ReadingOptions.Tokenizer: ExpressibleByArgument {
  public init(argument: String) { self = argument == "none" ? .absent : .directory(argument) }
}

/// The options that say what is to be written, for a conversion and for its plan.
struct ConversionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The type that matrices are stored in: f32, f16, bf16; for llama.cpp also q8_0, q5_1, q5_0, q4_1, q4_0.",
      valueName: "type"), completion: .list(ElementType.allCases.filter(ConversionPlan.types.contains).map(\.rawValue)))
  var type = "f32"

  @Option(
    help: ArgumentHelp(
      "Where the tokenizer lies, if not beside the source: a directory or a GGUF file; none to write none.",
      valueName: "directory|file|none"), completion: .directory)
  var tokenizer: ReadingOptions.Tokenizer?

  @Flag(
    help:
      "Write for a runtime whose activation is only close (tanh GELU for the exact one), and measure the difference.")
  var allowApproximateActivation = false

  @Flag(help: "Fold what is fixed, and keep the norms that are still computed.")
  var allowPartial = false

  @Flag var rules: [FoldingRule] = []

  @Option(
    help: ArgumentHelp(
      "What norms that are still computed become: bare, which is called weightless, too (unit), RMSNorms (rms), or RMSNorms of "
        + "a stream with one feature less (crms).", valueName: "unit|rms|crms"))
  var toNorm: NormForm?

  @Option(
    name: .customLong("class"),
    help: ArgumentHelp(
      "The class to write for, by its model type, where a target has several that hold the network.", valueName: "name")
  )
  var className: String?

  @Option(
    help: ArgumentHelp(
      "The graph for onnxruntime: with a cache, or plain, of fixed length, from ids or embeddings to logits.",
      valueName: "cached|plain|plain-embeds"))
  var onnxForm = ONNXForm.cached

  @Option(
    help: ArgumentHelp(
      "How many tokens a plain graph takes; as many as the model has positions by default.",
      valueName: "tokens"))
  var onnxLength: Int?

  @Option(
    help: ArgumentHelp(
      "The size at which files for transformers are cut, with an index beside them: 5GB, 500MB.",
      valueName: "size"))
  var maxShardSize = ShardSize(byteCount: 5_000_000_000)

  /// A conversion with these options.
  func conversion(
    of source: String, to destination: String, for targets: [String], reading: ReadingOptions
  ) throws -> Conversion {
    var conversion = Conversion(source: source, destination: destination, targets: targets)
    conversion.type = try ElementType(argument: type)
    conversion.allowsApproximateActivation = allowApproximateActivation
    conversion.allowsPartial = allowPartial
    conversion.rules = rules
    conversion.normForm = toNorm
    conversion.className = className
    conversion.onnxForm = onnxForm
    conversion.onnxLength = onnxLength
    conversion.maximumShardByteCount = maxShardSize.byteCount
    conversion.readingOptions = reading
    return conversion
  }
}

extension NormForm: ExpressibleByArgument {}
extension ONNXForm: ExpressibleByArgument {}

/// A number of bytes as people write it: `5GB`, `500MB`, `2GiB`, or the number alone.
struct ShardSize: ExpressibleByArgument {
  let byteCount: Int

  init(byteCount: Int) { self.byteCount = byteCount }

  init?(argument: String) {
    let digits = argument.prefix { $0.isASCII && $0.isNumber }
    let units = [
      "": 1, "B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
    ]
    guard let number = Int(digits), number > 0,
      let unit = units[argument.dropFirst(digits.count).trimmingPrefix(" ").uppercased()]
    else { return nil }
    let (product, overflow) = number.multipliedReportingOverflow(by: unit)
    guard !overflow else { return nil }
    byteCount = product
  }

  var defaultValueDescription: String { "5GB" }
}

extension FoldingRule: EnumerableFlag {
  public static func name(for value: FoldingRule) -> NameSpecification { .customLong(value.rawValue) }

  public static func help(for value: FoldingRule) -> ArgumentHelp? {
    switch value {
    case .foldValueBiases: "Move the biases of the values into those of the attention outputs."
    case .centerWritingWeights: "Subtract its mean from all that is written into the residual stream."
    case .centerUnembedding:
      "Subtract their mean from the logits of each position: probabilities stay."
    }
  }
}

extension ElementType {
  /// `f32`, `bf16`, `q8_0`, in either case.
  init(argument: String) throws {
    let word = argument.lowercased()
    guard let type = ElementType(rawValue: word), ConversionPlan.types.contains(type) else {
      let known = ElementType.allCases.filter(ConversionPlan.types.contains).map(\.rawValue).joined(separator: ", ")
      let others = [
        "fp16": "f16", "float16": "f16", "half": "f16", "fp32": "f32", "float32": "f32", "float": "f32",
        "bfloat16": "bf16",
      ]
      let isOfLlamaCpp = word.hasPrefix("q") || word.hasPrefix("iq") || word.hasPrefix("tq")
      throw Refusal(
        .usage, subject: argument, "is not a type that can be written",
        advice: (others[word].map { "did you mean \($0)? " } ?? "") + "known are \(known)"
          + (isOfLlamaCpp
            ? "; for others of llama.cpp write f16, which its own quantiser takes: normfold convert SOURCE OUT --for llama.cpp "
              + "--type f16, then llama-quantize OUT/model.gguf OUT/model-\(word).gguf \(word.uppercased())" : ""))
    }
    self = type
  }
}

/// The options that say on which tokens a verification looks.
struct VerificationOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Seed of the random probe tokens.", valueName: "number"))
  var seed: UInt64 = 1

  @Option(
    help: ArgumentHelp(
      "Length of the longest probes; long ones are run in single precision only. By default a few tokens go across the context.",
      valueName: "tokens"))
  var probeLength: Int?

  @Option(help: ArgumentHelp("How many probes of that length.", valueName: "number"))
  var probeCount = 1

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Texts whose beginnings are probes, too, read with the model's tokenizer; as long as the context without --probe-length.",
      valueName: "file"), completion: .file())
  var text: [String] = []

  func validate() throws {
    if let probeLength, probeLength < 1 {
      throw ValidationError("--probe-length: expected at least 1 token, found \(probeLength)")
    }
    if probeCount < 1 { throw ValidationError("--probe-count: expected at least 1, found \(probeCount)") }
  }

  var probeOptions: ProbeOptions {
    var options = ProbeOptions()
    options.seed = seed
    options.probeLength = probeLength
    options.probeCount = probeCount
    options.text = text.isEmpty ? nil : .text(files: text)
    return options
  }
}

/// The option that says how many threads work.
struct ThreadOptions: ParsableArguments {
  @Option(help: ArgumentHelp("How many threads work; by default as many as there are cores.", valueName: "number"))
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 { throw ValidationError("--threads: expected at least 1, found \(threads)") }
  }

  var workers: Workers { threads.map { Workers(count: $0) } ?? .all }
}

/// A page to look at, beside what is printed.
struct ReportOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Write a report to look at, with charts: one HTML file, also where a claim does not hold.", valueName: "file.html"
    ), completion: .file(extensions: ["html"]))
  var report: String?

  /// - Parameter replacing: whether an existing page may be replaced.
  /// - Throws: ``Refusal`` where it cannot be written, which is better known before the work than after it.
  func destination(replacing: Bool) throws(Refusal) -> Destination? {
    guard let report else { return nil }
    return try Destination(page: report, replacing: replacing)
  }

  /// Writes the page, after what was found has been printed, and says where it is, unless that was one JSON document.
  ///
  /// - Parameters:
  ///   - result: what was found.
  ///   - options: what the command was told, defaults included.
  func write(
    _ report: @autoclosure () -> Page, of result: some Encodable, options: (any Encodable)? = nil,
    to destination: Destination?, with output: OutputOptions
  ) throws {
    guard let destination else { return }
    var page = report()
    let run = RunRecord()
    page.run = Page.Run(
      commandLine: run.commandLine, date: run.date, machine: run.machine.text,
      document: try Document(content: result, options: options).text)
    for warning in try StagedOutput.write(Array(page.html(naming: .flags).utf8), to: destination) {
      output.logger.warning("\(warning.printable)")
    }
    if !output.json { try StandardOutput.print("\n  Report: \(destination.path.printable)") }
  }
}

/// `warning: …` on standard error.
private struct DiagnosticHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.notice

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let head = "\(event.level == .notice ? "note" : event.level.rawValue):"
    let isWarning = event.level == .warning
    let text = "\(isWarning ? head.toned(.warning, for: STDERR_FILENO) : head) \(event.message)"
    StandardError.write(text.wrapped(to: StandardError.width) + "\n")
  }
}
