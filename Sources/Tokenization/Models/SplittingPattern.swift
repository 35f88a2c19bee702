/// The way in which a byte-level tokenizer cuts text into the pieces that merges never cross.
package enum SplittingPattern: Hashable, Sendable, CaseIterable {
  case gpt2
  /// Llama 3's: up to three digits together, line breaks with the punctuation before them, any sign before a word.
  case llama3
  /// Qwen2's: the same with each digit alone.
  case qwen2

  /// The regular expression as `tokenizer.json` has it; nil where the pre-tokenizer `ByteLevel` brings the pattern
  /// along.
  var expression: String? {
    switch self {
    case .gpt2: nil
    case .llama3: Self.modern(digits: #"\p{N}{1,3}"#)
    case .qwen2: Self.modern(digits: #"\p{N}"#)
    }
  }

  private static func modern(digits: String) -> String {
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// The most digits that one piece has; nil where there is no limit.
  var digitLimit: Int? {
    switch self {
    case .gpt2: nil
    case .llama3: 3
    case .qwen2: 1
    }
  }
}
