import NormFoldFormats

extension ByteLevelKind {
  package static func read(gguf header: GGUFHeader, into vocabulary: inout Vocabulary) -> Bool {
    guard let splitting = splitting(header.value("tokenizer.ggml.pre")),
      case .strings(let merges) = header.value("tokenizer.ggml.merges")
    else { return false }
    var kind = ByteLevelKind()
    (kind.pattern, kind.takesWholePieces) = splitting
    kind.merges = merges
    vocabulary.kind = kind
    return true
  }

  /// The names that llama.cpp has for the ways to split text that are known here.
  private static let splittings: [(name: String, pattern: SplittingPattern, takesWholePieces: Bool)] = [
    ("gpt-2", .gpt2, false), ("llama-bpe", .llama3, true), ("dbrx", .llama3, false), ("qwen2", .qwen2, false),
  ]

  /// - Returns: nil for a name that is not known.
  static func splitting(_ name: GGUFValue?) -> (SplittingPattern, Bool)? {
    // Files without `pre` are older than any other rule for splitting text.
    guard let name else { return (.gpt2, false) }
    return splittings.first { name == .string($0.name) }.map { ($0.pattern, $0.takesWholePieces) }
  }

  /// The known names, for messages: `'gpt-2', 'llama-bpe'`.
  static var ggufSplittings: String {
    let names = splittings.map { "'\($0.name)'" }
    return names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
  }

  /// llama.cpp's name for how text is split (`tokenizer.ggml.pre`); nil where it has none.
  package var ggufSplitting: String? {
    Self.splittings.first { $0.pattern == pattern && $0.takesWholePieces == takesWholePieces }?.name
  }

  /// llama.cpp's converter recognises tokenizers by the hash of what they make of one text, and calls some that split text
  /// as GPT-2's does `olmo` or `mpt`. In llama.cpp these names mean what `gpt-2` means. Those that split it as Llama 3's and
  /// Qwen2's do have names of their own (``ggufSplitting``).
  package func ggufContent(of vocabulary: Vocabulary, tokens: [Vocabulary.Token]) throws(Refusal) -> GGUFTokens {
    guard let splitting = ggufSplitting else {
      throw Refusal(
        .unsupported, file: vocabulary.path, subject: "ignore_merges",
        "llama.cpp has no name for a tokenizer that splits text in this way and takes whole pieces for tokens",
        advice: "pass \(.tokenizer, "absent") to write token ids only")
    }
    return GGUFTokens(splitting: splitting, texts: tokens.map(\.text), keys: [("merges", .strings(merges))])
  }

  package func differencesInLlamaCpp(of vocabulary: Vocabulary) -> [Message] {
    var notes: [Message] = []
    if normalizesToNFC {
      notes.append(
        "\(vocabulary.path) brings text to NFC before it is split, and llama.cpp does not: letters that are written apart "
          + "from their marks become other tokens there")
    }
    if addsPrefixSpace {
      notes.append("\(vocabulary.path) puts a space before text, and llama.cpp does not")
    }
    return notes
  }
}
