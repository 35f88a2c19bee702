import NormFoldFormats

/// Byte-level BPE as GPT-2 defines it, and with the patterns of Llama 3 and Qwen2: `tokenizer.json`, or `vocab.json` and
/// `merges.txt`.
package struct ByteLevelKind: TokenizerKind {
  /// In order of rank: two parts with a space between.
  package var merges: [String] = []
  package var pattern = SplittingPattern.gpt2
  /// Is true if a piece that is a token as it is becomes that token, whatever merges would make of it (`ignore_merges`).
  package var takesWholePieces = false
  /// Is true if text is brought to Unicode's normalisation form C before it is split (`NFC`).
  package var normalizesToNFC = false
  /// Is true if a space is put before text that does not start with one (`add_prefix_space`).
  package var addsPrefixSpace = false

  package static let ggufName = "gpt2"
  package static let fileNames = ["vocab.json", "merges.txt"]
  package static let usualSpecialTokens: KeyValuePairs<Vocabulary.SpecialRole, [String]> = [
    .endOfText: ["<|endoftext|>"]
  ]

  // MARK: Working

  package func normalizer(of vocabulary: Vocabulary) -> (any TextNormalizer)? {
    normalizesToNFC ? CanonicalNormalizer() : nil
  }

  package func model(of vocabulary: Vocabulary) throws(Refusal) -> any TokenModel {
    try ByteLevelModel(vocabulary, self)
  }

  package func bytes(of token: Vocabulary.Token) -> [UInt8] {
    // A token of characters that stand for no bytes is what it says.
    (token.kind == .normal ? ByteAlphabet.bytes(of: token.text) : nil) ?? Array(token.text.utf8)
  }

  package var putsSpaceFirst: Bool { addsPrefixSpace }

  // MARK: tokenizer.json

  package static func read(tokenizerJSON file: JSONFile, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let model = file.value["model"]
    try requireKind(of: file)
    var kind = ByteLevelKind()
    (kind.pattern, kind.addsPrefixSpace) = try splitting(of: file)
    kind.takesWholePieces = model?["ignore_merges"]?.bool ?? false
    kind.normalizesToNFC = try normalizesToNFC(file.value["normalizer"], at: "normalizer", in: file)
    try vocabulary.readTokens(model?["vocab"], at: "model.vocab", in: file)
    kind.merges = try file.merges { (left, right) in merge(left, right) }
    vocabulary.kind = kind
    return true
  }

  /// - Returns: false for no normalizer; true for `NFC`, alone or as the only kind in a sequence.
  /// - Throws: `.unsupported` for another one.
  private static func normalizesToNFC(
    _ normalizer: JSONValue?, at key: String, in file: JSONFile
  ) throws(Refusal) -> Bool {
    guard let normalizer, !normalizer.isNull else { return false }
    switch normalizer["type"]?.string {
    case "NFC": return true
    case "Sequence":
      guard let parts = normalizer["normalizers"]?.array else {
        throw file.refusal("\(key).normalizers", expected: "an array", normalizer["normalizers"])
      }
      var isNFC = false
      for (index, part) in parts.enumerated() {
        if try normalizesToNFC(part, at: "\(key).normalizers[\(index)]", in: file) { isNFC = true }
      }
      return isNFC
    default:
      throw Refusal(
        .unsupported, file: file.path, subject: "\(key).type",
        "expected NFC or no normalizer, found \(normalizer["type"]?.kind ?? "nothing")",
        advice: "name a tokenizer that changes text by NFC alone")
    }
  }

  /// - Throws: `.unsupported` for what GPT-2's tokenizer does not do.
  private static func requireKind(of file: JSONFile) throws(Refusal) {
    let model = file.value["model"]
    guard [nil, "BPE"].contains(model?["type"]?.string) else {
      throw Refusal(
        .unsupported, file: file.path, subject: "model.type",
        "expected BPE or WordPiece, found \(model?["type"]?.kind ?? "nothing")",
        advice: "name a tokenizer of one of these kinds")
    }
    let checks: [(key: String, found: JSONValue?, holds: Bool, expected: String)] = [
      (
        "model.dropout", model?["dropout"], model?["dropout"]?.isNull ?? true || model?["dropout"]?.double == 0, "null"
      ),
      ("model.byte_fallback", model?["byte_fallback"], model?["byte_fallback"]?.bool != true, "false"),
      (
        "model.continuing_subword_prefix", model?["continuing_subword_prefix"],
        (model?["continuing_subword_prefix"]?.string ?? "").isEmpty, "none"
      ),
      (
        "model.end_of_word_suffix", model?["end_of_word_suffix"],
        (model?["end_of_word_suffix"]?.string ?? "").isEmpty, "none"
      ),
    ]
    for check in checks where !check.holds {
      throw Refusal(
        .unsupported, file: file.path, subject: check.key,
        "expected \(check.expected), as GPT-2's tokenizer has it, found \(check.found?.kind ?? "nothing")",
        advice: "name a tokenizer of GPT-2's kind")
    }
  }

  /// Returns how text is split: by `ByteLevel` and its own pattern, or by a pattern before it.
  ///
  /// - Throws: `.unsupported` for another pattern or pre-tokenizer.
  private static func splitting(
    of file: JSONFile
  ) throws(Refusal) -> (pattern: SplittingPattern, addsPrefixSpace: Bool) {
    let whole = file.value["pre_tokenizer"]
    let parts = whole?["type"]?.string == "Sequence" ? whole?["pretokenizers"]?.array : nil
    guard let parts else {
      try requireByteLevel(whole, at: "pre_tokenizer", usesRegex: true, in: file)
      // `tokenizers` puts a space first where the key is missing.
      return (.gpt2, whole?["add_prefix_space"]?.bool ?? true)
    }
    guard parts.count == 2, parts[0]["type"]?.string == "Split" else {
      throw Refusal(
        .unsupported, file: file.path, subject: "pre_tokenizer.pretokenizers",
        "expected a Split and then ByteLevel, found \(parts.count) pre-tokenizers",
        advice: "name a tokenizer of the kind of GPT-2's, Llama 3's or Qwen2's")
    }
    let key = "pre_tokenizer.pretokenizers[0]"
    let expression = parts[0]["pattern"]?["Regex"]
    guard
      let pattern = SplittingPattern.allCases.first(where: { $0.expression.map { $0 == expression?.string } ?? false }),
      parts[0]["behavior"]?.string == "Isolated", parts[0]["invert"]?.bool != true
    else {
      throw Refusal(
        .unsupported, file: file.path, subject: "\(key).pattern",
        "expected the pattern of Llama 3 or of Qwen2, isolated, found \(expression?.kind ?? "nothing")",
        advice: "name a tokenizer of the kind of GPT-2's, Llama 3's or Qwen2's")
    }
    try requireByteLevel(parts[1], at: "pre_tokenizer.pretokenizers[1]", usesRegex: false, in: file)
    return (pattern, false)
  }

  /// - Throws: `.unsupported` for what the byte-level pre-tokenizer of GPT-2 does not do.
  private static func requireByteLevel(
    _ value: JSONValue?, at key: String, usesRegex: Bool, in file: JSONFile
  ) throws(Refusal) {
    let checks: [(key: String, found: JSONValue?, holds: Bool, expected: String)] = [
      ("type", value?["type"], value?["type"]?.string == "ByteLevel", "ByteLevel"),
      ("use_regex", value?["use_regex"], (value?["use_regex"]?.bool ?? true) == usesRegex, "\(usesRegex)"),
      (
        "add_prefix_space", value?["add_prefix_space"], usesRegex || value?["add_prefix_space"]?.bool == false, "false"
      ),
    ]
    for check in checks where !check.holds {
      throw Refusal(
        .unsupported, file: file.path, subject: "\(key).\(check.key)",
        "expected \(check.expected), as GPT-2's tokenizer has it, found \(check.found?.kind ?? "nothing")",
        advice: "name a tokenizer of GPT-2's kind")
    }
  }

  // MARK: vocab.json and merges.txt

  package static func read(directory: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let (path, merges) = (directory + "/vocab.json", directory + "/merges.txt")
    guard FileIdentity(ofItemAt: path) != nil, FileIdentity(ofItemAt: merges) != nil else { return false }
    vocabulary.path = path
    let file = try JSONFile(path: path)
    try vocabulary.readTokens(file.value, at: "vocab", in: file)
    var kind = ByteLevelKind()
    kind.merges = try readMerges(merges)
    try vocabulary.readAddedTokens(beside: directory)
    let settings = try JSONFile(ifPresentAt: directory + "/tokenizer_config.json")?.value
    if settings?["tokenizer_class"]?.string?.hasPrefix("Roberta") == true {
      kind.addsPrefixSpace = settings?["add_prefix_space"]?.bool ?? false
      vocabulary.addRoBERTaTokens()
    }
    vocabulary.kind = kind
    return true
  }

  /// Lines of two parts. The first says a version.
  private static func readMerges(_ path: String) throws(Refusal) -> [String] {
    let bytes = try [UInt8](contentOf: path)
    var merges: [String] = []
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let content = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      guard !content.isEmpty, let text = String(validating: content, as: UTF8.self) else {
        if content.isEmpty { continue }
        throw Refusal(.malformed, file: path, subject: "line \(index + 1)", "is not UTF-8")
      }
      if index == 0, text.hasPrefix("#version") { continue }
      guard JSONFile.isMerge(text) else {
        throw Refusal(
          .malformed, file: path, subject: "line \(index + 1)",
          "expected two parts with a space between, found '\(text)'")
      }
      merges.append(text)
    }
    return merges
  }

  /// One string of two parts, in which spaces become `Ġ`: that between the parts must be the only one.
  private static func merge(_ left: String, _ right: String) -> String {
    func spelt(_ part: String) -> String {
      String(String.UnicodeScalarView(part.unicodeScalars.map { $0 == " " ? "\u{120}" : $0 }))
    }
    return spelt(left) + " " + spelt(right)
  }

  // MARK: Writing

  package func files(of vocabulary: Vocabulary) -> (files: [(name: String, bytes: [UInt8])], className: String) {
    // As Hugging Face's GPT2Tokenizer reads it, or where text is split in another way, its PreTrainedTokenizerFast.
    guard pattern == .gpt2, !takesWholePieces else {
      return ([("tokenizer.json", Array(json(of: vocabulary).text.utf8))], "PreTrainedTokenizerFast")
    }
    let byID = vocabulary.tokens.sorted { $0.key < $1.key }
    let members = byID.filter { $0.value.kind != .userDefined }.map { id, token in
      JSONValue.Member(key: token.text, value: .number(id))
    }
    let lines = (["#version: 0.2"] + merges).joined(separator: "\n") + "\n"
    return (
      [("vocab.json", Array(JSONValue.object(members).text.utf8)), ("merges.txt", Array(lines.utf8))], "GPT2Tokenizer"
    )
  }

  /// `tokenizer.json` for text that another pattern than GPT-2's splits.
  private func json(of vocabulary: Vocabulary) -> JSONValue {
    let bytes = JSONValue.object([
      "type": .string("ByteLevel"), "add_prefix_space": .bool(false), "trim_offsets": .bool(true),
      "use_regex": .bool(pattern.expression == nil),
    ])
    let splitting = pattern.expression.map { expression in
      JSONValue.object([
        "type": .string("Sequence"),
        "pretokenizers": .array([
          .object([
            "type": .string("Split"), "pattern": .object(["Regex": .string(expression)]),
            "behavior": .string("Isolated"), "invert": .bool(false),
          ]), bytes,
        ]),
      ])
    }
    var processor = bytes
    if vocabulary.addsBeginOfText, let id = vocabulary.specialTokens[.beginOfText] {
      processor = TokenTemplate.beginning(with: id).json(of: vocabulary)
    }
    return vocabulary.json(
      normalizer: normalizesToNFC ? .object(["type": .string("NFC")]) : .null, preTokenizer: splitting ?? bytes,
      postProcessor: processor, decoder: bytes,
      model: [
        "type": .string("BPE"), "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": .bool(false), "byte_fallback": .bool(false),
        "ignore_merges": .bool(takesWholePieces), "vocab": vocabulary.members { $0.kind == .normal },
        "merges": .array(merges.map { .string($0) }),
      ])
  }
}

extension Vocabulary {
  /// Adds what transformers' RobertaTokenizer knows without a file: `<s>`, `</s>` and the others, and the template.
  fileprivate mutating func addRoBERTaTokens() {
    let names: KeyValuePairs<String, [SpecialRole]> = [
      "<s>": [.beginOfText, .classification], "</s>": [.endOfText, .separator], "<unk>": [.unknown],
      "<pad>": [.padding],
      "<mask>": [.mask],
    ]
    for (text, roles) in names {
      guard let id = id(of: text) else { continue }
      for role in roles { specialTokens[role] = id }
      markAsControl(id)
      if text == "<mask>" { tokens[id]?.matching?.takesSpaceBefore = true }
    }
    if let first = specialTokens[.classification], let last = specialTokens[.separator] {
      template = .around(first, last, betweenTexts: [last, last], secondType: 0)
    }
  }
}
