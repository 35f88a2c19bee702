/// The task of a network: what its output is, and with it what people ask of the network.
package enum Task: String, Hashable, Sendable, Codable {
  /// The logits of the token that follows each token.
  case generation
  /// The state of each token behind the last block.
  case features
  /// The logits of the token that stands in the place of each token.
  case fillMask
  /// The logits of the labels of a text, or of a pair of texts.
  case sequenceClassification
  /// The logits of the labels of each token.
  case tokenClassification
  /// For each token the logits of being the first and the last one of an answer.
  case questionAnswering
  /// The logits of the labels of an image.
  case imageClassification
  /// Some numbers of each word.
  case wordRegression

  /// Is true if there is one answer for a sequence, and not one for each of its tokens.
  package var isPerSequence: Bool { self == .sequenceClassification || self == .imageClassification }

  /// Is true if the numbers of a token are logits of one distribution, whose probabilities are what counts.
  package var isDistribution: Bool {
    switch self {
    case .generation, .fillMask, .sequenceClassification, .tokenClassification, .imageClassification: true
    case .features, .questionAnswering, .wordRegression: false
    }
  }

  /// The output, for messages: `hidden states`.
  package var outputName: String {
    switch self {
    case .generation: "logits of the next token"
    case .features: "hidden states"
    case .fillMask: "logits of masked tokens"
    case .sequenceClassification: "logits of the labels of a text"
    case .tokenClassification: "logits of the labels of tokens"
    case .questionAnswering: "logits of the ends of an answer"
    case .imageClassification: "logits of the labels of an image"
    case .wordRegression: "numbers of each word"
    }
  }
}
