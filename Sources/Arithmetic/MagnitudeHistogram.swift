/// Counts of numbers by their magnitude, in powers of two.
///
///     for (exponent, count) in zip(MagnitudeHistogram.exponents, difference.magnitudes.counts) where count > 0 {
///       print("2^\(exponent): \(count)")
///     }
public struct MagnitudeHistogram: Sendable, Codable, Equatable {
  /// The exponents that are told apart: 8e-25 to 3e4 for differences of logits. What is smaller, zero included, and what is
  /// larger counts with the first and the last.
  public static let exponents = -80...15

  /// `counts[i]`: 2ᵉ ≤ |x| < 2ᵉ⁺¹ with e = ``exponents``.lowerBound + i.
  public private(set) var counts = [Int](repeating: 0, count: exponents.count)

  package init() {}

  /// - Parameter counts: one for each of ``exponents``.
  package init(counts: [Int]) {
    precondition(counts.count == Self.exponents.count)
    self.counts = counts
  }

  public var total: Int { counts.reduce(0, +) }

  /// The place of a finite number in ``counts``.
  @inlinable package static func bin(of value: Double) -> Int {
    let exponent = Int(truncatingIfNeeded: value.bitPattern >> 52 & 0x7FF) - 1_023
    return min(max(exponent, exponents.lowerBound), exponents.upperBound) - exponents.lowerBound
  }
}
