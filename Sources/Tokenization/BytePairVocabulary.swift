import Formats

/// The content of a byte-level BPE tokenizer of GPT-2's kind, whatever files it was read from: what its files say, before
/// anything is looked up in it.
package struct BytePairVocabulary: Sendable {
  /// By ggml's numbers.
  package enum Kind: Int32, Sendable {
    case normal = 1
    /// Never the result of merges: the end of text.
    case control = 3
    /// Added beside the merges, and found in plain text.
    case userDefined = 4
    case unused = 5
  }

  package struct Token: Equatable, Sendable {
    /// The bytes of a normal token in GPT-2's printable alphabet (`Ġ` for a space), or the text itself of any other.
    package var text: String
    package var kind: Kind
    package var matching = Matching()

    package init(text: String, kind: Kind, matching: Matching = Matching()) {
      self.text = text
      self.kind = kind
      self.matching = matching
    }

    /// `<|endoftext|>`, `<|im_start|>`.
    var looksLikeControl: Bool { text.hasPrefix("<|") && text.hasSuffix("|>") }
  }

  /// How a token that is no result of merges is found in text, by the flags of Hugging Face's `AddedToken`.
  package struct Matching: Equatable, Sendable {
    /// Takes the white space before it (`lstrip`).
    package var takesSpaceBefore = false
    /// Takes the white space after it (`rstrip`).
    package var takesSpaceAfter = false
    /// Is none where a letter, mark, digit or underscore stands next to it (`single_word`).
    package var isSingleWord = false
    /// Is looked for only where no token without this flag was found, in normalised text (`normalized`).
    package var isSecond = false
  }

  package enum SpecialRole: String, CaseIterable, Sendable {
    case beginOfText = "bos_token"
    case endOfText = "eos_token"
    case unknown = "unk_token"
    case padding = "pad_token"
  }

  /// The path that it was read from, for messages.
  package let path: String
  /// By id; not every id needs to have one.
  package var tokens: [Int: Token] = [:]
  /// In order of rank: two parts with a space between.
  package var merges: [String] = []
  package var specialTokens: [SpecialRole: Int] = [:]
  package var addsBeginOfText = false
  package var pattern = SplittingPattern.gpt2
  /// Is true if a piece that is a token as it is becomes that token, whatever merges would make of it (`ignore_merges`).
  package var takesWholePieces = false
  /// How runtimes lay out a conversation, by the name of the template: nothing here reads them.
  package var chatTemplates: [String: String] = [:]
  /// The name of the template that counts where none is named.
  package static let defaultTemplate = "default"
  /// Is true if text is brought to Unicode's normalisation form C before it is split (`NFC`).
  package var normalizesToNFC = false

  init(path: String) { self.path = path }

  /// The id of a token by its exact text: Swift would hold "é" and "e\u{301}" for equal.
  func id(of text: String) -> Int? {
    tokens.first { $0.value.text == text && $0.value.text.utf8.elementsEqual(text.utf8) }?.key
  }
}
