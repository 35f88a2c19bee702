import ArgumentParser
import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Continues a text with a model.",
    usage: "normfold generate MODEL (--prompt TEXT | --prompt-tokens IDS | --tokens FILE) [OPTIONS]",
    discussion: """
      Takes the top-1 token each time, or, with any of --temperature, --top-k, --top-p and --seed, draws one. Each \
      token appears as soon as it is known; without a tokenizer, ids do. It ends after so many tokens, at the \
      end-of-text token, or where the context is full.

      EXAMPLES
        normfold generate gpt2-lnfree/ --prompt "The capital of France is"
        normfold generate out/model.gguf --prompt "Once" --top-p 0.95 --seed 7
        normfold generate model.safetensors --prompt-tokens 15496,995 --json
      """)

  @Argument(help: .checkpoint, completion: .file())
  var model: String

  @Option(
    help: ArgumentHelp(
      "The text to continue, - for standard input; an empty one starts at the end-of-text token.", valueName: "text"))
  var prompt: String?

  @Option(help: ArgumentHelp("Its token ids instead, with commas or spaces between.", valueName: "ids"))
  var promptTokens: String?

  @Option(
    help: ArgumentHelp(
      "A file of token ids instead: decimal, or 16-bit numbers in a file called .bin; - is standard input.",
      valueName: "file"), completion: .file())
  var tokens: String?

  @Option(
    name: [.customShort("n"), .long], help: ArgumentHelp("How many tokens to add at most.", valueName: "count"))
  var maxTokens = 128

  @Flag(help: "Take the top-1 token each time; so it is by default.")
  var greedy = false

  @Option(help: ArgumentHelp("Draw tokens, their logits divided by this number; 1 by default.", valueName: "number"))
  var temperature: Double?

  @Option(help: ArgumentHelp("Draw from this many of the most probable tokens.", valueName: "count"))
  var topK: Int?

  @Option(
    help: ArgumentHelp(
      "Draw from the most probable tokens that together are at least so probable.", valueName: "probability"))
  var topP: Double?

  @Option(help: ArgumentHelp("Seed of the drawing; 1 by default.", valueName: "number"))
  var seed: UInt64?

  @Flag(help: "Go on behind the end-of-text token.")
  var ignoreEot = false

  @Option(
    help: ArgumentHelp(
      "Where the tokenizer lies, if not beside the model: a directory or a GGUF file; none to go without.",
      valueName: "path|none"))
  var tokenizer: ReadingOptions.Tokenizer?

  @Option(help: ArgumentHelp("What to compute in.", valueName: "single|double"))
  var precision = Precision.single

  @OptionGroup var input: InputOptions
  @OptionGroup var threads: ThreadOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let tokens, Int(tokens) != nil, FileIdentity(ofItemAt: tokens) == nil {
      throw ValidationError(
        "--tokens is a file of ids; how many to add at most is --max-tokens \(tokens), or -n \(tokens)")
    }
    guard [prompt, promptTokens, tokens].count(where: { $0 != nil }) == 1 else {
      throw ValidationError("expected --prompt with a text, --prompt-tokens with ids, or --tokens with a file of ids")
    }
    guard !greedy || !isSampled else {
      throw ValidationError("--greedy: contradicts --temperature, --top-k, --top-p and --seed")
    }
    if maxTokens < 1 { throw ValidationError("--max-tokens: expected at least 1, found \(maxTokens)") }
    if let temperature, !(temperature > 0 && temperature.isFinite) {
      throw ValidationError("--temperature: expected a positive number, found \(temperature)")
    }
    if let topK, topK < 1 { throw ValidationError("--top-k: expected at least 1, found \(topK)") }
    if let topP, !(topP > 0 && topP <= 1) {
      throw ValidationError("--top-p: expected a probability above 0, found \(topP)")
    }
  }

  private var isSampled: Bool { temperature != nil || topK != nil || topP != nil || seed != nil }

  func run() throws {
    let prompt = try parsedPrompt()
    var generation = Generation(model: model, prompt: prompt)
    generation.tokenCount = maxTokens
    if isSampled {
      generation.sampling.temperature = temperature ?? 1
      generation.sampling.topK = topK
      generation.sampling.topP = topP
      generation.sampling.seed = seed ?? 1
    }
    generation.stopsAtEndOfText = !ignoreEot
    generation.precision = precision
    generation.workers = threads.workers
    generation.readingOptions = input.readingOptions(tokenizer: tokenizer)
    if output.json { return try StandardOutput.print(json: try generation.run(), options: generation) }
    let report = try generation.run(
      onToken: { (token, bytes) throws(Refusal) in
        try StandardOutput.write(bytes.map(StandardOutput.harmless) ?? Array("\(token) ".utf8))
      },
      onStart: { () throws(Refusal) in
        if case .text(let prompt) = prompt { try StandardOutput.write(StandardOutput.harmless(Array(prompt.utf8))) }
      })
    try StandardOutput.print("")
    for warning in report.warnings { output.logger.warning("\(warning.printable)") }
    let rate = report.secondsPerToken.map { ", \(Quantity.short(1 / $0)) tokens/s" } ?? ""
    output.logger.info("ended by \(report.end.rawValue), \(report.tokens.count) tokens\(rate)")
    if report.end == .context { output.logger.notice("the context is full after \(report.tokens.count) tokens") }
  }

  private func parsedPrompt() throws(Refusal) -> Generation.Prompt {
    if let tokens { return .tokens(try TextSource.tokens(inFile: tokens)) }
    if prompt == "-" {
      let text = try MappedFile.readable(at: "-").text()
      return .text(text.hasSuffix("\n") ? String(text.dropLast()) : text)
    }
    guard let promptTokens else { return .text(prompt ?? "") }
    var ids: [Int] = []
    for part in promptTokens.split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
      guard let id = Int(part) else {
        throw Refusal(.usage, subject: "--prompt-tokens", "expected decimal ids, found '\(part)'")
      }
      ids.append(id)
    }
    return .tokens(ids)
  }
}
