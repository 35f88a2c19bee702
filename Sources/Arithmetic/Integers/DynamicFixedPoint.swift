/// Dynamic fixed point: x ≈ q · 2^e with integers q of b bits and one exponent for all numbers (arXiv 2207.08822, section 3).
///
/// The exponent is that of the largest number: max|x| = m · 2^k with ½ ≤ m < 1, e = k − (b − 1). Halves round to even, and
/// what rounds to 2^(b−1) is cut to 2^(b−1) − 1. Integers are kept in Doubles, which hold them exactly.
struct DynamicFixedPoint: Sendable {
  /// b, the sign among them.
  let bits: Int

  /// 2^(b−1) − 1
  var largestInteger: Double { .power(bits - 1) - 1 }

  /// The exponent for numbers of which `largest` is the largest |x|; of a zero tensor, whatever.
  ///
  /// Numbers below 2^−1000 become zeros, so that powers of two stay within those that a Double has.
  func exponent(ofLargest largest: Double) -> Int {
    largest > 0 && largest.isFinite ? max(-1_000, Int(largest.exponent) + 1 - (bits - 1)) : 0
  }

  /// Replaces numbers by their integers. NaN and infinity become NaN.
  func map(_ x: UnsafeMutableBufferPointer<Double>, exponent: Int) {
    let (factor, largest) = (Double.power(-exponent), largestInteger)
    for index in 0..<x.count { unsafe x[index] = Self.integer(unsafe x[index], factor, largest) }
  }

  /// Replaces numbers by their integers, each with an exponent of its own.
  func map(_ x: UnsafeMutableBufferPointer<Double>, exponents: ArraySlice<Int>) {
    let largest = largestInteger
    for (index, exponent) in exponents.enumerated() {
      unsafe x[index] = Self.integer(unsafe x[index], .power(-exponent), largest)
    }
  }

  @inline(__always) private static func integer(_ x: Double, _ factor: Double, _ largest: Double) -> Double {
    // Adding 1.5 · 2^52 leaves no bits behind the point, and rounds halves to even.
    let rounded = (x * factor + 0x1.8p52) - 0x1.8p52
    return x.isFinite ? min(max(rounded, -largest), largest) : .nan
  }

  /// Rounds numbers to what their integers stand for.
  func round(_ x: UnsafeMutableBufferPointer<Double>) {
    let exponent = exponent(ofLargest: UnsafeBufferPointer(x).largestMagnitude)
    unsafe map(x, exponent: exponent)
    for index in 0..<x.count { unsafe x[index] *= .power(exponent) }
  }
}

extension Double {
  /// 2^`exponent`
  static func power(_ exponent: Int) -> Double { Double(sign: .plus, exponent: exponent, significand: 1) }
}

extension UnsafeBufferPointer<Double> {
  /// The largest |x|, 0 of nothing. NaN counts as nothing.
  var largestMagnitude: Double {
    var lanes = SIMD8<Double>()
    let whole = count / 8 * 8
    for first in stride(from: 0, to: whole, by: 8) {
      var numbers = SIMD8<Double>()
      for lane in 0..<8 { numbers[lane] = unsafe self[first + lane].magnitude }
      lanes.replace(with: numbers, where: numbers .> lanes)
    }
    var result = lanes.max()
    for index in whole..<count { result = unsafe Swift.max(result, Swift.abs(self[index])) }
    return result
  }
}
