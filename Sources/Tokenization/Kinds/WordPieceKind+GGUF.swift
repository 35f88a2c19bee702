import NormFoldFormats

/// llama.cpp keeps pieces as if each word began with a space: `▁x` for x, and `x` for `##x`; control tokens are as they are.
extension WordPieceKind {
  private static let mark = String(SentencePieceKind.mark)

  package static func read(gguf header: GGUFHeader, into vocabulary: inout Vocabulary) -> Bool {
    let kind = WordPieceKind()
    for (id, token) in vocabulary.tokens where token.kind == .normal {
      vocabulary.tokens[id]?.text =
        token.text.hasPrefix(mark) ? String(token.text.dropFirst()) : kind.continuationPrefix + token.text
    }
    for (name, role) in ggufRoles {
      guard let id = header.value("tokenizer.ggml.\(name)_token_id")?.integer, vocabulary.tokens[id] != nil else {
        continue
      }
      vocabulary.specialTokens[role] = id
      vocabulary.markAsControl(id)
    }
    vocabulary.kind = kind
    kind.complete(&vocabulary)
    if let first = vocabulary.specialTokens[.classification], let last = vocabulary.specialTokens[.separator] {
      vocabulary.template = .around(first, last, betweenTexts: [last], secondType: 1)
    }
    return true
  }

  /// llama.cpp has the beginning of a text for what BERT calls classification.
  private static let ggufRoles: KeyValuePairs<String, Vocabulary.SpecialRole> = [
    "bos": .classification, "cls": .classification, "seperator": .separator, "mask": .mask, "unknown": .unknown,
  ]

  package func ggufContent(of vocabulary: Vocabulary, tokens: [Vocabulary.Token]) throws(Refusal) -> GGUFTokens {
    guard normalizer.lowercases, normalizer.stripsAccents != false, continuationPrefix == "##" else {
      throw Refusal(
        .unsupported, file: vocabulary.path, subject: "normalizer",
        "keeps capitals or accents, and llama.cpp takes both off, so that other tokens would be made of text",
        advice: "pass \(.tokenizer, "absent") to write token ids only")
    }
    let texts = tokens.map { token in
      guard token.kind == .normal else { return token.text }
      return token.text.hasPrefix("##") && token.text.utf8.count > 2
        ? String(token.text.dropFirst(2)) : Self.mark + token.text
    }
    var keys: [(name: String, value: GGUFValue)] = []
    for (name, role) in Self.ggufRoles where name != "unknown" {
      if let id = vocabulary.specialTokens[role] { keys.append(("\(name)_token_id", .u32(UInt32(id)))) }
    }
    return GGUFTokens(splitting: "default", texts: texts, keys: keys, saysWhatIsAdded: false)
  }
}
