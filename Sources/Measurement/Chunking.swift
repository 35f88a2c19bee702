import NormFoldFormats

/// The way in which a text is cut into sequences, and in which the tokens that are scored are chosen. The default is
/// the protocol of the LN-removal papers (arXiv 2409.13710, 2507.02559): chunks as long as the context, one behind the
/// other, with nothing put before them; what is left at the end is dropped.
///
///     input.chunking.contextLength = 512
///     input.chunking.stride = 256
public struct Chunking: Encodable, Hashable, Sendable {
  /// Tokens in a chunk, a prepended one included.
  public var contextLength: Int
  /// The number of tokens of the text from the start of one chunk to the start of the next. Where chunks overlap, a
  /// token is scored in the first chunk that holds it.
  public var stride: Int
  /// Is true if each chunk starts with the end-of-text token, so that the first token of the text is scored, too.
  public var prependsEndOfText: Bool
  /// Is true if what is left at the end is a shorter chunk.
  public var keepsRemainder: Bool

  /// Options leave open what they hold nil for: the default is used.
  public struct Options: Sendable, Encodable {
    public var contextLength: Int?
    public var stride: Int?
    public var prependsEndOfText = false
    public var keepsRemainder = false

    public init() {}
  }

  /// - Parameter longest: the longest sequence that every network concerned can be run on.
  /// - Throws: `.usage` for a context or a stride that is out of range.
  package init(_ options: Options, longest: Int) throws(Refusal) {
    contextLength = options.contextLength ?? longest
    prependsEndOfText = options.prependsEndOfText
    keepsRemainder = options.keepsRemainder
    guard contextLength >= 2, contextLength <= longest else {
      throw Refusal(
        .usage, subject: "\(.contextLength)",
        "expected 2 to \(longest) tokens, the model's context, found \(contextLength)")
    }
    let textPerChunk = contextLength - (options.prependsEndOfText ? 1 : 0)
    stride = options.stride ?? textPerChunk
    guard stride >= 1, stride <= textPerChunk else {
      throw Refusal(.usage, subject: "\(.stride)", "expected 1 to \(textPerChunk) tokens, found \(stride)")
    }
  }
}

/// A sequence to run a network on.
package struct Chunk: Hashable, Sendable {
  package let tokens: [Int]
  /// The position of the first token that is scored; all behind it are.
  package let firstScored: Int

  package var scoredCount: Int { tokens.count - firstScored }
}

extension Chunking {
  /// - Parameter endOfText: the token that is prepended where one is.
  /// - Returns: the chunks, none of them without a token to score, and how many tokens of the text are in none.
  /// - Throws: `.usage` where a token is to be prepended and there is none; `.malformed` where not one chunk can be cut.
  package func chunks(of tokens: [Int], endOfText: Int?) throws(Refusal) -> (chunks: [Chunk], droppedCount: Int) {
    var prefix: [Int] = []
    if prependsEndOfText {
      guard let endOfText else {
        throw Refusal(.usage, subject: "\(.prependsEndOfText)", "the model does not say which token ends a text")
      }
      prefix = [endOfText]
    }
    let textPerChunk = contextLength - prefix.count
    var chunks: [Chunk] = []
    var start = 0
    var end = 0
    while end < tokens.count {
      let next = min(start + textPerChunk, tokens.count)
      let isWhole = next - start == textPerChunk
      let chunk = Chunk(
        tokens: prefix + tokens[start..<next],
        // What the chunk before held is scored there; nothing comes before the very first token.
        firstScored: max(1, prefix.count + end - start))
      guard isWhole || keepsRemainder, chunk.scoredCount > 0 else { break }
      chunks.append(chunk)
      end = next
      start += stride
    }
    guard !chunks.isEmpty else {
      throw Refusal(
        .malformed, "the text has \(tokens.count) tokens, fewer than one chunk of \(contextLength)",
        advice: "give a longer text, \(.contextLength) with a smaller number, or \(.keepsRemainder)")
    }
    return (chunks, tokens.count - end)
  }

  /// For people: what the numbers are of.
  public var summary: String {
    let overlap = contextLength - (prependsEndOfText ? 1 : 0) - stride
    return [
      "chunks of \(contextLength) tokens",
      overlap > 0 ? "each \(stride) behind the one before, only new tokens scored" : nil,
      prependsEndOfText ? "the end-of-text token prepended to each" : "no token prepended",
      keepsRemainder ? "remainder kept" : "remainder dropped",
    ].compactMap(\.self).joined(separator: ", ")
  }
}
