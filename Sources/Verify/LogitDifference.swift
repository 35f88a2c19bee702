import Arithmetic

/// How far the logits of one network are from those of another on the same tokens.
package struct LogitDifference: Sendable, Codable, Equatable {
  /// The largest |Δ logit| over all judged tokens and the vocabulary.
  package var largest: Double
  /// The same over the largest |logit| of the reference.
  package var relative: Double
  /// The root of the mean square.
  package var rootMeanSquare: Double
  /// The same two for log-probabilities: what remains when a shift of a token's logits as a whole, which no
  /// probability can see, is taken out.
  package var largestLogProbability: Double
  package var rootMeanSquareLogProbability: Double
  /// The mean over tokens of the Kullback-Leibler divergence from the reference, in nats, and the largest.
  package var meanDivergence: Double
  package var largestDivergence: Double
  /// The share of tokens where both have the same top-1 token.
  package var top1Agreement: Double
  /// The mean cross-entropy of the next token of the probes, in nats; nil where no probe has a next token.
  package var loss: Double?
  package var referenceLoss: Double?
  package var worst: Place
  /// |Δ logit| over all judged tokens and the vocabulary.
  package var magnitudes: MagnitudeHistogram
  /// How many tokens both networks are finite on.
  package var tokenCount: Int
  /// Tokens where this network gives NaN or infinity and the reference does not.
  package var nonFiniteTokenCount: Int

  /// How many tokens were judged: those that the reference is finite on.
  package var judgedTokenCount: Int { tokenCount + nonFiniteTokenCount }

  /// Where the largest difference is.
  package struct Place: Sendable, Codable, Equatable {
    package var probe: String
    package var position: Int
    /// The id of the vocabulary entry whose logit differs most.
    package var token: Int
    package var expected: Double
    package var found: Double
  }
}

/// How far the residual streams of two networks are apart behind one block.
package struct ResidualDifference: Sendable, Codable, Equatable {
  /// 0: behind the embedding; n: behind the n-th block.
  package var depth: Int
  package var largest: Double
  /// Over the largest |x| of the reference there.
  package var relative: Double
}
