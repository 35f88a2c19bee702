import Formats

extension BytePairVocabulary {
  /// From the keys of a GGUF file; nil where its tokenizer is none, or of another kind than GPT-2's.
  package init?(gguf header: GGUFHeader, path: String) {
    // Files without `pre` are older than any other rule for splitting text.
    guard header.value("tokenizer.ggml.model") == .string("gpt2"),
      [nil, .string("gpt-2")].contains(header.value("tokenizer.ggml.pre")),
      case .strings(let texts) = header.value("tokenizer.ggml.tokens"),
      case .strings(let merges) = header.value("tokenizer.ggml.merges")
    else { return nil }
    self.init(path: path)
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

  /// llama.cpp's key of the template that counts; those of others have a name behind it.
  package static let templateKey = "tokenizer.chat_template"

  /// As Hugging Face's GPT2Tokenizer reads it.
  package var files: [(name: String, bytes: [UInt8])] {
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
    settings.append(.init(key: "tokenizer_class", value: .string("GPT2Tokenizer")))
    return [
      ("vocab.json", Array(vocabulary.text.utf8)),
      ("merges.txt", Array((["#version: 0.2"] + merges).joined(separator: "\n").utf8) + [UInt8(ascii: "\n")]),
      ("tokenizer_config.json", Array(JSONValue.object(settings).text.utf8)),
    ]
  }
}
