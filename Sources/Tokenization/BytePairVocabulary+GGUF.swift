import Formats

extension BytePairVocabulary {
  /// From the keys of a GGUF file; nil where its tokenizer is none, or of another kind than GPT-2's.
  package init?(gguf header: GGUFHeader, path: String) {
    guard header.value("tokenizer.ggml.model") == .string("gpt2"),
      let splitting = Self.splitting(header.value("tokenizer.ggml.pre")),
      case .strings(let texts) = header.value("tokenizer.ggml.tokens"),
      case .strings(let merges) = header.value("tokenizer.ggml.merges")
    else { return nil }
    self.init(path: path)
    (pattern, takesWholePieces) = splitting
    var kinds: [Int32] = []
    if case .i32s(let numbers) = header.value("tokenizer.ggml.token_type") { kinds = numbers }
    for (id, text) in texts.enumerated() {
      let kind = id < kinds.count ? Kind(rawValue: kinds[id]) ?? .normal : .normal
      if kind != .unused { tokens[id] = Token(text: text, kind: kind) }
    }
    self.merges = merges
    for (name, role) in [
      ("bos", SpecialRole.beginOfText), ("eos", .endOfText), ("unknown", .unknown), ("padding", .padding),
    ] {
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
  }

  /// What llama.cpp calls the ways to split text that are known here.
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

  /// llama.cpp's key of the template that counts; those of others have a name behind it.
  package static let templateKey = "tokenizer.chat_template"

  /// `tokenizer.json` for text that another pattern than GPT-2's splits.
  private var whole: JSONValue {
    let byID = tokens.sorted { $0.key < $1.key }
    let vocabulary = byID.filter { $0.value.kind == .normal }.map { id, token in
      JSONValue.Member(key: token.text, value: .number(id))
    }
    let added = byID.filter { $0.value.kind != .normal }.map { id, token in
      JSONValue.object([
        "id": .number(id), "content": .string(token.text), "single_word": .bool(false), "lstrip": .bool(false),
        "rstrip": .bool(false), "normalized": .bool(false), "special": .bool(token.kind == .control),
      ])
    }
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
    if addsBeginOfText, let id = specialTokens[.beginOfText], let text = tokens[id]?.text {
      let first = JSONValue.object(["SpecialToken": .object(["id": .string(text), "type_id": .number(0)])])
      func sequence(_ name: String) -> JSONValue {
        .object(["Sequence": .object(["id": .string(name), "type_id": .number(name == "A" ? 0 : 1)])])
      }
      processor = .object([
        "type": .string("TemplateProcessing"), "single": .array([first, sequence("A")]),
        "pair": .array([first, sequence("A"), sequence("B")]),
        "special_tokens": .object([
          .init(
            key: text,
            value: .object([
              "id": .string(text), "ids": .array([.number(id)]), "tokens": .array([.string(text)]),
            ]))
        ]),
      ])
    }
    return .object([
      "version": .string("1.0"), "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": normalizesToNFC ? .object(["type": .string("NFC")]) : .null, "pre_tokenizer": splitting ?? bytes,
      "post_processor": processor, "decoder": bytes,
      "model": .object([
        "type": .string("BPE"), "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": .bool(false), "byte_fallback": .bool(false),
        "ignore_merges": .bool(takesWholePieces), "vocab": .object(vocabulary),
        "merges": .array(merges.map { .string($0) }),
      ]),
    ])
  }

  /// As Hugging Face's GPT2Tokenizer reads it, or where text is split in another way, its PreTrainedTokenizerFast.
  package var files: [(name: String, bytes: [UInt8])] {
    let isGPT2 = pattern == .gpt2 && !takesWholePieces
    let byID = tokens.sorted { $0.key < $1.key }
    let vocabulary = JSONValue.object(
      byID.filter { $0.value.kind != .userDefined }.map { .init(key: $0.value.text, value: .number($0.key)) })
    let added = byID.filter { $0.value.kind != .normal }.map { id, token in
      JSONValue.Member(
        key: String(id),
        value: .object([
          "content": .string(token.text), "lstrip": .bool(false), "normalized": .bool(false), "rstrip": .bool(false),
          "single_word": .bool(false), "special": .bool(token.kind == .control),
        ]))
    }
    var settings: [JSONValue.Member] = [
      .init(key: "add_bos_token", value: .bool(addsBeginOfText)), .init(key: "add_prefix_space", value: .bool(false)),
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
    let settingsFile = "tokenizer_config.json"
    settings.append(
      .init(key: "tokenizer_class", value: .string(isGPT2 ? "GPT2Tokenizer" : "PreTrainedTokenizerFast")))
    guard isGPT2 else {
      return [
        ("tokenizer.json", Array(whole.text.utf8)), (settingsFile, Array(JSONValue.object(settings).text.utf8)),
      ]
    }
    return [
      ("vocab.json", Array(vocabulary.text.utf8)),
      ("merges.txt", Array((["#version: 0.2"] + merges).joined(separator: "\n").utf8) + [UInt8(ascii: "\n")]),
      (settingsFile, Array(JSONValue.object(settings).text.utf8)),
    ]
  }
}
