import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

/// The keys `tokenizer.*` of a GGUF file.
struct LlamaCppTokenizer {
  let keys: [(key: String, value: GGUFValue)]
  let notes: [Message]

  /// - Throws: `.unsupported` for a tokenizer that llama.cpp's GPT-2 would not reproduce, or that has more tokens than
  ///   the embedding; `.malformed` for a damaged one.
  init(of source: TargetSource) throws(Refusal) {
    let count = source.network.vocabularySize
    if let carried = try Self.carriedKeys(of: source) {
      (keys, notes) = (carried, [])
    } else if let vocabulary = try source.vocabulary() {
      keys = try vocabulary.ggufKeys(vocabularySize: count)
      notes = vocabulary.notes(vocabularySize: count)
    } else {
      keys = [("tokenizer.ggml.model", .string("none"))]
      notes = [
        "the file has no tokenizer, so that llama.cpp's library runs it on token ids, and its server and command line do not: "
          + source.reasonForNoTokenizer
      ]
    }
  }

  /// Those of a GGUF source, or of a GGUF file that the user names, as they are; nil where it has none.
  private static func carriedKeys(of source: TargetSource) throws(Refusal) -> [(key: String, value: GGUFValue)]? {
    guard let (header, path) = try source.tokenizerHeader(), let kind = header.value("tokenizer.ggml.model"),
      kind != .string("none")
    else { return nil }
    if case .strings(let tokens) = header.value("tokenizer.ggml.tokens"),
      tokens.count != source.network.vocabularySize
    {
      throw Refusal(
        .malformed, file: path, subject: "tokenizer.ggml.tokens",
        "expected \(source.network.vocabularySize) tokens, one for each row of the embedding, found \(tokens.count)",
        advice: "pass \(.tokenizer) with the directory of the right one, or \(.tokenizer, "absent")")
    }
    return header.metadata.filter { $0.key.hasPrefix("tokenizer.") && $0.key != LlamaCppTarget.tokenTypeKey }
  }
}
