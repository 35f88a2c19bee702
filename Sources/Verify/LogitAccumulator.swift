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
    let extremes = Extremes(of: logits)
    guard isFinite, extremes.areFinite else { return isFinite = false }
    largestMagnitude = max(largestMagnitude, extremes.largest, -extremes.smallest)
    if extremes.largest > largest {
      scaledSum *= .exp(largest - extremes.largest)
      largest = extremes.largest
      topToken = first + (logits.firstIndex(of: largest) ?? 0)
    }
    let powers = UnsafeMutableBufferPointer(rebasing: weights[..<logits.count])
    for index in logits.indices { powers[index] = logits[index] - largest }
    Double.exponentials(powers)
    scaledSum += Kernels.sum(powers)
    if let target, target >= first, target < first + logits.count { targetLogit = logits[target - first] }
  }
}

/// The smallest and the largest of some numbers, and whether all are finite.
private struct Extremes {
  let smallest: Double
  let largest: Double
  let areFinite: Bool

  init(of numbers: UnsafeBufferPointer<Double>) {
    var (low, high) = (Lanes(repeating: .infinity), Lanes(repeating: -.infinity))
    // x − x is 0, or NaN where x is NaN or infinite: no later number takes that back.
    var poison = Lanes()
    let whole = numbers.count / Lanes.scalarCount * Lanes.scalarCount
    if let start = numbers.baseAddress {
      for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
        let lanes = Lanes(at: start + index)
        low.replace(with: lanes, where: lanes .< low)
        high.replace(with: lanes, where: lanes .> high)
        poison += lanes - lanes
      }
    }
    var (least, most, rest) = (low.min(), high.max(), poison.sum())
    for number in numbers[whole...] {
      (least, most) = (min(least, number), max(most, number))
      rest += number - number
    }
    (smallest, largest, areFinite) = (least, most, rest == 0)
  }
}

private typealias Lanes = SIMD8<Double>

extension Lanes {
  @inline(__always)
  fileprivate init(at start: UnsafePointer<Double>) {
    self = UnsafeRawPointer(start).loadUnaligned(as: Lanes.self)
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
    guard let expected = reference.baseAddress, let found = candidate.baseAddress, let shares = weights.baseAddress
    else { return }
    // In parts, none of which waits for another.
    var (low, high) = (Lanes(repeating: .infinity), Lanes(repeating: -.infinity))
    var (total, squares, weighted, weight) = (Lanes(), Lanes(), Lanes(), Lanes())
    let whole = reference.count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
      let difference = Lanes(at: expected + index) - Lanes(at: found + index)
      let share = Lanes(at: shares + index)
      low.replace(with: difference, where: difference .< low)
      high.replace(with: difference, where: difference .> high)
      total += difference
      squares += difference * difference
      weighted += share * difference
      weight += share
    }
    (smallestSigned, largestSigned) = (min(smallestSigned, low.min()), max(largestSigned, high.max()))
    (sum, sumOfSquares) = (sum + total.sum(), sumOfSquares + squares.sum())
    (weightedSum, weightTotal) = (weightedSum + weighted.sum(), weightTotal + weight.sum())
    for index in whole..<reference.count {
      let difference = expected[index] - found[index]
      (smallestSigned, largestSigned) = (min(smallestSigned, difference), max(largestSigned, difference))
      (sum, sumOfSquares) = (sum + difference, sumOfSquares + difference * difference)
      (weightedSum, weightTotal) = (weightedSum + weights[index] * difference, weightTotal + weights[index])
    }
    // Held alone, so that the loop need not ask whether it is shared.
    var counts: [UInt32] = []
    swap(&counts, &magnitudeCounts)
    for index in reference.indices { counts[MagnitudeHistogram.bin(of: expected[index] - found[index])] &+= 1 }
    swap(&counts, &magnitudeCounts)
    let largestHere = max(largestSigned, -smallestSigned)
    if largestHere > largest {
      largest = largestHere
      let index = reference.indices.first { abs(expected[$0] - found[$0]) == largestHere } ?? 0
      (worstToken, worstExpected, worstFound) = (first + index, expected[index], found[index])
    }
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
