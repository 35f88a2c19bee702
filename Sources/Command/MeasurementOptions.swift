import ArgumentParser
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks

/// Options say where the tokens are from on which a model is measured, and how they are cut.
struct MeasurementOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Texts in UTF-8, read with the model's tokenizer, the end-of-text token between two; - is standard input.",
      valueName: "file"), completion: .file())
  var text: [String] = []

  @Option(
    help: ArgumentHelp(
      "Token ids instead: decimal with white space between, or, in a file called .bin, little-endian 16-bit numbers as nanoGPT prepares them.",
      valueName: "file"), completion: .file())
  var tokens: String?

  @Option(
    help: ArgumentHelp(
      "Where the tokenizer lies, if not beside the model: a directory or a GGUF file.", valueName: "path"))
  var tokenizer: ReadingOptions.Tokenizer?

  @Option(help: ArgumentHelp("Tokens in a chunk; the model's context by default.", valueName: "tokens"))
  var context: Int?

  @Flag(help: "Put the end-of-text token before each chunk.")
  var prependEot = false

  @Flag(help: "Make what is left at the end a shorter chunk; it is dropped otherwise.")
  var keepRemainder = false

  @Option(help: ArgumentHelp("Take only so many tokens, from the start.", valueName: "tokens"))
  var limit: Int?

  @Option(help: ArgumentHelp("What to compute in.", valueName: "single|double"))
  var precision = Precision.single

  /// - Throws: unless there is one source of tokens.
  func requireTokens() throws {
    guard text.isEmpty != (tokens == nil) else {
      throw ValidationError("expected --text with files, or --tokens with a file of ids")
    }
  }

  /// Is true if nothing says where tokens are from or how they are cut.
  var isEmpty: Bool {
    text.isEmpty && tokens == nil && context == nil && limit == nil && !prependEot && !keepRemainder
  }

  func validate() throws {
    if let limit, limit < 1 { throw ValidationError("--limit: expected at least 1 token, found \(limit)") }
  }

  func input(model: String, options: InputOptions, threads: ThreadOptions) -> MeasurementInput {
    var input = MeasurementInput(model: model, text: tokens.map { .tokens(file: $0) } ?? .text(files: text))
    input.chunking.contextLength = context
    input.chunking.prependsEndOfText = prependEot
    input.chunking.keepsRemainder = keepRemainder
    input.tokenLimit = limit
    input.precision = precision
    input.workers = threads.workers
    input.readingOptions = options.readingOptions(tokenizer: tokenizer)
    return input
  }
}

extension Precision: ExpressibleByArgument {}

extension Precision {
  /// `float32`
  var displayName: String {
    switch self {
    case .single: "float32"
    case .double: "float64"
    }
  }
}

extension Chunking {
  /// Returns what the numbers are of, for the head of a report.
  func text(count: String, texts: [String], precision: Precision) -> [String] {
    let source = texts.isEmpty ? "" : " of \(texts.map(\.printable).joined(separator: ", "))"
    return ["  on \(count)\(source)", "  \(summary); \(precision.displayName)"]
  }
}
