import NormFoldArithmetic
import NormFoldNetworks

/// The limits on the difference of a written file from its source, as measured on the source itself.
///
///     let limits = report.judgement.limits
///     print(limits.logits, limits.divergence, limits.agreement)
public struct Limits: Sendable, Codable, Equatable {
  /// On the ``LogitDifference/largest``.
  public var logits: Double
  /// On the ``LogitDifference/meanDivergence``.
  public var divergence: Double
  /// On the ``LogitDifference/top1Agreement``, from below.
  public var agreement: Double
  /// On the ``LogitDifference/cosineDistance``; nil where there is none.
  public var cosineDistance: Double?
  /// Is true if ``divergence`` and ``agreement`` count: if the numbers of a token are logits of one distribution.
  public var isOfDistribution: Bool
  /// Is true if the logits of each position may all be off by one constant: ``logits`` is then a limit on the
  /// ``LogitDifference/largestLogProbability``.
  public var isUpToShift: Bool

  /// - Parameters:
  ///   - noise: what arithmetic in the file's precision costs the source, its matrices rounded to the file's types
  ///     unless there is a `rounded`.
  ///   - rounded: for a file that holds the source's own matrices in blocks: what their rounding costs the source. It
  ///     costs the file exactly as much, so that only the noise of arithmetic is given a factor.
  ///   - factor: how many times that noise.
  init(
    noise: LogitDifference, rounded: LogitDifference?, factor: Double, largestLogit: Double, isUpToShift: Bool,
    task: Task
  ) {
    self.isUpToShift = isUpToShift
    isOfDistribution = task.isDistribution
    // It grows with the square of a difference, and cannot be known better than to the last bits of a double.
    cosineDistance = noise.cosineDistance.map { distance in
      let root = max(rounded?.cosineDistance ?? 0, 0).squareRoot() + factor * distance.squareRoot()
      return root * root + 0x1p-50
    }
    logits = (rounded?.largest(upToShift: isUpToShift) ?? 0) + factor * noise.largest(upToShift: isUpToShift)
    // A divergence grows with the square of a difference. The last term is what the last bit of the largest logit can
    // do: a difference of ε moves no more than ε²/2 (Hoeffding's bound).
    let root = max(rounded?.meanDivergence ?? 0, 0).squareRoot() + factor * max(noise.meanDivergence, 0).squareRoot()
    let lastBit = Double(Float.ulpOfOne) * largestLogit
    divergence = root * root + lastBit * lastBit / 2
    // One more position may change its top-1 token: one that only just was not a tie for the source.
    let changed = 1 - noise.top1Agreement + 1 / Double(max(1, noise.tokenCount))
    agreement = max(0, (rounded?.top1Agreement ?? 1) - factor * changed)
  }

  /// The same where the source itself was computed in single precision: `noise` is what that costs it.
  func widened(by noise: LogitDifference) -> Limits {
    var result = self
    result.logits += noise.largest(upToShift: isUpToShift)
    let root = divergence.squareRoot() + max(noise.meanDivergence, 0).squareRoot()
    result.divergence = root * root
    if let own = cosineDistance, let other = noise.cosineDistance {
      let root = own.squareRoot() + other.squareRoot()
      result.cosineDistance = root * root
    }
    result.agreement = max(0, agreement - (1 - noise.top1Agreement))
    return result
  }

  func hold(for found: LogitDifference) -> Bool {
    guard found.isWithin(logits, upToShift: isUpToShift) else { return false }
    if let cosineDistance, !((found.cosineDistance ?? .nan) <= cosineDistance) { return false }
    return !isOfDistribution || found.meanDivergence <= divergence && found.top1Agreement >= agreement
  }
}
