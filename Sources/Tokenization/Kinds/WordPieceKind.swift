import NormFoldFormats

/// WordPiece, as BERT and DistilBERT have it: `tokenizer.json`, or `vocab.txt` with a token a line, or a GGUF file of the kind
/// `bert`.
package struct WordPieceKind: TokenizerKind {
  package var normalizer = BERTNormalizer()
  /// Stands before a piece that goes on with a word.
  package var continuationPrefix = "##"
  /// A word of more characters is unknown (`max_input_chars_per_word`).
  package var maximumWordLength = 100

  package static let ggufName = "bert"
  package static let fileNames = ["vocab.txt"]
  package static let usualSpecialTokens: KeyValuePairs<Vocabulary.SpecialRole, [String]> = [
    .unknown: ["[UNK]"], .padding: ["[PAD]"], .classification: ["[CLS]"], .separator: ["[SEP]"], .mask: ["[MASK]"],
  ]

  /// Texts are apart by the separator that the template puts behind them, and none begins or ends by a token of its own.
  package func complete(_ vocabulary: inout Vocabulary) {
    for (role, names) in Self.usualSpecialTokens where vocabulary.specialTokens[role] == nil {
      vocabulary.specialTokens[role] = names.compactMap { vocabulary.id(of: $0) }.first
    }
    vocabulary.addsBeginOfText = false
    vocabulary.specialTokens[.beginOfText] = nil
  }

  // MARK: Working

  package func normalizer(of vocabulary: Vocabulary) -> (any TextNormalizer)? { normalizer }

  package func model(of vocabulary: Vocabulary) throws(Refusal) -> any TokenModel {
    try WordPieceModel(vocabulary, self)
  }

  /// With the space that stands before a word, but for what the decoder of `tokenizers` puts behind one.
  package func bytes(of token: Vocabulary.Token) -> [UInt8] {
    if token.text.hasPrefix(continuationPrefix), token.text.utf8.count > continuationPrefix.utf8.count {
      return Array(token.text.dropFirst(continuationPrefix.count).utf8)
    }
    let isGlued = Self.glued.contains { token.text.hasPrefix($0) }
    return Array(((isGlued ? "" : " ") + token.text).utf8)
  }

  private static let glued = [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"]

  package var putsSpaceFirst: Bool { true }

  // MARK: tokenizer.json

  package static func read(tokenizerJSON file: JSONFile, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let model = file.value["model"]
    guard model?["type"]?.string == "WordPiece" else { return false }
    var kind = WordPieceKind()
    kind.normalizer = try normalizer(of: file)
    let splitter = file.value["pre_tokenizer"]?["type"]
    guard splitter?.string == "BertPreTokenizer" else {
      throw refusal(file, "pre_tokenizer.type", expected: "BertPreTokenizer", splitter)
    }
    kind.continuationPrefix = model?["continuing_subword_prefix"]?.string ?? "##"
    kind.maximumWordLength = model?["max_input_chars_per_word"]?.count ?? 100
    try vocabulary.readTokens(model?["vocab"], at: "model.vocab", in: file)
    if let text = model?["unk_token"]?.string { vocabulary.specialTokens[.unknown] = vocabulary.id(of: text) }
    vocabulary.kind = kind
    return true
  }

  /// - Throws: `.unsupported` for another normalizer than BERT's.
  private static func normalizer(of file: JSONFile) throws(Refusal) -> BERTNormalizer {
    let value = file.value["normalizer"]
    guard value?["type"]?.string == "BertNormalizer" else {
      throw refusal(file, "normalizer.type", expected: "BertNormalizer", value?["type"])
    }
    return BERTNormalizer(
      cleansText: value?["clean_text"]?.bool ?? true, separatesChinese: value?["handle_chinese_chars"]?.bool ?? true,
      stripsAccents: value?["strip_accents"]?.bool, lowercases: value?["lowercase"]?.bool ?? true)
  }

  private static func refusal(_ file: JSONFile, _ key: String, expected: String, _ found: JSONValue?) -> Refusal {
    Refusal(
      .unsupported, file: file.path, subject: key,
      "expected \(expected), as BERT's tokenizer has it, found \(found?.kind ?? "nothing")",
      advice: "name a tokenizer of BERT's kind")
  }

  // MARK: vocab.txt

  package static func read(directory: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let path = directory + "/" + fileNames[0]
    guard FileIdentity(ofItemAt: path) != nil else { return false }
    try read(listAt: path, into: &vocabulary)
    try vocabulary.readAddedTokens(beside: directory)
    if let settings = try JSONFile(ifPresentAt: directory + "/tokenizer_config.json")?.value {
      vocabulary.kind = WordPieceKind(
        normalizer: BERTNormalizer(
          separatesChinese: settings["tokenize_chinese_chars"]?.bool ?? true,
          stripsAccents: settings["strip_accents"]?.bool, lowercases: settings["do_lower_case"]?.bool ?? true))
    }
    return true
  }

  package static func read(fileAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    guard path.split(separator: "/").last.map(String.init) == fileNames[0] else { return false }
    try read(listAt: path, into: &vocabulary)
    return true
  }

  /// Reads a token a line, whose number is its id.
  private static func read(listAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) {
    vocabulary.path = path
    var lines = try [UInt8](contentOf: path).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    for (id, line) in lines.enumerated() {
      let content = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      guard let text = String(validating: content, as: UTF8.self) else {
        throw Refusal(.malformed, file: path, subject: "line \(id + 1)", "is not UTF-8")
      }
      vocabulary.tokens[id] = Vocabulary.Token(text: text, kind: .normal)
    }
    for (role, names) in usualSpecialTokens {
      guard let id = names.compactMap({ vocabulary.id(of: $0) }).first else { continue }
      vocabulary.specialTokens[role] = id
      vocabulary.markAsControl(id)
    }
    // As transformers' BertTokenizer puts them.
    if let first = vocabulary.specialTokens[.classification], let last = vocabulary.specialTokens[.separator] {
      vocabulary.template = .around(first, last, betweenTexts: [last], secondType: 1)
    }
    vocabulary.kind = WordPieceKind()
  }

  // MARK: Writing

  package func files(of vocabulary: Vocabulary) -> (files: [(name: String, bytes: [UInt8])], className: String) {
    let json = vocabulary.json(
      normalizer: .object([
        "type": .string("BertNormalizer"), "clean_text": .bool(normalizer.cleansText),
        "handle_chinese_chars": .bool(normalizer.separatesChinese),
        "strip_accents": normalizer.stripsAccents.map { .bool($0) } ?? .null, "lowercase": .bool(normalizer.lowercases),
      ]), preTokenizer: .object(["type": .string("BertPreTokenizer")]),
      postProcessor: vocabulary.template?.json(of: vocabulary) ?? .null,
      decoder: .object([
        "type": .string("WordPiece"), "prefix": .string(continuationPrefix), "cleanup": .bool(true),
      ]),
      model: [
        "type": .string("WordPiece"),
        "unk_token": .string(vocabulary.specialTokens[.unknown].flatMap { vocabulary.tokens[$0]?.text } ?? "[UNK]"),
        "continuing_subword_prefix": .string(continuationPrefix),
        "max_input_chars_per_word": .number(maximumWordLength), "vocab": vocabulary.members { $0.isInModel },
      ])
    return ([("tokenizer.json", Array(json.text.utf8))], "BertTokenizer")
  }
}
