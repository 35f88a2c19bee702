import NormFoldFormats

extension SentencePieceKind {
  /// llama.cpp puts a space before text and behind each token that it finds first, whatever follows.
  package static func read(gguf header: GGUFHeader, into vocabulary: inout Vocabulary) -> Bool {
    guard case .f32s(let numbers) = header.value("tokenizer.ggml.scores") else { return false }
    var kind = SentencePieceKind()
    var scores: [Int: Float] = [:]
    for (id, score) in numbers.enumerated() where vocabulary.tokens[id] != nil { scores[id] = score }
    kind.order = .scores(scores)
    kind.hasBytes = vocabulary.tokens.values.contains { $0.kind == .byte }
    kind.spaces = Metaspace(
      prefix: header.value("tokenizer.ggml.add_space_prefix") == .bool(false) ? .never : .always)
    // As llama.cpp has it where a file says nothing.
    for (role, id) in [(Vocabulary.SpecialRole.unknown, 0), (.beginOfText, 1), (.endOfText, 2)]
    where vocabulary.specialTokens[role] == nil && vocabulary.tokens[id] != nil {
      vocabulary.specialTokens[role] = id
    }
    if header.value("tokenizer.ggml.add_bos_token") == nil { vocabulary.addsBeginOfText = true }
    vocabulary.kind = kind
    return true
  }

  package func ggufContent(of vocabulary: Vocabulary, tokens: [Vocabulary.Token]) throws(Refusal) -> GGUFTokens {
    let scores = try scores(of: vocabulary)
    // What is found in text is found before spaces are replaced.
    let texts = tokens.map { token in
      token.matching?.isPiece == true ? Self.withSpaces(token.text) : token.text
    }
    let least = (scores.values.min() ?? 0) - 1
    return GGUFTokens(
      splitting: "default", texts: texts,
      keys: [
        ("scores", .f32s(tokens.indices.map { scores[$0] ?? least })),
        ("add_space_prefix", .bool(spaces.prefix != .never)),
      ])
  }

  /// The score of each token; for merges, one that makes llama.cpp merge in their order.
  ///
  /// llama.cpp merges any two neighbours that are a token together. Merges have its order if they are all that are possible,
  /// and those with one result follow each other.
  ///
  /// - Throws: `.unsupported` where merges are in another order.
  private func scores(of vocabulary: Vocabulary) throws(Refusal) -> [Int: Float] {
    guard case .merges(let pairs) = order else {
      if case .scores(let scores) = order { return scores }
      return [:]
    }
    func refusal(_ subject: String, _ problem: String) -> Refusal {
      Refusal(
        .unsupported, file: vocabulary.path, subject: subject,
        problem + ", and llama.cpp, which merges by a score for each token, would make other tokens of text",
        advice:
          "put the tokenizer.model beside it in place of it, or pass \(.tokenizer, "absent") to write token ids only")
    }
    var ids: [ExactText: Int] = [:]
    for (id, token) in vocabulary.tokens where token.isInModel { ids[ExactText(token.text)] = id }
    var scores: [Int: Float] = [:]
    var (known, last) = (Set(pairs), nil as Int?)
    for pair in pairs {
      guard let id = ids[pair.whole], id != last else { continue }
      guard scores[id] == nil else {
        throw refusal(vocabulary.tokens[id]?.text ?? "", "its merges do not follow each other")
      }
      (scores[id], last) = (-Float(scores.count), id)
    }
    for (id, token) in vocabulary.tokens.sorted(by: { $0.key < $1.key }) where token.kind == .normal {
      if scores[id] == nil { scores[id] = -Float(pairs.count + id) }
      for split in Self.splits(of: token.text, where: { ids[$0] != nil }) where known.insert(split).inserted {
        throw refusal(token.text, "'\(split.left.text)' and '\(split.right.text)' are not merged")
      }
    }
    return scores
  }

  package func differencesInLlamaCpp(of vocabulary: Vocabulary) -> [Message] {
    var notes: [Message] = []
    let path = vocabulary.path
    if characterMap != nil {
      notes.append("\(path) replaces characters before text is taken apart (\(normalization)), and llama.cpp does not")
    }
    if removesExtraSpaces {
      notes.append("\(path) makes one space of several and drops those around a text, and llama.cpp does not")
    }
    if spaces.prefix == .first, vocabulary.tokens.values.contains(where: { $0.matching != nil }) {
      notes.append("\(path) puts a space before a text, and llama.cpp behind each special token, too")
    }
    if spaces.prefix != .never, !spaces.precedesSpaces {
      notes.append("\(path) puts no space before text that starts with one, and llama.cpp does")
    }
    return notes
  }
}
