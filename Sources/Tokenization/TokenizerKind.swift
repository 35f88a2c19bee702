import NormFoldFormats

/// A kind of tokenizer: what its files look like, and how text becomes tokens by it. Each kind is one file in `Kinds`, and one
/// line in ``Vocabulary/kinds``.
package protocol TokenizerKind: Sendable {
  /// llama.cpp's name of the kind (`tokenizer.ggml.model`).
  static var ggufName: String { get }
  /// The files that only tokenizers of this kind have.
  static var fileNames: [String] { get }
  /// The texts that special tokens have in tokenizers that do not name them.
  static var usualSpecialTokens: KeyValuePairs<Vocabulary.SpecialRole, [String]> { get }

  // MARK: Reading

  /// Reads the parts `model`, `normalizer` and `pre_tokenizer` of a `tokenizer.json`, added tokens apart.
  ///
  /// - Returns: false where the file is of another kind.
  /// - Throws: `.unsupported` for what is of this kind, and not known; `.malformed` for damaged files.
  static func read(tokenizerJSON file: JSONFile, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool

  /// Reads the files in which only this kind is kept.
  ///
  /// - Returns: false where there are none.
  /// - Throws: as ``read(tokenizerJSON:into:)``.
  static func read(directory: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool

  /// Reads one file that the user names, and nothing beside it.
  ///
  /// - Returns: false where its name is of another kind.
  /// - Throws: as ``read(tokenizerJSON:into:)``.
  static func read(fileAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool

  /// Reads the keys of a GGUF file with ``ggufName``; tokens, their kinds and special tokens have been read already.
  ///
  /// - Returns: false where the keys say too little, or name what is not known.
  static func read(gguf header: GGUFHeader, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool

  /// Completes what was read, once all files have been: which tokens are bytes, say.
  func complete(_ vocabulary: inout Vocabulary)

  // MARK: Working

  /// Returns the normalizer that text goes through before its tokens are looked for; nil where text stays as it is.
  func normalizer(of vocabulary: Vocabulary) throws(Refusal) -> (any TextNormalizer)?

  /// Returns the model that makes tokens of normalised text.
  ///
  /// - Throws: `.malformed` for a vocabulary that contradicts itself; `.unsupported` for one that would lose text.
  func model(of vocabulary: Vocabulary) throws(Refusal) -> any TokenModel

  /// The bytes that a token stands for within a text.
  func bytes(of token: Vocabulary.Token) -> [UInt8]

  /// Is true if text begins with a space that is not part of it.
  var putsSpaceFirst: Bool { get }

  // MARK: Writing

  /// Returns what llama.cpp needs beside the tokens and special tokens.
  ///
  /// - Parameter tokens: one for each row of the embedding.
  /// - Throws: `.unsupported` for a tokenizer that llama.cpp would not reproduce.
  func ggufContent(of vocabulary: Vocabulary, tokens: [Vocabulary.Token]) throws(Refusal) -> GGUFTokens

  /// Returns notes on what llama.cpp does in another way than the tokenizer.
  func differencesInLlamaCpp(of vocabulary: Vocabulary) -> [Message]

  /// The files as Hugging Face lays them out, `tokenizer_config.json` apart, and the class that reads them.
  func files(of vocabulary: Vocabulary) -> (files: [(name: String, bytes: [UInt8])], className: String)
}

extension TokenizerKind {
  package static func read(fileAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool { false }
  package func complete(_ vocabulary: inout Vocabulary) {}
  package func normalizer(of vocabulary: Vocabulary) throws(Refusal) -> (any TextNormalizer)? { nil }
  package var putsSpaceFirst: Bool { false }
  package func differencesInLlamaCpp(of vocabulary: Vocabulary) -> [Message] { [] }
}

/// The part of the keys `tokenizer.ggml` that differs from kind to kind.
package struct GGUFTokens {
  /// The name of the way in which text is split (`pre`).
  var splitting: String
  /// One for each id.
  var texts: [String]
  /// Arrays and numbers, by the rest of their keys.
  var keys: [(name: String, value: GGUFValue)] = []
  /// Is true if keys say whether the tokens that begin and end a text are put there; encoders' tokens are put in any
  /// case.
  var saysWhatIsAdded = true
}

/// The place of a part of a text in the text.
package enum TextPlace: Sendable {
  case start
  /// Behind a token that was found before the text was taken apart.
  case behindToken
  /// Behind other text, of which the tokens are made apart.
  case middle
}

/// A change that is made to a text before its tokens are looked for. Text is a span of valid UTF-8.
package protocol TextNormalizer: Sendable {
  /// Returns a part of a text in its normal form; nil where nothing in it changes.
  func normalized(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> [UInt8]?

  /// Returns whether text cut before `index` is normalised as it would be whole, if the second part is in the middle.
  ///
  /// - Precondition: `index` is between two characters.
  func isSegmentStart(_ index: Int, in text: Span<UInt8>) -> Bool

  /// Most parts of text are at most so many times as long as their normal form: how much is looked at for a cut.
  var usualShrinkage: Int { get }
}

extension TextNormalizer {
  /// Returns where the last segment starts that starts at `index` or before it; the lower end of the range counts as a
  /// start.
  func segmentStart(atOrBefore index: Int, in text: Span<UInt8>, _ range: Range<Int>) -> Int {
    var index = index
    while index > range.lowerBound {
      if text.isStartOfScalar(index), isSegmentStart(index, in: text) { return index }
      index -= 1
    }
    return range.lowerBound
  }

  /// Returns where the first segment starts that starts at `index` or after it, or the upper end of the range.
  func segmentStart(atOrAfter index: Int, in text: Span<UInt8>, _ range: Range<Int>) -> Int {
    var index = index
    while index < range.upperBound {
      if text.isStartOfScalar(index), isSegmentStart(index, in: text) { return index }
      index += 1
    }
    return range.upperBound
  }
}

/// A model that makes tokens of normalised text without added tokens. Text is a span of valid UTF-8.
package protocol TokenModel: Sendable {
  /// Appends the tokens of a part of a text.
  func encode(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace, into work: inout EncodingWork)

  /// Returns whether text cut before `index` has the tokens of the whole, if the second part is in the middle.
  ///
  /// - Precondition: `index` is between two characters.
  func isBoundary(_ index: Int, in text: Span<UInt8>) -> Bool
}

/// The memory that a model needs while it works, and the tokens so far.
package struct EncodingWork {
  var merging = Merging()
  var cache: PieceCache
  var tokens: [Int] = []

  /// - Parameter byteCount: how much text is to be expected.
  init(expecting byteCount: Int) { cache = PieceCache(expecting: byteCount) }
}
