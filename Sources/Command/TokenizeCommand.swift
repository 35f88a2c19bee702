import ArgumentParser
import NormFoldFormats
import NormFoldTokenization

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Turns text into the ids of its tokens, or ids back into text.",
    usage: "normfold tokenize TOKENIZER (TEXT | --text FILE) [OPTIONS]",
    discussion: """
      Byte-level BPE as GPT-2, Llama 3, Qwen and RoBERTa have it, SentencePiece's as LLaMA, Mistral and Gemma do, and \
      BERT's WordPiece. Added tokens such as <|endoftext|> are found in the text. Nothing is put around it without \
      --add-special-tokens. A file is read in pieces, so that it may be of any size.

      EXAMPLES
        normfold tokenize gpt2-lnfree/ "Hello world"
        normfold tokenize model.gguf --text corpus.txt -o corpus.ids
        normfold tokenize gpt2/ --text corpus.txt -o corpus.bin --format uint16
        normfold tokenize gpt2-lnfree/ "15496 995" --decode
        normfold tokenize gpt2-lnfree/ - < corpus.txt
        normfold tokenize bert/ "A man eats." --pair "A man is eating."
      """)

  @Argument(
    help:
      "tokenizer.json, tokenizer.model or vocab.txt, its directory, a GGUF file, or a checkpoint with a tokenizer beside it."
  )
  var tokenizer: String

  @Argument(help: "The text, - for standard input; with --decode, ids with spaces between.")
  var content: String?

  @Option(help: ArgumentHelp("Read the text from a file; with --decode, the ids.", valueName: "file"))
  var text: String?

  @Option(
    help: ArgumentHelp("A second text behind the first, with what the tokenizer puts around two.", valueName: "text"))
  var pair: String?

  @Flag(help: "Put the tokens around the text that its tokenizer puts there: [CLS] and [SEP], <s>.")
  var addSpecialTokens = false

  @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Write to a file.", valueName: "file"))
  var output: String?

  @Option(
    help: ArgumentHelp(
      "How a file holds ids: text (one a line), uint16 or uint32 (little-endian, as nanoGPT's .bin files).",
      valueName: "text|uint16|uint32"))
  var format = TokenFormat.text

  @Flag(help: "Turn ids into text.")
  var decode = false

  @Flag(help: "Replace an existing file.")
  var force = false

  @Flag(help: "Print one JSON document: the ids, or how many were written.")
  var json = false

  func validate() throws {
    guard (content == nil) != (text == nil) else { throw ValidationError("expected a text, or --text with a file") }
    guard decode || output != nil || format == .text else {
      throw ValidationError("--format \(format.rawValue) needs -o with a file")
    }
    guard content == nil || !decode || format == .text else {
      throw ValidationError("--format \(format.rawValue) is of files; name one with --text")
    }
    guard !decode || pair == nil && !addSpecialTokens else {
      throw ValidationError("--pair and --add-special-tokens are of text, and --decode makes text of ids")
    }
    guard !(decode && json) else { throw ValidationError("--json tells of ids, and --decode makes text") }
  }

  func run() throws {
    let text = content == "-" ? "-" : self.text
    let destination = try output.map { (path) throws(Refusal) in try Destination(file: path, replacing: force) }
    try destination?.refuse(
      overlapping: Set([tokenizer, text].compactMap { $0.flatMap(FileIdentity.init(ofItemAt:)) }))
    let tokenizer = try Tokenizer(opening: tokenizer)
    guard decode || tokenizer.vocabularySize - 1 <= format.largestID else {
      throw Refusal(
        .usage,
        "--format \(format.rawValue) holds ids up to \(format.largestID), the tokenizer has some up to "
          + "\(tokenizer.vocabularySize - 1)", advice: "use --format uint32")
    }
    let sink = try Sink(destination)
    if decode {
      try sink.write(try tokenizer.decode(try ids(in: text)))
      return try sink.finish()
    }
    var count = 0
    var (listed, types): ([Int], [Int]) = ([], [])
    let listsIDs = json && destination == nil
    try encode(text, with: tokenizer) { (tokens, type) throws(Refusal) in
      count += tokens.count
      if listsIDs {
        listed += tokens
        types += repeatElement(type, count: tokens.count)
      } else {
        try sink.write(format.bytes(of: tokens))
      }
    }
    try sink.finish()
    if json {
      let advice: Message = destination == nil ? "" : "the output itself is in place"
      try StandardOutput.print(
        json: Document(
          tokenizer: tokenizer.path, count: count, ids: listsIDs ? listed : nil,
          types: listsIDs && isPutIntoTemplate ? types : nil, output: output), advice: advice)
    }
  }

  private var isPutIntoTemplate: Bool { pair != nil || addSpecialTokens }

  /// Calls `body` with tokens in their order, and the number of the text that they are of.
  private func encode(
    _ text: String?, with tokenizer: Tokenizer, _ body: ([Int], _ type: Int) throws(Refusal) -> Void
  ) throws(Refusal) {
    func encodeText(_ type: Int) throws(Refusal) {
      guard let text else { return try body(tokenizer.encode(content ?? ""), type) }
      try tokenizer.encodeFile(at: text) { (tokens) throws(Refusal) in try body(tokens, type) }
    }
    guard isPutIntoTemplate else { return try encodeText(0) }
    guard let template = tokenizer.template else {
      throw Refusal(
        .usage, file: tokenizer.path, "says nothing of tokens around a text",
        advice: "leave --pair and --add-special-tokens out")
    }
    for part in pair == nil ? template.single : template.pair {
      switch part {
      case .token(let id, let type): try body([id], type)
      case .first(let type): try encodeText(type)
      case .second(let type): try body(tokenizer.encode(pair ?? ""), type)
      }
    }
  }

  private func ids(in text: String?) throws(Refusal) -> [Int] {
    guard let text else { return try format.tokens(in: (content ?? "").utf8.span, file: "IDS") }
    let file = try MappedFile.readable(at: text)
    return try file.parse { (bytes) throws(Refusal) in
      let copy = unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
      return try format.tokens(in: copy.span, file: text)
    }
  }

  private struct Document: Encodable {
    let tokenizer: String
    let count: Int
    let ids: [Int]?
    /// The number of the text that each token is of, where it is one of two.
    let types: [Int]?
    let output: String?
  }
}

extension TokenFormat: ExpressibleByArgument {}

/// Standard output, or a file that appears when it is complete.
private struct Sink {
  private static let name = "output"
  private let staged: StagedOutput?
  private let file: OutputFile?

  init(_ destination: Destination?) throws(Refusal) {
    guard let destination else {
      (staged, file) = (nil, nil)
      return
    }
    _ = StagedOutput.removeStale(beside: destination)
    let staged = try StagedOutput(for: destination)
    file = try OutputFile(creating: staged.path + "/" + Self.name)
    self.staged = staged
  }

  func write(_ bytes: [UInt8]) throws(Refusal) {
    if let file { try file.write(bytes) } else { try StandardOutput.write(bytes) }
  }

  func finish() throws(Refusal) {
    try file?.finish()
    for warning in try staged?.publish(file: Self.name) ?? [] { StandardError.write("warning: \(warning.printable)\n") }
  }
}
