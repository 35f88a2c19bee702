import Numerics

/// Statistics of one token's distribution, from logits that arrive in pieces of the vocabulary.
package struct DistributionAccumulator {
  package private(set) var largest = -Double.infinity
  package private(set) var topToken = -1
  private var scaledSum = 0.0
  package private(set) var isFinite = true
  package private(set) var largestMagnitude = 0.0
  /// The logit of the token that really comes next, once it has passed.
  package private(set) var targetLogit: Double?

  package init() {}

  /// log Σ exp(logit)
  package var logSum: Double { largest + .log(scaledSum) }

  package var loss: Double? { targetLogit.map { logSum - $0 } }

  /// - Parameters:
  ///   - first: the vocabulary id of the first of `logits`.
  ///   - weights: receives exp(logit − ``largest``) for each of them, where all were finite so far.
  @specialized(where Weight == Float)
  @specialized(where Weight == Double)
  package mutating func add<Weight: ArithmeticScalar>(
    _ logits: UnsafeBufferPointer<Double>, first: Int, target: Int?, weights: UnsafeMutableBufferPointer<Weight>
  ) {
    if unsafe look(at: logits, first: first, target: target) { unsafe add(exponentialsOf: logits, memory: weights) }
  }

  /// Adds all but the exponentials, which are to follow.
  /// - Returns: whether all were finite so far.
  package mutating func look(at logits: UnsafeBufferPointer<Double>, first: Int, target: Int?) -> Bool {
    let extremes = unsafe Extremes(of: logits)
    guard isFinite, extremes.areFinite else {
      isFinite = false
      return false
    }
    largestMagnitude = max(largestMagnitude, extremes.largest, -extremes.smallest)
    if extremes.largest > largest {
      scaledSum *= .exp(largest - extremes.largest)
      largest = extremes.largest
      topToken = unsafe first + (logits.firstIndex(of: largest) ?? 0)
    }
    if let target, target >= first, target < first + logits.count { targetLogit = unsafe logits[target - first] }
    return true
  }

  /// Adds the exponentials of what was just looked at.
  @specialized(where Weight == Float)
  @specialized(where Weight == Double)
  package mutating func add<Weight: ArithmeticScalar>(
    exponentialsOf logits: UnsafeBufferPointer<Double>, memory: UnsafeMutableBufferPointer<Weight>
  ) {
    let terms = unsafe UnsafeMutableBufferPointer(rebasing: memory[..<logits.count])
    for index in logits.indices { unsafe terms[index] = unsafe Weight(logits[index] - largest) }
    unsafe Weight.exponentials(terms)
    unsafe scaledSum += Self.sum(UnsafeBufferPointer(terms))
  }

  /// Adds exponentials that are known: `sum` = Σ exp(logit − `offset`).
  package mutating func add(exponentials sum: Double, offset: Double) { scaledSum += sum * .exp(offset - largest) }

  private static func sum<Weight: ArithmeticScalar>(_ numbers: UnsafeBufferPointer<Weight>) -> Double {
    var sums = Lanes()
    let whole = numbers.count / Lanes.scalarCount * Lanes.scalarCount
    if let start = numbers.baseAddress {
      for index in stride(from: 0, to: whole, by: Lanes.scalarCount) { unsafe sums += Lanes(at: start + index) }
    }
    return unsafe numbers[whole...].reduce(sums.sum()) { $0 + Double($1) }
  }
}

/// Differences between one token's logits in two networks, from logits that arrive in pieces of the vocabulary.
///
/// Legend: r the reference's logit, c the candidate's, Δ = r − c, w = exp(r − m) with m the largest r so far, which is what
/// tokens weigh in the softmax of the reference.
package struct DifferenceAccumulator {
  package private(set) var largest = 0.0
  package private(set) var worstToken = 0
  package private(set) var worstExpected = 0.0
  package private(set) var worstFound = 0.0
  private var smallestSigned = Double.infinity
  private var largestSigned = -Double.infinity
  private var sum = 0.0
  private var sumOfSquares = 0.0
  private var count = 0
  /// By the bins of ``MagnitudeHistogram``.
  package private(set) var magnitudeCounts = [UInt32](repeating: 0, count: MagnitudeHistogram.exponents.count)
  /// Σ exp(reference logit − its largest so far)·Δ
  private var weightedSum = 0.0
  private var weightedLargest = -Double.infinity
  private var weightTotal = 0.0

  package init() {}

  /// - Parameter weights: exp(reference logit − `largestSoFar`) for each.
  /// - Returns: Σ exp(candidate logit − `largestSoFar`), from the weights and the differences alone; nil where one of
  ///   these is too large for that. Both sums being of the same weights, how precise these are does not show in a
  ///   divergence, which is what is left when one is taken from the other.
  @specialized(where Weight == Float)
  @specialized(where Weight == Double)
  @discardableResult
  package mutating func add<Weight: ArithmeticScalar>(
    reference: UnsafeBufferPointer<Double>, candidate: UnsafeBufferPointer<Double>, first: Int,
    weights: UnsafeBufferPointer<Weight>, largestSoFar: Double
  ) -> Double? {
    if largestSoFar > weightedLargest {
      let factor = Double.exp(weightedLargest - largestSoFar)
      weightedSum *= factor
      weightTotal *= factor
      weightedLargest = largestSoFar
    }
    guard let expected = reference.baseAddress, let found = candidate.baseAddress, let shares = weights.baseAddress
    else { return 0 }
    // In parts, none of which waits for another.
    var (low, high) = (Lanes(repeating: .infinity), Lanes(repeating: -.infinity))
    var (total, squares, weighted, weight, curved) = (Lanes(), Lanes(), Lanes(), Lanes(), Lanes())
    let whole = reference.count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
      let difference = unsafe Lanes(at: expected + index) - Lanes(at: found + index)
      let share = unsafe Lanes(at: shares + index)
      low.replace(with: difference, where: difference .< low)
      high.replace(with: difference, where: difference .> high)
      let square = difference * difference
      total += difference
      squares += square
      weighted += share * difference
      weight += share
      curved += share * square * (0.5 - difference * (1.0 / 6))
    }
    (smallestSigned, largestSigned) = (min(smallestSigned, low.min()), max(largestSigned, high.max()))
    (sum, sumOfSquares) = (sum + total.sum(), sumOfSquares + squares.sum())
    var (weightedHere, weightHere, curvedHere) = (weighted.sum(), weight.sum(), curved.sum())
    for index in whole..<reference.count {
      let (difference, share) = unsafe (expected[index] - found[index], Double(shares[index]))
      let square = difference * difference
      (smallestSigned, largestSigned) = (min(smallestSigned, difference), max(largestSigned, difference))
      (sum, sumOfSquares) = (sum + difference, sumOfSquares + square)
      (weightedHere, weightHere) = (weightedHere + share * difference, weightHere + share)
      curvedHere += share * square * (0.5 - difference * (1.0 / 6))
    }
    (weightedSum, weightTotal) = (weightedSum + weightedHere, weightTotal + weightHere)
    // Held alone, so that the loop need not ask whether it is shared.
    var counts: [UInt32] = []
    swap(&counts, &magnitudeCounts)
    for index in reference.indices { unsafe counts[MagnitudeHistogram.bin(of: expected[index] - found[index])] &+= 1 }
    swap(&counts, &magnitudeCounts)
    let largestHere = max(largestSigned, -smallestSigned)
    if largestHere > largest {
      largest = largestHere
      let index = reference.indices.first { unsafe abs(expected[$0] - found[$0]) == largest } ?? 0
      (worstToken, worstExpected, worstFound) = unsafe (first + index, expected[index], found[index])
    }
    count += reference.count
    // Σ w·exp(−Δ), the exponential by its series up to Δ³.
    return largest <= Self.smallDifference ? weightHere - weightedHere + curvedHere : nil
  }

  /// The same sum where the differences are too large for a series, but not too far from each other: Σ exp(candidate
  /// logit + `shift` − `largestSoFar`), where a shift of all logits, which no probability sees, is taken out.
  @specialized(where Weight == Float)
  @specialized(where Weight == Double)
  package func exponentials<Weight: ArithmeticScalar>(
    reference: UnsafeBufferPointer<Double>, candidate: UnsafeBufferPointer<Double>,
    weights: UnsafeBufferPointer<Weight>
  ) -> (sum: Double, shift: Double)? {
    guard largestSigned - smallestSigned <= 2 else { return nil }
    let shift = (smallestSigned + largestSigned) / 2
    let sum = reference.indices.reduce(0) { sum, index in
      unsafe sum + Double(weights[index]) * .exp(candidate[index] - reference[index] + shift)
    }
    return (sum, shift)
  }

  /// Up to here Δ⁴/24 is below 10⁻⁷ of Δ²/2, which a divergence is made of.
  private static let smallDifference = 0x1p-10

  package var meanSquare: Double { sumOfSquares / Double(count) }

  /// The largest |Δ log-probability|, where `shift` is the difference of the two logarithmic sums.
  package func largestLogProbability(shift: Double) -> Double { max(largestSigned - shift, shift - smallestSigned) }

  package func meanSquareLogProbability(shift: Double) -> Double {
    max(0, meanSquare - 2 * shift * sum / Double(count) + shift * shift)
  }

  /// KL(reference ‖ candidate) = Σ p·Δ − (log-sum of the reference − log-sum of the candidate), never below 0.
  package func divergence(shift: Double) -> Double { max(0, weightedSum / weightTotal - shift) }
}
