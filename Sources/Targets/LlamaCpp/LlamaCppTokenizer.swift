import Formats
import Networks
import Tokenization

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
    } else if let vocabulary = try source.bytePairVocabulary() {
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
    return header.metadata.filter { $0.key.hasPrefix("tokenizer.") }
  }
}

extension BytePairVocabulary {
  /// As llama.cpp's converter writes them. Ids without a token are padded with unused ones.
  ///
  /// The converter recognises tokenizers by the hash of what they make of one text, and calls some that split text as
  /// GPT-2's does `olmo` or `mpt`. In llama.cpp these names mean what `gpt-2` means. Those that split it as Llama 3's and Qwen2's do
  /// have names of their own (``ggufSplitting``).
  ///
  /// - Throws: `.unsupported` where there are more tokens than rows of the embedding; `.malformed` where two ids have one
  ///   text, which would end llama.cpp.
  func ggufKeys(vocabularySize: Int) throws(Refusal) -> [(key: String, value: GGUFValue)] {
    let highest = tokens.keys.max() ?? 0
    guard highest < vocabularySize else {
      throw Refusal(
        .unsupported, file: path, subject: tokens[highest]?.text,
        "the token has id \(highest), but the embedding has \(vocabularySize) rows",
        advice:
          "the tokenizer belongs to another model; name the right one with \(.tokenizer), or pass \(.tokenizer, "absent")"
      )
    }
    let all = (0..<vocabularySize).map { tokens[$0] ?? Token(text: "[PAD\($0)]", kind: .unused) }
    var seen: [[UInt8]: Int] = [:]
    for (id, token) in all.enumerated() {
      if let other = seen.updateValue(id, forKey: Array(token.text.utf8)) {
        throw Refusal(
          .malformed, file: path, subject: token.text, "is the text of the tokens \(other) and \(id)",
          advice: "llama.cpp needs another text for each token")
      }
    }
    guard let splitting = ggufSplitting else {
      throw Refusal(
        .unsupported, file: path, subject: "ignore_merges",
        "llama.cpp has no name for a tokenizer that splits text in this way and takes whole pieces for tokens",
        advice: "pass \(.tokenizer, "absent") to write token ids only")
    }
    var keys: [(key: String, value: GGUFValue)] = [
      ("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string(splitting)),
      ("tokenizer.ggml.tokens", .strings(all.map(\.text))),
      ("tokenizer.ggml.token_type", .i32s(all.map(\.kind.rawValue))),
      ("tokenizer.ggml.merges", .strings(merges)),
    ]
    for (name, role) in [
      ("bos", SpecialRole.beginOfText), ("eos", .endOfText), ("unknown", .unknown), ("padding", .padding),
    ] {
      if let id = specialTokens[role] { keys.append(("tokenizer.ggml.\(name)_token_id", .u32(UInt32(id)))) }
    }
    keys.append(("tokenizer.ggml.add_bos_token", .bool(addsBeginOfText)))
    // As llama.cpp's converter writes them: the default one under a key of its own, the names of all others in a list.
    let named = chatTemplates.filter { $0.key != Self.defaultTemplate }.sorted { $0.key < $1.key }
    if let text = chatTemplates[Self.defaultTemplate] { keys.append((Self.templateKey, .string(text))) }
    if !named.isEmpty { keys.append(("\(Self.templateKey)s", .strings(named.map(\.key)))) }
    keys += named.map { ("\(Self.templateKey).\($0.key)", .string($0.value)) }
    return keys
  }

  func notes(vocabularySize: Int) -> [Message] {
    var notes: [Message] = []
    let missing = vocabularySize - tokens.count
    if missing > 0 {
      notes.append("\(missing) rows of the embedding have no token in \(path); they are written as unused tokens")
    }
    if specialTokens[.endOfText] == nil {
      notes.append("\(path) names no end-of-text token, and llama.cpp will take token 11 for it")
    }
    if normalizesToNFC {
      notes.append(
        "\(path) brings text to NFC before it is split, and llama.cpp does not: letters that are written apart from their "
          + "marks become other tokens there")
    }
    return notes
  }
}
