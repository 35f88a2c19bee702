import Formats

extension BytePairVocabulary {
  /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt` with what lies beside them; nil where there is neither.
  ///
  /// - Parameter checkpoint: the file that they lie beside, where the user named that and not them: then none may be a link
  ///   that leads elsewhere.
  /// - Throws: `.malformed` for damaged files; `.unsupported` for a tokenizer of another kind than GPT-2's.
  package init?(directory: String, besideFileAt checkpoint: String? = nil) throws(Refusal) {
    if let checkpoint { try Self.requireAtHome(in: directory, homes: HomeDirectories(ofFileAt: checkpoint)) }
    let whole = directory + "/tokenizer.json"
    if FileIdentity(ofItemAt: whole) != nil {
      self.init(path: whole)
      try readTokenizerJSON()
    } else if FileIdentity(ofItemAt: directory + "/vocab.json") != nil,
      FileIdentity(ofItemAt: directory + "/merges.txt") != nil
    {
      self.init(path: directory + "/vocab.json")
      try readVocabulary(JSONFile(path: path))
      try readMerges(directory + "/merges.txt")
      try readAddedTokens(beside: directory)
    } else {
      return nil
    }
    try readSpecialTokens(beside: directory)
    try readChatTemplates(beside: directory)
  }

  /// Every file that is read, where it is there.
  package static let fileNames = [
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", chatTemplateName,
  ]

  /// The template of a conversation, which counts before the one in `tokenizer_config.json`.
  package static let chatTemplateName = "chat_template.jinja"

  /// Templates in use have a few kilobytes.
  private static let maximumTemplateByteCount = 1 << 20

  /// Ids stay below this limit, so that what is counted with them does not overflow.
  private static let idLimit = 1 << 32

  private static func requireAtHome(in directory: String, homes: HomeDirectories) throws(Refusal) {
    for name in fileNames {
      guard homes.contain(fileAt: "\(directory)/\(name)") == false else { continue }
      throw Refusal(
        .malformed, file: "\(directory)/\(name)", "is a link that leaves the directory of the checkpoint",
        advice: "copy the file itself there, or remove the link")
    }
  }

  /// Reads one `tokenizer.json`, and what lies beside it of special tokens.
  ///
  /// - Throws: as ``init(directory:)``.
  init(tokenizerJSON path: String) throws(Refusal) {
    self.init(path: path)
    try readTokenizerJSON()
    let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? "."
    try readSpecialTokens(beside: directory)
  }

  /// Adds what a config says of special tokens, where the tokenizer's own files say nothing; then what GPT-2 has.
  ///
  /// - Parameter configuration: the content of `config.json`.
  package mutating func completeSpecialTokens(from configuration: JSONValue?) {
    for (role, key) in [
      (SpecialRole.beginOfText, "bos_token_id"), (.endOfText, "eos_token_id"), (.padding, "pad_token_id"),
    ]
    where specialTokens[role] == nil {
      // Of several tokens that end a text, the first.
      let said = configuration?[key]
      if let id = said?.count ?? said?.array?.first?.count, tokens[id] != nil { specialTokens[role] = id }
    }
    if specialTokens[.endOfText] == nil, let id = id(of: "<|endoftext|>") { specialTokens[.endOfText] = id }
    if specialTokens[.beginOfText] == nil { specialTokens[.beginOfText] = specialTokens[.endOfText] }
    // A config may name any token, "!" for padding, say, which is text all the same.
    for id in specialTokens.values where tokens[id]?.looksLikeControl ?? false { tokens[id]?.kind = .control }
  }

  // MARK: tokenizer.json

  private mutating func readTokenizerJSON() throws(Refusal) {
    let file = try JSONFile(path: path)
    guard let model = file.value["model"] else {
      throw Refusal(
        .malformed, file: path, "is no tokenizer.json: it says nothing of a model",
        advice: "name the directory where vocab.json and merges.txt lie together")
    }
    try requireKind(of: file)
    pattern = try Self.pattern(of: file)
    takesWholePieces = model["ignore_merges"]?.bool ?? false
    normalizesToNFC = try Self.normalizesToNFC(file.value["normalizer"], at: "normalizer", in: file)
    guard let vocabulary = model["vocab"] else { throw file.refusal("model.vocab", expected: "an object", nil) }
    try readVocabulary(JSONFile(path: path, value: vocabulary))
    guard let list = model["merges"]?.array else {
      throw file.refusal("model.merges", expected: "an array", model["merges"])
    }
    merges.reserveCapacity(list.count)
    for (index, item) in list.enumerated() {
      // Written as "a b" by older versions of the library, as ["a", "b"] by newer ones.
      if let text = item.string, Self.isMerge(text) {
        merges.append(text)
      } else if let parts = item.array, parts.count == 2, let left = parts[0].string, let right = parts[1].string {
        merges.append(Self.merge(left, right))
      } else {
        throw file.refusal("model.merges[\(index)]", expected: "two parts", item)
      }
    }
    for (index, item) in (file.value["added_tokens"]?.array ?? []).enumerated() {
      guard let id = item["id"]?.count, let text = item["content"]?.string else {
        throw file.refusal("added_tokens[\(index)]", expected: "an id and a content", item)
      }
      try add(text, id: id, item, file: file)
    }
    // What a post-processor puts first begins a text.
    let processor = file.value["post_processor"]
    for part in processor?["processors"]?.array ?? [processor].compactMap(\.self) {
      guard let first = part["single"]?.array?.first?["SpecialToken"]?["id"]?.string, let id = id(of: first) else {
        continue
      }
      (specialTokens[.beginOfText], addsBeginOfText) = (id, true)
    }
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
  private func requireKind(of file: JSONFile) throws(Refusal) {
    let model = file.value["model"]
    let checks: [(key: String, found: JSONValue?, holds: Bool, expected: String)] = [
      ("model.type", model?["type"], [nil, "BPE"].contains(model?["type"]?.string), "BPE"),
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
        .unsupported, file: path, subject: check.key,
        "expected \(check.expected), as GPT-2's tokenizer has it, found \(check.found?.kind ?? "nothing")",
        advice: "name a tokenizer of GPT-2's kind")
    }
  }

  /// How text is split: by `ByteLevel` and its own pattern, or by a pattern before it.
  ///
  /// - Throws: `.unsupported` for another pattern or pre-tokenizer.
  private static func pattern(of file: JSONFile) throws(Refusal) -> SplittingPattern {
    let whole = file.value["pre_tokenizer"]
    let parts = whole?["type"]?.string == "Sequence" ? whole?["pretokenizers"]?.array : nil
    guard let parts else {
      try requireByteLevel(whole, at: "pre_tokenizer", usesRegex: true, in: file)
      return .gpt2
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
    return pattern
  }

  /// - Throws: `.unsupported` for what the byte-level pre-tokenizer of GPT-2 does not do.
  private static func requireByteLevel(
    _ value: JSONValue?, at key: String, usesRegex: Bool, in file: JSONFile
  ) throws(Refusal) {
    let checks: [(key: String, found: JSONValue?, holds: Bool, expected: String)] = [
      ("type", value?["type"], value?["type"]?.string == "ByteLevel", "ByteLevel"),
      ("use_regex", value?["use_regex"], (value?["use_regex"]?.bool ?? true) == usesRegex, "\(usesRegex)"),
      (
        "add_prefix_space", value?["add_prefix_space"], value?["add_prefix_space"]?.bool == false, "false"
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

  private mutating func readVocabulary(_ file: JSONFile) throws(Refusal) {
    guard let members = file.value.members else {
      throw file.refusal("vocab", expected: "an object of tokens and their ids", file.value)
    }
    tokens.reserveCapacity(members.count)
    for member in members {
      guard let id = member.value.count else {
        throw file.refusal(member.key, expected: "an id", member.value)
      }
      guard id < Self.idLimit else { throw file.refusal(member.key, expected: "an id below 2^32", member.value) }
      if let other = tokens.updateValue(Token(text: member.key, kind: .normal), forKey: id) {
        throw Refusal(.malformed, file: path, subject: member.key, "has the id \(id), as '\(other.text)' has")
      }
    }
  }

  /// Lines of two parts. The first says a version.
  private mutating func readMerges(_ path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    let bytes = try file.parse { (bytes) throws(Refusal) in
      try GitLFSPointer.refuse(bytes, file: path)
      return unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    }
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let content = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      guard !content.isEmpty, let text = String(validating: content, as: UTF8.self) else {
        if content.isEmpty { continue }
        throw Refusal(.malformed, file: path, subject: "line \(index + 1)", "is not UTF-8")
      }
      if index == 0, text.hasPrefix("#version") { continue }
      guard Self.isMerge(text) else {
        throw Refusal(
          .malformed, file: path, subject: "line \(index + 1)",
          "expected two parts with a space between, found '\(text)'")
      }
      merges.append(text)
    }
  }

  /// `added_tokens.json` gives ids to texts; `tokenizer_config.json` says more of each.
  private mutating func readAddedTokens(beside directory: String) throws(Refusal) {
    if let file = try JSONFile(ifPresentAt: directory + "/added_tokens.json") {
      for member in file.value.members ?? [] {
        guard let id = member.value.count else { throw file.refusal(member.key, expected: "an id", member.value) }
        try add(member.key, id: id, .null, file: file)
      }
    }
    if let file = try JSONFile(ifPresentAt: directory + "/tokenizer_config.json") {
      for member in file.value["added_tokens_decoder"]?.members ?? [] {
        guard let id = Int(member.key), id >= 0, let text = member.value["content"]?.string else {
          throw file.refusal("added_tokens_decoder.\(member.key)", expected: "a content", member.value)
        }
        try add(text, id: id, member.value, file: file)
      }
    }
  }

  /// - Parameter description: the fields of Hugging Face's `AddedToken`.
  private mutating func add(_ text: String, id: Int, _ description: JSONValue, file: JSONFile) throws(Refusal) {
    let isSpecial = description["special"]?.bool ?? false
    guard id < Self.idLimit else { throw file.refusal(text, expected: "an id below 2^32", .number(id)) }
    var token = Token(text: text, kind: .userDefined)
    // As llama.cpp's converter has it: what looks like a control token is one.
    if isSpecial || token.looksLikeControl { token.kind = .control }
    let flags = description
    token.matching = Matching(
      takesSpaceBefore: flags["lstrip"]?.bool ?? false, takesSpaceAfter: flags["rstrip"]?.bool ?? false,
      isSingleWord: flags["single_word"]?.bool ?? false, isSecond: flags["normalized"]?.bool ?? false)
    tokens[id] = token
  }

  // MARK: Special tokens

  private mutating func readSpecialTokens(beside directory: String) throws(Refusal) {
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
      guard let file = try JSONFile(ifPresentAt: directory + "/" + name) else { continue }
      for role in SpecialRole.allCases {
        let entry = file.value[role.rawValue]
        guard let text = entry?.string ?? entry?["content"]?.string, let id = id(of: text) else { continue }
        specialTokens[role] = id
        tokens[id]?.kind = .control
      }
      addsBeginOfText = file.value["add_bos_token"]?.bool ?? addsBeginOfText
    }
  }

  // MARK: Chat templates

  /// - Throws: `.malformed` for a template that is no text.
  private mutating func readChatTemplates(beside directory: String) throws(Refusal) {
    if let file = try JSONFile(ifPresentAt: directory + "/tokenizer_config.json"),
      let value = file.value["chat_template"]
    {
      // One template, or several with a name each.
      if let text = value.string { chatTemplates[Self.defaultTemplate] = text }
      for item in value.array ?? [] {
        guard let name = item["name"]?.string, let text = item["template"]?.string else {
          throw file.refusal("chat_template", expected: "templates with a name each", item)
        }
        chatTemplates[name] = text
      }
    }
    let path = directory + "/" + Self.chatTemplateName
    guard FileIdentity(ofItemAt: path) != nil else { return }
    let file = try MappedFile(path: path)
    guard file.byteCount <= Self.maximumTemplateByteCount else {
      throw Refusal(
        .malformed, file: path,
        "a template has at most \(Self.maximumTemplateByteCount) bytes, found \(file.byteCount)")
    }
    let bytes = try file.parse { (bytes) throws(Refusal) in
      try GitLFSPointer.refuse(bytes, file: path)
      return unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Refusal(.malformed, file: path, "is not UTF-8", advice: "save it as UTF-8, or take it away")
    }
    chatTemplates[Self.defaultTemplate] = text
  }

  // MARK: Merges

  private static func isMerge(_ text: String) -> Bool {
    let spaces = text.utf8.count { $0 == UInt8(ascii: " ") }
    return spaces == 1 && text.utf8.first != UInt8(ascii: " ") && text.utf8.last != UInt8(ascii: " ")
  }

  /// One string of two parts, in which spaces become `Ġ`: that between the parts must be the only one.
  private static func merge(_ left: String, _ right: String) -> String {
    func spelt(_ part: String) -> String {
      String(String.UnicodeScalarView(part.unicodeScalars.map { $0 == " " ? "\u{120}" : $0 }))
    }
    return spelt(left) + " " + spelt(right)
  }
}
