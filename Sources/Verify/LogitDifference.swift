import NormFoldArithmetic

/// The difference of the logits of one network from those of another on the same tokens. Where a network gives
/// something else, such as hidden states, its output stands in the place of the logits: probabilities, and what is made
/// of them, mean nothing then.
///
///     let logits = difference.logits
///     print(logits.largest, logits.meanDivergence, logits.top1Agreement, logits.worst.position)
public struct LogitDifference: Sendable, Codable, Equatable {
  /// The largest |Δ logit| over all judged tokens and the vocabulary.
  public var largest: Double
  /// The same over the largest |logit| of the reference.
  public var relative: Double
  /// The root of the mean square.
  public var rootMeanSquare: Double
  /// The same two for log-probabilities: what remains when a shift of a token's logits as a whole, which no
  /// probability can see, is taken out.
  public var largestLogProbability: Double
  public var rootMeanSquareLogProbability: Double
  /// The mean over tokens of the Kullback-Leibler divergence from the reference, in nats, and the largest.
  public var meanDivergence: Double
  public var largestDivergence: Double
  /// The share of tokens where both have the same top-1 token.
  public var top1Agreement: Double
  /// The largest 1 − cos of the angle between what both give for a token; nil where that is no direction, as logits are none.
  public var cosineDistance: Double?
  /// The mean cross-entropy of the next token of the probes, in nats; nil where no probe has a next token.
  public var loss: Double?
  public var referenceLoss: Double?
  public var worst: Place
  /// |Δ logit| over all judged tokens and the vocabulary.
  public var magnitudes: MagnitudeHistogram
  /// The number of tokens on which both networks are finite.
  public var tokenCount: Int
  /// Tokens where this network gives NaN or infinity and the reference does not.
  public var nonFiniteTokenCount: Int

  /// The number of tokens that were judged: those on which the reference is finite.
  public var judgedTokenCount: Int { tokenCount + nonFiniteTokenCount }

  /// The place of the largest difference.
  public struct Place: Sendable, Codable, Equatable {
    public var probe: String
    public var position: Int
    /// The id of the vocabulary entry whose logit differs most.
    public var token: Int
    public var expected: Double
    public var found: Double
  }
}

/// The difference of the residual streams of two networks behind one block, or behind the embedding.
///
///     for residual in difference.residuals { print("depth \(residual.depth): \(residual.relative)") }
public struct ResidualDifference: Sendable, Codable, Equatable {
  /// 0: behind the embedding; n: behind the n-th block.
  public var depth: Int
  public var largest: Double
  /// Over the largest |x| of the reference there.
  public var relative: Double
}

/// The difference of one network from another: in its logits, and along its residual stream.
///
///     let difference = report.judgement.single
///     print(difference.logits.largest, difference.residuals.map(\.relative))
public struct NetworkDifference: Sendable, Codable {
  public var logits: LogitDifference
  /// By depth; empty for a program, whose residual stream nobody sees.
  public var residuals: [ResidualDifference]
}
