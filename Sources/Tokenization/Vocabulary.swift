import NormFoldFormats

/// The content of a tokenizer, whatever files it was read from: what its files say, before anything is looked up in it.
///
/// What all tokenizers have stands here; what tells one kind from another is its ``TokenizerKind``.
package struct Vocabulary: Sendable {
  /// By ggml's numbers.
  package enum TokenKind: Int32, Sendable {
    case normal = 1
    /// Stands for what has no token of its own.
    case unknown = 2
    /// Never the result of merges: the end of text.
    case control = 3
    /// Added beside the merges, and found in plain text.
    case userDefined = 4
    case unused = 5
    /// Stands for one byte of a character that has no token of its own.
    case byte = 6
  }

  package struct Token: Equatable, Sendable {
    /// The text as the tokenizer's files spell it: in GPT-2's printable alphabet of bytes, say, or with `▁` for a
    /// space.
    package var text: String
    package var kind: TokenKind
    /// The way in which the token is found in text before anything else is; nil where the token is not looked for.
    package var matching: Matching?
    /// Is false for a token that was added beside the vocabulary of the model.
    package var isInModel = true

    package init(text: String, kind: TokenKind, matching: Matching? = nil) {
      self.text = text
      self.kind = kind
      self.matching = matching
    }

    /// `<|endoftext|>`, `<|im_start|>`.
    var looksLikeControl: Bool { text.hasPrefix("<|") && text.hasSuffix("|>") }
  }

  /// The way in which a token is found in text before the text is taken apart, by the flags of Hugging Face's
  /// `AddedToken`.
  package struct Matching: Equatable, Sendable {
    /// Takes the white space before it (`lstrip`).
    package var takesSpaceBefore = false
    /// Takes the white space after it (`rstrip`).
    package var takesSpaceAfter = false
    /// Is none where a letter, mark, digit or underscore stands next to it (`single_word`).
    package var isSingleWord = false
    /// Is looked for only where no token without this flag was found, in normalised text (`normalized`).
    package var isSecond = false
    /// Is looked for in normalised text as it is spelt: a piece that SentencePiece's user defined.
    package var isPiece = false

    package init() {}
  }

  package enum SpecialRole: String, CaseIterable, Sendable {
    case beginOfText = "bos_token"
    case endOfText = "eos_token"
    case unknown = "unk_token"
    case padding = "pad_token"
    case classification = "cls_token"
    case separator = "sep_token"
    case mask = "mask_token"
  }

  /// The path that it was read from, for messages.
  package var path: String
  package var kind: any TokenizerKind = ByteLevelKind()
  /// By id; not every id needs to have one.
  package var tokens: [Int: Token] = [:]
  package var specialTokens: [SpecialRole: Int] = [:]
  package var addsBeginOfText = false
  package var addsEndOfText = false
  /// The tokens that are put around a text, or around two; nil for none.
  package var template: TokenTemplate?
  /// The templates by which runtimes lay out a conversation, by name: nothing here reads them.
  package var chatTemplates: [String: String] = [:]
  /// The name of the template that counts where none is named.
  package static let defaultTemplate = "default"

  init(path: String) { self.path = path }

  /// Every kind of tokenizer that is known, in the order in which files are tried.
  static let kinds: [any TokenizerKind.Type] = [
    WordPieceKind.self, SentencePieceKind.self, ByteLevelKind.self,
  ]

  /// The id of a token by its exact text: Swift would hold "é" and "e\u{301}" for equal.
  package func id(of text: String) -> Int? {
    tokens.first { $0.value.text == text && $0.value.text.utf8.elementsEqual(text.utf8) }?.key
  }

  /// Makes a token one that controls the model, and that is found in text as it is.
  mutating func markAsControl(_ id: Int) {
    tokens[id]?.kind = .control
    if tokens[id]?.matching == nil { tokens[id]?.matching = Matching() }
  }

  /// Adds what a config says of special tokens, where the tokenizer's own files say nothing; then what is usual.
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
    for (role, names) in type(of: kind).usualSpecialTokens where specialTokens[role] == nil {
      specialTokens[role] = names.compactMap { id(of: $0) }.first
    }
    if specialTokens[.beginOfText] == nil { specialTokens[.beginOfText] = specialTokens[.endOfText] }
    // A config may name any token, "!" for padding, say, which is text all the same.
    for id in specialTokens.values where tokens[id]?.looksLikeControl ?? false { markAsControl(id) }
  }
}
