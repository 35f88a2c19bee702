import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// A source of tokens: texts, or ids.
///
///     let input = MeasurementInput(model: "gpt2", text: .tokens(file: "book.bin"))
///     print(try Evaluation(input).run().loss.mean)
public enum TextSource: Sendable, Encodable {
  /// Files in UTF-8, tokenized with the model's tokenizer; between two the end-of-text token, where it has one.
  case text(files: [String])
  /// Ids in a file: decimal and separated by white space, or, where its name ends in `.bin`, little-endian 16-bit numbers
  /// as nanoGPT prepares its data.
  case tokens(file: String)
  /// The given ids, as they are.
  case ids([Int])

  private enum CodingKeys: CodingKey { case text, tokens, ids }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    switch self {
    case .text(let files): try container.encode(files, forKey: .text)
    case .tokens(let file): try container.encode(file, forKey: .tokens)
    case .ids(let ids): try container.encode(ids, forKey: .ids)
    }
  }

  /// The files, as the user named them.
  public var files: [String] {
    switch self {
    case .text(let files): files
    case .tokens(let file): [file]
    case .ids: []
    }
  }

  /// A text with more tokens is refused unless the user says how many to take: it would take weeks.
  private static let largestTokenCount = 1 << 28

  /// - Parameters:
  ///   - limit: how many tokens from the start to take; nil for all.
  ///   - path: where the model was opened.
  /// - Throws: `.malformed` for a file that holds no ids or text, or an id beyond the vocabulary; `.usage` for a text
  ///   without a tokenizer.
  package func tokens(limit: Int?, for model: Model, at path: String) throws(Refusal) -> [Int] {
    let tokens = try tokens(limit: limit ?? Self.largestTokenCount + 1, for: model, at: path)
    guard limit != nil || tokens.count <= Self.largestTokenCount else {
      throw Refusal(
        .usage, "the text has more than \(Self.largestTokenCount) tokens",
        advice: "say how many to take with \(.tokenLimit)")
    }
    return tokens
  }

  private func tokens(limit: Int, for model: Model, at path: String) throws(Refusal) -> [Int] {
    let vocabularySize = model.network.vocabularySize
    switch self {
    case .text(let files):
      let tokenizer = try Tokenizer(for: model, at: path)
      var tokens: [Int] = []
      for file in files where tokens.count < limit {
        if !tokens.isEmpty, let endOfText = tokenizer.endOfText { tokens.append(endOfText) }
        try tokenizer.encodeFile(at: file, upTo: limit - tokens.count) { tokens += $0 }
      }
      for id in tokens where id >= vocabularySize {
        throw Refusal(
          .malformed, file: tokenizer.path, "token \(id) is not in the model's vocabulary of \(vocabularySize)",
          advice: "name the model's own tokenizer with \(.tokenizer)")
      }
      return Array(tokens.prefix(limit))
    case .tokens(let path):
      let tokens = try Self.tokens(inFile: path, limit: limit)
      for (index, id) in tokens.enumerated() where id >= vocabularySize {
        throw Refusal(
          .malformed, file: path, "token \(index) is \(id), the model's vocabulary has \(vocabularySize)",
          advice: "use the ids of the model's own tokenizer")
      }
      return tokens
    case .ids(let ids):
      for id in ids where id < 0 || id >= vocabularySize {
        throw Refusal(.usage, "token \(id) is not in the model's vocabulary of \(vocabularySize)")
      }
      return Array(ids.prefix(limit))
    }
  }
}

extension TextSource {
  /// Returns a function that puts around the tokens of a text what an encoder reads there, `[CLS]` and `[SEP]`. Ids of the user's own, and
  /// texts for other networks, stay as they are.
  ///
  /// - Throws: what reading the tokenizer throws; `.malformed` for a token beyond the vocabulary.
  package func frame(for model: Model, at path: String) throws(Refusal) -> ([Int]) -> [Int] {
    guard case .text = self, !model.network.isCausal,
      let template = try Tokenizer(for: model, at: path).template
    else { return { $0 } }
    for id in template.applied(to: [], nil).ids where id >= model.network.vocabularySize {
      throw Refusal(
        .malformed, file: path,
        "token \(id) around a text is not in the model's vocabulary of \(model.network.vocabularySize)",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    return { template.applied(to: $0, nil).ids }
  }

  /// - Throws: `.malformed` where the file holds no ids.
  package static func tokens(inFile path: String, limit: Int = .max) throws(Refusal) -> [Int] {
    let format = path.hasSuffix(".bin") ? TokenFormat.uint16 : .text
    let file = try MappedFile.readable(at: path)
    do throws(Refusal) {
      return try file.parse { (bytes) throws(Refusal) in
        let wanted = format == .uint16 && limit <= bytes.byteCount / 2 ? 2 * limit : bytes.byteCount
        let copy = unsafe bytes.extracting(0..<wanted).withUnsafeBytes { unsafe [UInt8]($0) }
        return Array(try format.tokens(in: copy.span, file: path).prefix(limit))
      }
    } catch {
      var refusal = error
      refusal.advice = "give text with \(.text), and 16-bit ids in a file that is called .bin"
      throw refusal
    }
  }
}
