/// A sequence of tokens, or an image, to run networks on.
package struct Probe: Hashable, Sendable {
  /// The purpose of the probe: `full context`.
  package let name: String
  package let tokens: [Int]
  /// The position of each token, ascending. Where attention is causal, a token attends to those before it in the sequence,
  /// wherever they stand.
  package let positions: [Int]
  /// The number of the text that each token belongs to.
  package let types: [Int]
  /// For each token, true if it may be attended to and is no padding: programs call this the attention mask. Causal
  /// attention does not look at it.
  package let isVisible: [Bool]
  /// An image [channels, height, width], whose sequence is a class token and its patches; empty where tokens are read.
  package let pixels: [Double]
  /// The number of the word that each token is of, from 0 on; -1 for a token of none. Empty where words do not matter.
  package let words: [Int]
  /// Numbers of each word.
  package let features: [[Double]]

  /// - Parameters:
  ///   - positions: by default each token stands at its place in the sequence.
  ///   - types: by default all tokens belong to the first text.
  ///   - isVisible: by default no token is padding.
  package init(
    name: String, tokens: [Int], positions: [Int]? = nil, types: [Int]? = nil, isVisible: [Bool]? = nil,
    pixels: [Double] = [], words: [Int] = [], features: [[Double]] = []
  ) {
    self.name = name
    (self.words, self.features) = (words, features)
    self.pixels = pixels
    self.tokens = tokens
    self.positions = positions ?? Array(tokens.indices)
    self.types = types ?? tokens.map { _ in 0 }
    self.isVisible = isVisible ?? tokens.map { _ in true }
    precondition(self.positions.count == tokens.count && self.types.count == tokens.count)
    precondition(self.isVisible.count == tokens.count && (tokens.isEmpty || self.isVisible.contains(true)))
  }

  /// An image for a network that reads such images.
  ///
  /// - Precondition: there are as many pixels as the image has.
  package init(name: String, pixels: [Double], of image: ImageGrid) {
    precondition(pixels.count == image.pixelCount)
    self.init(name: name, tokens: [Int](repeating: 0, count: 1 + image.count), pixels: pixels)
  }

  /// For each token, the tokens of its word, over which the mean of the word is taken; the token alone where it is of
  /// no word.
  package var tokensOfWords: [[Int]] {
    tokens.indices.map { token in
      let word = token < words.count ? words[token] : -1
      return word < 0 ? [token] : words.indices.filter { words[$0] == word }
    }
  }

  /// The numbers of each token's word; zeros for a token of none.
  package func features(width: Int) -> [[Double]] {
    tokens.indices.map { token in
      let word = token < words.count ? words[token] : -1
      return features.indices.contains(word) ? features[word] : [Double](repeating: 0, count: width)
    }
  }

  /// The rows of a table that the tokens name; nil for a token that names none, and gets zeros.
  package func rows(by index: Operation.Index) -> [Int?] {
    switch index {
    case .token: tokens
    case .position: positions
    case .tokenType: types
    case .first: tokens.indices.map { $0 == 0 ? 0 : nil }
    case .others: tokens.indices.map { $0 == 0 ? nil : 0 }
    case .unpaddedPosition(let padding):
      zip(tokens, tokens.indices).map { token, index in
        token == padding ? padding : padding + tokens[...index].count { $0 != padding }
      }
    }
  }

  /// The tokens that may be attended to.
  package var visibleTokens: [Int] { isVisible.indices.filter { isVisible[$0] } }
}
