import NormFoldFormats

extension SentencePieceKind {
  package static func read(tokenizerJSON file: JSONFile, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let model = file.value["model"]
    guard [nil, "BPE"].contains(model?["type"]?.string), let replacing = try SpaceReplacing(of: file) else {
      return false
    }
    try requireKind(of: file)
    var kind = SentencePieceKind()
    kind.spaces = replacing.spaces
    kind.replacesLate = replacing.isLate
    kind.hasBytes = model?["byte_fallback"]?.bool ?? false
    kind.fusesUnknown = model?["fuse_unk"]?.bool ?? false
    try vocabulary.readTokens(model?["vocab"], at: "model.vocab", in: file)
    var pairs: [Pair] = []
    for merge in try file.merges(joined: { left, right in left + " " + right }) {
      let parts = merge.utf8.split(separator: UInt8(ascii: " ")).map { ExactText(Substring($0)) }
      guard parts.count == 2 else {
        throw Refusal(.malformed, file: file.path, subject: merge, "expected a merge of two parts without spaces")
      }
      pairs.append(Pair(left: parts[0], right: parts[1]))
    }
    kind.order = .merges(pairs)
    if let text = model?["unk_token"]?.string {
      guard let id = vocabulary.id(of: text) else {
        throw Refusal(.malformed, file: file.path, subject: "model.unk_token", "is not in the vocabulary: \(text)")
      }
      vocabulary.specialTokens[.unknown] = id
    }
    vocabulary.kind = kind
    return true
  }

  /// - Throws: `.unsupported` for what LLaMA's tokenizers do not do.
  private static func requireKind(of file: JSONFile) throws(Refusal) {
    let model = file.value["model"]
    func isEmpty(_ key: String) -> Bool { (model?[key]?.string ?? "").isEmpty }
    let checks: [(key: String, holds: Bool, expected: String)] = [
      ("dropout", model?["dropout"]?.isNull ?? true || model?["dropout"]?.double == 0, "null"),
      ("continuing_subword_prefix", isEmpty("continuing_subword_prefix"), "none"),
      ("end_of_word_suffix", isEmpty("end_of_word_suffix"), "none"),
      ("ignore_merges", model?["ignore_merges"]?.bool != true, "false"),
    ]
    for check in checks where !check.holds {
      throw Refusal(
        .unsupported, file: file.path, subject: "model.\(check.key)",
        "expected \(check.expected), as LLaMA's tokenizer has it, found \(model?[check.key]?.kind ?? "nothing")",
        advice: "name a tokenizer of LLaMA's kind")
    }
  }

  // MARK: Writing

  package func files(of vocabulary: Vocabulary) -> (files: [(name: String, bytes: [UInt8])], className: String) {
    let unknown = vocabulary.specialTokens[.unknown].flatMap { vocabulary.tokens[$0]?.text }
    var processor = JSONValue.null
    if let template = vocabulary.template {
      processor = template.json(of: vocabulary)
    } else if vocabulary.addsBeginOfText, let id = vocabulary.specialTokens[.beginOfText] {
      processor = TokenTemplate.beginning(with: id).json(of: vocabulary)
    }
    let merges = pairs(of: vocabulary).map { JSONValue.array([.string($0.left.text), .string($0.right.text)]) }
    let json = vocabulary.json(
      normalizer: replacesLate ? .null : spaces.normalizer, preTokenizer: replacesLate ? spaces.preTokenizer : .null,
      postProcessor: processor, decoder: spaces.decoder,
      model: [
        "type": .string("BPE"), "dropout": .null, "unk_token": unknown.map { .string($0) } ?? .null,
        "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "fuse_unk": .bool(fusesUnknown),
        "byte_fallback": .bool(hasBytes), "ignore_merges": .bool(false), "vocab": vocabulary.members { $0.isInModel },
        "merges": .array(merges),
      ])
    return ([("tokenizer.json", Array(json.text.utf8))], "PreTrainedTokenizerFast")
  }

  /// The merges in order of rank; of scores, every way to make each token of two others, as transformers' converter has it.
  private func pairs(of vocabulary: Vocabulary) -> [Pair] {
    switch order {
    case .merges(let pairs): return pairs
    case .scores(let scores):
      var ids: [ExactText: Int] = [:]
      let pieces = vocabulary.tokens.filter { $0.value.isInModel && $0.value.kind == .normal }
      for (id, token) in pieces { ids[ExactText(token.text)] = id }
      let byScore = pieces.keys.sorted { ((scores[$1] ?? 0), $0) < ((scores[$0] ?? 0), $1) }
      return byScore.flatMap { id in
        Self.splits(of: pieces[id]?.text ?? "") { ids[$0] != nil }.sorted {
          (ids[$0.left] ?? 0, ids[$0.right] ?? 0) < (ids[$1.left] ?? 0, ids[$1.right] ?? 0)
        }
      }
    }
  }
}

/// The way in which a `tokenizer.json` replaces spaces.
private struct SpaceReplacing {
  var spaces: Metaspace
  var isLate: Bool

  /// - Returns: nil for a tokenizer that leaves spaces as they are.
  /// - Throws: `.unsupported` for one that does more with text.
  init?(of file: JSONFile) throws(Refusal) {
    let (normalizer, splitter) = (file.value["normalizer"], file.value["pre_tokenizer"])
    if splitter?["type"]?.string == "Metaspace" {
      guard normalizer?.isNull ?? true else { throw Self.refusal("normalizer.type", "none", normalizer, file) }
      spaces = try Self.metaspace(splitter, in: file)
      isLate = true
      return
    }
    let parts = normalizer?["type"]?.string == "Sequence" ? normalizer?["normalizers"]?.array : normalizer.map { [$0] }
    guard let parts, parts.contains(where: { Self.isReplacement($0) }) else { return nil }
    spaces = Metaspace(prefix: .never)
    isLate = false
    for (index, part) in parts.enumerated() {
      if Self.isReplacement(part) { continue }
      let mark = String(SentencePieceKind.mark)
      guard part["type"]?.string == "Prepend", part["prepend"]?.string == mark, spaces.prefix == .never else {
        throw Self.refusal("normalizer.normalizers[\(index)]", "one Prepend and one Replace", part, file)
      }
      spaces.prefix = .always
    }
    // Where no spaces are left, splitting at them does nothing.
    let isIdle = splitter?["type"]?.string == "Split" && splitter?["pattern"]?["String"]?.string == " "
    guard splitter?.isNull ?? true || isIdle else { throw Self.refusal("pre_tokenizer", "none", splitter, file) }
  }

  private static func isReplacement(_ value: JSONValue) -> Bool {
    value["type"]?.string == "Replace" && value["pattern"]?["String"]?.string == " "
      && value["content"]?.string == String(SentencePieceKind.mark)
  }

  private static func metaspace(_ value: JSONValue?, in file: JSONFile) throws(Refusal) -> Metaspace {
    let mark = value?["replacement"]
    guard mark?.string == String(SentencePieceKind.mark) else {
      throw refusal("pre_tokenizer.replacement", "'▁'", mark, file)
    }
    // Older files say `add_prefix_space`, newer ones `prepend_scheme`.
    let scheme = value?["prepend_scheme"]
    let prefix = scheme == nil ? .always : scheme?.string.flatMap { Metaspace.Prefix(rawValue: $0) }
    guard let prefix else { throw refusal("pre_tokenizer.prepend_scheme", "never, first or always", scheme, file) }
    guard value?["add_prefix_space"]?.bool != false || prefix == .never else {
      throw refusal(
        "pre_tokenizer.add_prefix_space", "true, as the prepend_scheme '\(prefix)' says", .bool(false), file)
    }
    return Metaspace(prefix: prefix, precedesSpaces: false, splits: value?["split"]?.bool ?? true)
  }

  private static func refusal(_ key: String, _ expected: String, _ found: JSONValue?, _ file: JSONFile) -> Refusal {
    let kind = (found?["type"] ?? found)?.kind ?? "nothing"
    return Refusal(
      .unsupported, file: file.path, subject: key, "expected \(expected), as LLaMA's tokenizer has it, found \(kind)",
      advice: "name a tokenizer of LLaMA's kind")
  }
}

extension Metaspace {
  private static let text = String(SentencePieceKind.mark)

  fileprivate var normalizer: JSONValue {
    let replacement = JSONValue.object([
      "type": .string("Replace"), "pattern": .object(["String": .string(" ")]), "content": .string(Self.text),
    ])
    guard prefix != .never else { return replacement }
    return .object([
      "type": .string("Sequence"),
      "normalizers": .array([
        .object(["type": .string("Prepend"), "prepend": .string(Self.text)]), replacement,
      ]),
    ])
  }

  fileprivate var preTokenizer: JSONValue {
    .object([
      "type": .string("Metaspace"), "replacement": .string(Self.text), "prepend_scheme": .string(prefix.rawValue),
      "split": .bool(splits),
    ])
  }

  fileprivate var decoder: JSONValue {
    var parts: [JSONValue] = [
      .object([
        "type": .string("Replace"), "pattern": .object(["String": .string(Self.text)]), "content": .string(" "),
      ]), .object(["type": .string("ByteFallback")]), .object(["type": .string("Fuse")]),
    ]
    if prefix != .never {
      parts.append(
        .object([
          "type": .string("Strip"), "content": .string(" "), "start": .number(1), "stop": .number(0),
        ]))
    }
    return .object(["type": .string("Sequence"), "decoders": .array(parts)])
  }
}
