import NormFoldFormats

/// BPE over characters, with `▁` for spaces and bytes for characters without a token: the tokenizers of LLaMA, Mistral and
/// Gemma. `tokenizer.model` (SentencePiece), a `tokenizer.json` with Metaspace, or a GGUF file of the kind `llama`.
///
/// Source: Kudo and Richardson, "SentencePiece" (2018), and the programs `sentencepiece` 0.2 and `tokenizers` 0.23.
package struct SentencePieceKind: TokenizerKind {
  /// The rule that says what is merged first.
  package enum Order: Sendable {
    /// Two parts each, in order of rank: Hugging Face's files.
    case merges([Pair])
    /// The score of each token, by id: of all neighbours that are a token together, those of the largest are merged first.
    case scores([Int: Float])
  }

  package struct Pair: Hashable, Sendable {
    let left: ExactText
    let right: ExactText

    var whole: ExactText { ExactText(left.text + right.text) }
  }

  package var order = Order.scores([:])
  /// Is true if the bytes of a character without a token are tokens (`byte_fallback`).
  package var hasBytes = false
  /// Is true if neighbours without a token are one unknown token together (`fuse_unk`).
  package var fusesUnknown = true
  package var spaces = Metaspace()
  /// Is true if spaces are replaced behind the search for added tokens (`pre_tokenizer`), and not before it (`normalizer`).
  package var replacesLate = false
  /// Is true if runs of spaces become one, and those around a text none.
  package var removesExtraSpaces = false
  /// The map that says what characters are replaced by (`nmt_nfkc`); nil where none is replaced.
  var characterMap: CharacterMap?
  /// SentencePiece's name of that map.
  package var normalization = "identity"

  package static let ggufName = "llama"
  package static let fileNames = ["tokenizer.model"]
  package static let usualSpecialTokens: KeyValuePairs<Vocabulary.SpecialRole, [String]> = [
    .beginOfText: ["<s>", "<bos>"], .endOfText: ["</s>", "<eos>"], .unknown: ["<unk>"],
  ]

  /// `▁`, which stands for a space.
  static let mark: Unicode.Scalar = "\u{2581}"

  /// The token of a byte: `<0x0A>`.
  static func name(ofByte byte: Int) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
  }

  private static let bytesByName = Dictionary(uniqueKeysWithValues: (0..<256).map { (name(ofByte: $0), UInt8($0)) })

  package func complete(_ vocabulary: inout Vocabulary) {
    if hasBytes {
      for (id, token) in vocabulary.tokens where token.isInModel && Self.bytesByName[token.text] != nil {
        vocabulary.tokens[id]?.kind = .byte
      }
    }
    if let unknown = vocabulary.specialTokens[.unknown] { vocabulary.tokens[unknown]?.kind = .unknown }
  }

  // MARK: Working

  package func normalizer(of vocabulary: Vocabulary) -> (any TextNormalizer)? {
    if replacesLate { return nil }
    var protected = AddedTokens()
    for (id, token) in vocabulary.tokens {
      if let matching = token.matching, matching.isPiece, !token.text.isEmpty {
        protected.insert(Array(token.text.utf8), id: id, matching: matching)
      }
    }
    return SpaceNormalizer(
      spaces: spaces, removesExtraSpaces: removesExtraSpaces, characterMap: characterMap, protected: protected)
  }

  package func model(of vocabulary: Vocabulary) throws(Refusal) -> any TokenModel {
    try CharacterModel(vocabulary, self)
  }

  package func bytes(of token: Vocabulary.Token) -> [UInt8] {
    switch token.kind {
    case .byte: Self.bytesByName[token.text].map { [$0] } ?? Array(token.text.utf8)
    case .normal: Array(Self.withSpaces(token.text).utf8)
    case .userDefined: Array((token.matching?.isPiece == true ? Self.withSpaces(token.text) : token.text).utf8)
    case .unknown, .control, .unused: Array(token.text.utf8)
    }
  }

  static func withSpaces(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == mark ? " " : $0 }))
  }

  package var putsSpaceFirst: Bool { spaces.prefix != .never }

  /// Every way to cut a token into two that are tokens, too.
  static func splits(of text: String, where isToken: (ExactText) -> Bool) -> [Pair] {
    let scalars = text.unicodeScalars
    return scalars.indices.dropFirst().compactMap { index in
      let pair = Pair(left: ExactText(scalars[..<index]), right: ExactText(scalars[index...]))
      return isToken(pair.left) && isToken(pair.right) ? pair : nil
    }
  }
}
