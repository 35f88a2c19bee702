import NormFoldFormats

extension Vocabulary {
  /// Reads `tokenizer.json`, or the files of one kind with what lies beside them; nil where there is neither.
  ///
  /// - Parameter checkpoint: the file that they lie beside, where the user named that and not them: then none may be a link
  ///   that leads elsewhere.
  /// - Throws: `.malformed` for damaged files; `.unsupported` for a tokenizer of a kind that is not known.
  package init?(directory: String, besideFileAt checkpoint: String? = nil) throws(Refusal) {
    if let checkpoint { try Self.requireAtHome(in: directory, homes: HomeDirectories(ofFileAt: checkpoint)) }
    let whole = directory + "/tokenizer.json"
    self.init(path: whole)
    if FileIdentity(ofItemAt: whole) != nil {
      try readTokenizerJSON()
    } else {
      var isRead = false
      for kind in Self.kinds where !isRead { isRead = try kind.read(directory: directory, into: &self) }
      guard isRead else { return nil }
    }
    try readSpecialTokens(beside: directory)
    try readChatTemplates(beside: directory)
    kind.complete(&self)
  }

  /// Every file that is read, where it is there.
  package static let fileNames =
    [
      "tokenizer.json", settingsName, "special_tokens_map.json", "added_tokens.json", chatTemplateName,
    ] + kinds.flatMap { $0.fileNames }

  package static let settingsName = "tokenizer_config.json"

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
    try readSpecialTokens(beside: Self.directory(of: path))
    kind.complete(&self)
  }

  /// Reads one file in which a tokenizer is whole; nil for a name that says nothing of a kind.
  ///
  /// - Throws: as ``init(directory:)``.
  init?(fileAt path: String) throws(Refusal) {
    guard !Directory.exists(at: path) else { return nil }
    self.init(path: path)
    var isRead = false
    for kind in Self.kinds where !isRead { isRead = try kind.read(fileAt: path, into: &self) }
    guard isRead else { return nil }
    kind.complete(&self)
    completeSpecialTokens(from: nil)
  }

  static func directory(of path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? "."
  }

  // MARK: tokenizer.json

  private mutating func readTokenizerJSON() throws(Refusal) {
    let file = try JSONFile(path: path)
    guard file.value["model"] != nil else {
      throw Refusal(
        .malformed, file: path, "is no tokenizer.json: it says nothing of a model",
        advice: "name the directory where vocab.json and merges.txt lie together")
    }
    for kind in Self.kinds where try kind.read(tokenizerJSON: file, into: &self) { break }
    for (index, item) in (file.value["added_tokens"]?.array ?? []).enumerated() {
      guard let id = item["id"]?.count, let text = item["content"]?.string else {
        throw file.refusal("added_tokens[\(index)]", expected: "an id and a content", item)
      }
      try add(text, id: id, item, file: file)
    }
    template = try TokenTemplate(file.value["post_processor"], of: self, in: file)
    // What is put first begins a text.
    if case .token(let id, _)? = template?.single.first {
      (specialTokens[.beginOfText], addsBeginOfText) = (id, true)
    }
  }

  // MARK: Tokens

  /// Reads an object of tokens and their ids.
  mutating func readTokens(_ value: JSONValue?, at key: String, in file: JSONFile) throws(Refusal) {
    guard let value else { throw file.refusal(key, expected: "an object", nil) }
    guard let members = value.members else {
      throw file.refusal(key, expected: "an object of tokens and their ids", value)
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

  /// `added_tokens.json` gives ids to texts; `tokenizer_config.json` says more of each.
  mutating func readAddedTokens(beside directory: String) throws(Refusal) {
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
    var matching = Matching()
    matching.takesSpaceBefore = flags["lstrip"]?.bool ?? false
    matching.takesSpaceAfter = flags["rstrip"]?.bool ?? false
    matching.isSingleWord = flags["single_word"]?.bool ?? false
    matching.isSecond = flags["normalized"]?.bool ?? false
    token.matching = matching
    token.isInModel = tokens[id].map { $0.isInModel && $0.text == text } ?? false
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
        markAsControl(id)
      }
      addsBeginOfText = file.value["add_bos_token"]?.bool ?? addsBeginOfText
      addsEndOfText = file.value["add_eos_token"]?.bool ?? addsEndOfText
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
    guard let text = String(validating: try [UInt8](contentOf: path), as: UTF8.self) else {
      throw Refusal(.malformed, file: path, "is not UTF-8", advice: "save it as UTF-8, or take it away")
    }
    chatTemplates[Self.defaultTemplate] = text
  }
}

extension [UInt8] {
  /// The content of a file beside a checkpoint.
  init(contentOf path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    self = try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      return unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    }
  }
}
