import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// Texts, or pairs of texts, with a label each: a line each, with tabs between.
struct LabelledTexts {
  struct Item {
    let text: String
    let second: String?
    let label: Int
  }

  let items: [Item]

  /// Files of labelled texts have some megabytes.
  private static let maximumByteCount = 1 << 30

  /// - Parameter names: of the labels, by number.
  /// - Throws: `.malformed` for a line that is no example, with its number.
  init(file path: String, names: [String]) throws(Refusal) {
    let file = try MappedFile.readable(at: path)
    guard file.byteCount <= Self.maximumByteCount else {
      throw Refusal(.malformed, file: path, "expected at most \(Self.maximumByteCount) bytes, found \(file.byteCount)")
    }
    let bytes = try file.parse { (bytes) throws(Refusal) in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
    var items: [Item] = []
    var columnCount: Int?
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let content = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      if content.isEmpty { continue }
      func refusal(_ problem: String, advice: Message = "") -> Refusal {
        Refusal(.malformed, file: path, subject: "line \(index + 1)", problem, advice: advice)
      }
      guard let text = String(validating: content, as: UTF8.self) else { throw refusal("is not UTF-8") }
      let parts = text.utf8.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false).map {
        String(Substring($0))
      }
      guard [2, 3].contains(parts.count), parts.count == columnCount ?? parts.count, let name = parts.last else {
        throw refusal(
          "expected \(columnCount.map { "\($0)" } ?? "2 or 3") columns with tabs between, found \(parts.count)",
          advice: "give a text, for pairs a second one, and the label")
      }
      columnCount = parts.count
      guard let label = names.firstIndex(of: name) ?? Int(name), names.indices.contains(label) else {
        throw refusal("expected a label of the model, \(names.listed("or")), or its number, found '\(name)'")
      }
      items.append(Item(text: parts[0], second: parts.count == 3 ? parts[1] : nil, label: label))
    }
    guard !items.isEmpty else { throw Refusal(.malformed, file: path, "has no examples") }
    self.items = items
  }
}

/// Texts as a network reads them: with what the tokenizer puts around them, and cut to the context.
struct SequenceEncoder {
  private let tokenizer: Tokenizer
  private let template: TokenTemplate
  private let contextLength: Int
  private let vocabularySize: Int

  /// - Throws: `.unsupported` for a tokenizer that puts nothing around a text.
  init(_ tokenizer: Tokenizer, contextLength: Int, vocabularySize: Int) throws(Refusal) {
    guard let template = tokenizer.template else {
      throw Refusal(
        .unsupported, file: tokenizer.path, "says nothing of the tokens around a text that an encoder reads",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    (self.tokenizer, self.template) = (tokenizer, template)
    (self.contextLength, self.vocabularySize) = (contextLength, vocabularySize)
  }

  /// - Returns: what the network reads, and whether tokens were cut off: of two texts those of the longer one, until both fit,
  ///   as the strategy `longest_first` of `tokenizers` has it.
  /// - Throws: `.malformed` for a token beyond the vocabulary; `.unsupported` where the context holds no token of a text.
  func probe(_ text: String, _ second: String?) throws(Refusal) -> (Probe, isCut: Bool) {
    var (first, other) = (tokenizer.encode(text), second.map { tokenizer.encode($0) })
    let around = template.applied(to: [], second == nil ? nil : []).ids.count
    var excess = first.count + (other?.count ?? 0) + around - contextLength
    let isCut = excess > 0
    guard contextLength > around else {
      throw Refusal(
        .unsupported, file: tokenizer.path, "puts \(around) tokens around a text, and the context has \(contextLength)")
    }
    let isSecondKeptLonger = first.count <= other?.count ?? 0
    while excess > 0 {
      let count = other?.count ?? 0
      if first.count > count || first.count == count && isSecondKeptLonger {
        first.removeLast()
      } else {
        other?.removeLast()
      }
      excess -= 1
    }
    let (ids, types) = template.applied(to: first, other)
    for id in ids where id >= vocabularySize {
      throw Refusal(
        .malformed, file: tokenizer.path, "token \(id) is not in the model's vocabulary of \(vocabularySize)",
        advice: "name the model's own tokenizer with \(.tokenizer)")
    }
    return (Probe(name: "text", tokens: ids, types: types), isCut)
  }
}
