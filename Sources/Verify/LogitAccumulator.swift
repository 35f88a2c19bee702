import Numerics

/// Statistics of one token's distribution, from logits that arrive in pieces of the vocabulary.
package struct DistributionAccumulator {
  package private(set) var largest = -Double.infinity
  package private(set) var topToken = -1
  private var scaledSum = 0.0
  package private(set) var isFinite = true
  private(set) var largestMagnitude = 0.0
  /// The logit of the token that really comes next, once it has passed.
  private(set) var targetLogit: Double?

  package init() {}

  /// log Σ exp(logit)
  package var logSum: Double { largest + .log(scaledSum) }

  package var loss: Double? { targetLogit.map { logSum - $0 } }

  /// - Parameters:
  ///   - first: the vocabulary id of the first of `logits`.
  ///   - weights: receives exp(logit − ``largest``) for each of them, where all were finite so far.
  package mutating func add(
    _ logits: UnsafeBufferPointer<Double>, first: Int, target: Int?, weights: UnsafeMutableBufferPointer<Double>
  ) {
    var blockLargest = -Double.infinity
    var blockTop = -1
    for index in logits.indices {
      let logit = logits[index]
      if logit > blockLargest { (blockLargest, blockTop) = (logit, index) }
      // A sum would miss +∞ − ∞; this does not.
      if !logit.isFinite { isFinite = false }
      largestMagnitude = max(largestMagnitude, abs(logit))
    }
    guard isFinite else { return }
    if blockLargest > largest {
      scaledSum *= .exp(largest - blockLargest)
      (largest, topToken) = (blockLargest, first + blockTop)
    }
    for index in logits.indices { weights[index] = .exp(logits[index] - largest) }
    for index in logits.indices { scaledSum += weights[index] }
    if let target, target >= first, target < first + logits.count { targetLogit = logits[target - first] }
  }
}

/// Differences between one token's logits in two networks, in pieces of the vocabulary.
package struct DifferenceAccumulator {
  private(set) var largest = 0.0
  private(set) var worstToken = 0
  private(set) var worstExpected = 0.0
  private(set) var worstFound = 0.0
  private var smallestSigned = Double.infinity
  private var largestSigned = -Double.infinity
  private var sum = 0.0
  private var sumOfSquares = 0.0
  private var count = 0
  /// By the bins of ``MagnitudeHistogram``.
  private(set) var magnitudeCounts = [UInt32](repeating: 0, count: MagnitudeHistogram.exponents.count)
  /// Σ exp(reference logit − its largest so far)·Δ
  private var weightedSum = 0.0
  private var weightedLargest = -Double.infinity
  private var weightTotal = 0.0

  package init() {}

  /// - Parameter weights: exp(reference logit − `largestSoFar`) for each.
  package mutating func add(
    reference: UnsafeBufferPointer<Double>, candidate: UnsafeBufferPointer<Double>, first: Int,
    weights: UnsafeBufferPointer<Double>, largestSoFar: Double
  ) {
    if largestSoFar > weightedLargest {
      let factor = Double.exp(weightedLargest - largestSoFar)
      weightedSum *= factor
      weightTotal *= factor
      weightedLargest = largestSoFar
    }
    // Held alone, so that the loop need not ask whether it is shared.
    var counts: [UInt32] = []
    swap(&counts, &magnitudeCounts)
    for index in reference.indices {
      let difference = reference[index] - candidate[index]
      counts[MagnitudeHistogram.bin(of: difference)] &+= 1
      if abs(difference) > largest {
        largest = abs(difference)
        (worstToken, worstExpected, worstFound) = (first + index, reference[index], candidate[index])
      }
      smallestSigned = min(smallestSigned, difference)
      largestSigned = max(largestSigned, difference)
      sum += difference
      sumOfSquares += difference * difference
      weightedSum += weights[index] * difference
      weightTotal += weights[index]
    }
    swap(&counts, &magnitudeCounts)
    count += reference.count
  }

  var meanSquare: Double { sumOfSquares / Double(count) }

  /// The largest |Δ log-probability|, where `shift` is the difference of the two logarithmic sums.
  func largestLogProbability(shift: Double) -> Double { max(largestSigned - shift, shift - smallestSigned) }

  func meanSquareLogProbability(shift: Double) -> Double {
    max(0, meanSquare - 2 * shift * sum / Double(count) + shift * shift)
  }

  /// KL(reference ‖ candidate) = Σ p·Δ − (log-sum of the reference − log-sum of the candidate), never below 0.
  package func divergence(shift: Double) -> Double { max(0, weightedSum / weightTotal - shift) }
}
