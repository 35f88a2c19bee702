import NormFoldFormats

extension Vocabulary {
  private static let ggufRoles: KeyValuePairs<String, SpecialRole> = [
    "bos": .beginOfText, "eos": .endOfText, "unknown": .unknown, "padding": .padding,
  ]

  /// From the keys of a GGUF file; nil where its tokenizer is none, or of a kind that is not known.
  package init?(gguf header: GGUFHeader, path: String) throws(Refusal) {
    guard case .string(let name) = header.value("tokenizer.ggml.model"),
      let kind = Self.kinds.first(where: { $0.ggufName == name }),
      case .strings(let texts) = header.value("tokenizer.ggml.tokens")
    else { return nil }
    self.init(path: path)
    var kinds: [Int32] = []
    if case .i32s(let numbers) = header.value("tokenizer.ggml.token_type") { kinds = numbers }
    for (id, text) in texts.enumerated() {
      let kind = id < kinds.count ? TokenKind(rawValue: kinds[id]) ?? .normal : .normal
      guard kind != .unused else { continue }
      tokens[id] = Token(text: text, kind: kind, matching: [.control, .userDefined].contains(kind) ? Matching() : nil)
    }
    for (name, role) in Self.ggufRoles {
      specialTokens[role] = header.value("tokenizer.ggml.\(name)_token_id")?.integer.flatMap {
        tokens[$0] == nil ? nil : $0
      }
    }
    for (key, value) in header.metadata {
      guard case .string(let text) = value, key.hasPrefix(Self.templateKey) else { continue }
      let name = key.dropFirst(Self.templateKey.count)
      if name.isEmpty { chatTemplates[Self.defaultTemplate] = text }
      if name.hasPrefix(".") { chatTemplates[String(name.dropFirst())] = text }
    }
    addsBeginOfText = header.value("tokenizer.ggml.add_bos_token") == .bool(true)
    addsEndOfText = header.value("tokenizer.ggml.add_eos_token") == .bool(true)
    guard try kind.read(gguf: header, into: &self) else { return nil }
    self.kind.complete(&self)
  }

  /// llama.cpp's key of the template that counts; those of others have a name behind it.
  private static let templateKey = "tokenizer.chat_template"

  // MARK: GGUF

  /// Returns the keys of the tokenizer as llama.cpp's converter writes them. Ids without a token are padded with unused
  /// tokens.
  ///
  /// - Throws: `.unsupported` where there are more tokens than rows of the embedding, or llama.cpp would not reproduce the
  ///   tokenizer; `.malformed` where two ids have one text, which would end llama.cpp.
  package func ggufKeys(vocabularySize: Int) throws(Refusal) -> [(key: String, value: GGUFValue)] {
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
    let content = try kind.ggufContent(of: self, tokens: all)
    var seen: [[UInt8]: Int] = [:]
    for (id, text) in content.texts.enumerated() {
      if let other = seen.updateValue(id, forKey: Array(text.utf8)) {
        throw Refusal(
          .malformed, file: path, subject: text, "is the text of the tokens \(other) and \(id)",
          advice: "llama.cpp needs another text for each token")
      }
    }
    var keys: [(key: String, value: GGUFValue)] = [
      ("tokenizer.ggml.model", .string(type(of: kind).ggufName)),
      ("tokenizer.ggml.pre", .string(content.splitting)), ("tokenizer.ggml.tokens", .strings(content.texts)),
      ("tokenizer.ggml.token_type", .i32s(all.map(\.kind.rawValue))),
    ]
    keys += content.keys.map { ("tokenizer.ggml.\($0.name)", $0.value) }
    for (name, role) in Self.ggufRoles {
      if let id = specialTokens[role] { keys.append(("tokenizer.ggml.\(name)_token_id", .u32(UInt32(id)))) }
    }
    if content.saysWhatIsAdded { keys.append(("tokenizer.ggml.add_bos_token", .bool(addsBeginOfText))) }
    if content.saysWhatIsAdded, addsEndOfText { keys.append(("tokenizer.ggml.add_eos_token", .bool(true))) }
    // As llama.cpp's converter writes them: the default one under a key of its own, the names of all others in a list.
    let named = chatTemplates.filter { $0.key != Self.defaultTemplate }.sorted { $0.key < $1.key }
    if let text = chatTemplates[Self.defaultTemplate] { keys.append((Self.templateKey, .string(text))) }
    if !named.isEmpty { keys.append(("\(Self.templateKey)s", .strings(named.map(\.key)))) }
    keys += named.map { ("\(Self.templateKey).\($0.key)", .string($0.value)) }
    return keys
  }

  /// Returns notes on what llama.cpp makes of the tokenizer in another way, or is not told.
  package func notes(vocabularySize: Int) -> [Message] {
    var notes: [Message] = []
    let missing = vocabularySize - tokens.count
    if missing > 0 {
      notes.append("\(missing) rows of the embedding have no token in \(path); they are written as unused tokens")
    }
    if specialTokens[.endOfText] == nil, kind is ByteLevelKind {
      notes.append("\(path) names no end-of-text token, and llama.cpp will take token 11 for it")
    }
    return notes + kind.differencesInLlamaCpp(of: self)
  }

  // MARK: Hugging Face's files

  /// The files as Hugging Face's tokenizers read them.
  package var files: [(name: String, bytes: [UInt8])] {
    let (files, className) = kind.files(of: self)
    return files + [settingsFile(className: className, putsSpaceFirst: false)]
  }

  /// `tokenizer_config.json` for files that lie beside a checkpoint without it; nil where they are of a kind for which libraries
  /// need none.
  ///
  /// - Parameter names: of the files.
  package func settingsFile(beside names: [String]) -> (name: String, bytes: [UInt8])? {
    let hasJSON = names.contains("tokenizer.json")
    guard hasJSON || kind is ByteLevelKind, !(kind is WordPieceKind) else { return nil }
    let className = kind is ByteLevelKind ? kind.files(of: self).className : "PreTrainedTokenizerFast"
    return settingsFile(className: className, putsSpaceFirst: kind.putsSpaceFirst)
  }

  private func settingsFile(className: String, putsSpaceFirst: Bool) -> (name: String, bytes: [UInt8]) {
    let added = tokens.sorted { $0.key < $1.key }.filter { $0.value.matching != nil }.map { id, token in
      JSONValue.Member(key: String(id), value: .object(flags(of: token)))
    }
    var settings: [JSONValue.Member] = [
      .init(key: "add_bos_token", value: .bool(addsBeginOfText)),
      .init(key: "add_prefix_space", value: .bool(putsSpaceFirst)),
      .init(key: "added_tokens_decoder", value: .object(added)),
    ]
    for role in SpecialRole.allCases {
      guard let id = specialTokens[role], let token = tokens[id] else { continue }
      settings.append(.init(key: role.rawValue, value: .string(token.text)))
    }
    if let only = chatTemplates[Self.defaultTemplate], chatTemplates.count == 1 {
      settings.append(.init(key: "chat_template", value: .string(only)))
    } else if !chatTemplates.isEmpty {
      let named = chatTemplates.sorted { $0.key < $1.key }.map { name, text in
        JSONValue.object(["name": .string(name), "template": .string(text)])
      }
      settings.append(.init(key: "chat_template", value: .array(named)))
    }
    settings.append(.init(key: "tokenizer_class", value: .string(className)))
    return (Self.settingsName, Array(JSONValue.object(settings).text.utf8))
  }

  private func flags(of token: Token) -> [JSONValue.Member] {
    let matching = token.matching ?? Matching()
    let flags: KeyValuePairs<String, JSONValue> = [
      "content": .string(token.text), "lstrip": .bool(matching.takesSpaceBefore),
      "normalized": .bool(matching.isSecond), "rstrip": .bool(matching.takesSpaceAfter),
      "single_word": .bool(matching.isSingleWord), "special": .bool([.control, .unknown].contains(token.kind)),
    ]
    return flags.map { .init(key: $0, value: $1) }
  }

  /// An object of tokens and their ids, for `tokenizer.json`.
  func members(where isMember: (Token) -> Bool) -> JSONValue {
    .object(
      tokens.sorted { $0.key < $1.key }.filter { isMember($0.value) }.map {
        .init(key: $0.value.text, value: .number($0.key))
      })
  }

  /// A whole `tokenizer.json`.
  func json(
    normalizer: JSONValue, preTokenizer: JSONValue, postProcessor: JSONValue, decoder: JSONValue,
    model: KeyValuePairs<String, JSONValue>
  ) -> JSONValue {
    let added = tokens.sorted { $0.key < $1.key }.filter { $0.value.matching != nil }.map { id, token in
      JSONValue.object([JSONValue.Member(key: "id", value: .number(id))] + flags(of: token))
    }
    return .object([
      "version": .string("1.0"), "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": normalizer, "pre_tokenizer": preTokenizer, "post_processor": postProcessor, "decoder": decoder,
      "model": .object(model),
    ])
  }
}
