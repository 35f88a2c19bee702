/// Fixed point in a ring, as secure computation uses it: integers modulo 2^K that stand for multiples of 2^−F. A product is
/// cut behind its F-th bit: ⌊xy / 2^F⌋.
///
/// Functions that a ring does not have are computed by the iterations of CrypTen (arXiv 2109.00984, section 4 and its
/// `common/functions`), in the number of steps that are usual there. Comparisons are exact, as they are in that system.
///
/// Whatever does not fit into the ring is counted, and goes on as what the ring makes of it.
struct FixedPoint: Sendable {
  /// K, the sign among them.
  let bits: Int
  /// F
  let fraction: Int

  /// The steps of the iterations, and their constants.
  enum Iterations {
    /// eˣ = (1 + x / 2ⁿ)^(2ⁿ)
    static let squarings = 8
    /// y ← y(2 − xy) towards 1 / x, from 3e^(½ − x) + 0.003, which converges for 0 < x < 2 / 0.003.
    static let reciprocalSteps = 10
    static let (reciprocalFactor, reciprocalShift, reciprocalRest) = (3.0, 0.5, 0.003)
    /// The largest x that a reciprocal is computed of. Ours: sums of a softmax over more tokens are halved until they are
    /// no larger, and the result as often.
    static let largestReciprocal = 512
    /// y ← y(3 − xy²) / 2 towards 1 / √x, from 2.2e^(−x/2 − 0.2) + 0.2 − x / 1024. A step multiplies by 1.5 at most, so
    /// that three are too few for x below 0.03; from 205 on the start is negative.
    static let inverseRootSteps = 3
    static let (rootFactor, rootShift, rootRest, rootDivisor) = (2.2, 0.2, 0.2, 10)
    /// erf by its Taylor series about 0. Ours: ±1 beyond 2.5, where the terms would cost more bits than there are; 25 terms
    /// leave 3e-7 there.
    static let erfTerms = 25
    static let erfLimit = 2.5
  }

  /// Numbers that did not fit.
  struct Overflow {
    var count = 0
  }

  var one: Int64 { 1 << Int64(fraction) }

  /// The multiple that is next to a number, halves to even.
  func encode(_ x: Double, _ overflow: inout Overflow) -> Int64 {
    let scaled = (x * .power(fraction)).rounded(.toNearestOrEven)
    guard abs(scaled) < .power(bits - 1) else {
      overflow.count += 1
      // Numbers beyond 2^63 have no bits that a ring would keep.
      return abs(scaled) < 0x1p63 ? wrap(Int64(scaled)) : 0
    }
    return Int64(scaled)
  }

  func decode(_ x: Int64) -> Double { Double(x) * .power(-fraction) }

  /// The number modulo 2^K, between −2^(K−1) and 2^(K−1).
  private func wrap(_ x: Int64) -> Int64 {
    let unused = Int64(64 - bits)
    return (x << unused) >> unused
  }

  /// Brings a result into the ring, and counts it where it does not fit.
  ///
  /// - Parameters:
  ///   - x: its lower 64 bits.
  ///   - isWhole: whether it has no others.
  private func inRing(_ x: Int64, isWhole: Bool, _ overflow: inout Overflow) -> Int64 {
    let wrapped = wrap(x)
    if !isWhole || wrapped != x { overflow.count += 1 }
    return wrapped
  }

  /// Brings a sum of products into the ring, and cuts it from 2F to F bits behind the point.
  func truncated(_ sum: Int128, _ overflow: inout Overflow) -> Int64 {
    let low = Int64(truncatingIfNeeded: sum)
    return inRing(low, isWhole: Int128(low) == sum, &overflow) >> Int64(fraction)
  }

  func add(_ x: Int64, _ y: Int64, _ overflow: inout Overflow) -> Int64 {
    let (sum, isPartial) = x.addingReportingOverflow(y)
    return inRing(sum, isWhole: !isPartial, &overflow)
  }

  func subtract(_ x: Int64, _ y: Int64, _ overflow: inout Overflow) -> Int64 {
    let (difference, isPartial) = x.subtractingReportingOverflow(y)
    return inRing(difference, isWhole: !isPartial, &overflow)
  }

  func multiply(_ x: Int64, _ y: Int64, _ overflow: inout Overflow) -> Int64 {
    let (product, isPartial) = x.multipliedReportingOverflow(by: y)
    return inRing(product, isWhole: !isPartial, &overflow) >> Int64(fraction)
  }

  /// The product with a number that everybody knows.
  private func multiply(_ x: Int64, _ factor: Double, _ overflow: inout Overflow) -> Int64 {
    multiply(x, encode(factor, &overflow), &overflow)
  }

  /// ⌊x / n⌋
  func divide(_ x: Int64, by count: Int) -> Int64 {
    let (quotient, rest) = x.quotientAndRemainder(dividingBy: Int64(count))
    return rest < 0 ? quotient - 1 : quotient
  }

  // MARK: Functions

  /// eˣ; 0 where the first factor would be negative.
  func exponential(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    var result = max(0, add(one, x >> Int64(Iterations.squarings), &overflow))
    for _ in 0..<Iterations.squarings { result = multiply(result, result, &overflow) }
    return result
  }

  /// 1 / x, 0 < x ≤ ``Iterations/largestReciprocal``.
  func reciprocal(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    let start = exponential(
      subtract(encode(Iterations.reciprocalShift, &overflow), x, &overflow), &overflow)
    var result = add(
      multiply(start, Iterations.reciprocalFactor, &overflow), encode(Iterations.reciprocalRest, &overflow), &overflow)
    for _ in 0..<Iterations.reciprocalSteps {
      let rest = subtract(2 * one, multiply(x, result, &overflow), &overflow)
      result = multiply(result, rest, &overflow)
    }
    return result
  }

  /// 1 / √x, x > 0.
  func inverseRoot(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    let power = subtract(-(x >> 1), encode(Iterations.rootShift, &overflow), &overflow)
    var result = multiply(exponential(power, &overflow), Iterations.rootFactor, &overflow)
    result = add(result, encode(Iterations.rootRest, &overflow), &overflow)
    result = subtract(result, x >> Int64(Iterations.rootDivisor), &overflow)
    for _ in 0..<Iterations.inverseRootSteps {
      let square = multiply(x, multiply(result, result, &overflow), &overflow)
      result = multiply(result, subtract(3 * one, square, &overflow), &overflow) >> 1
    }
    return result
  }

  /// 1 / (1 + e^(−x)), computed of |x|.
  func sigmoid(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    let power = exponential(x < 0 ? x : -x, &overflow)
    let result = reciprocal(add(one, power, &overflow), &overflow)
    return x < 0 ? one - result : result
  }

  /// 2σ(2x) − 1
  func hyperbolicTangent(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    let share = sigmoid(add(x, x, &overflow), &overflow)
    return subtract(add(share, share, &overflow), one, &overflow)
  }

  /// 2/√π · Σ (−1)ⁿ x^(2n+1) / (n! (2n+1))
  func errorFunction(_ x: Int64, _ overflow: inout Overflow) -> Int64 {
    let limit = encode(Iterations.erfLimit, &overflow)
    guard x < limit else { return one }
    guard x > -limit else { return -one }
    let square = multiply(x, x, &overflow)
    // (−1)ⁿ x^(2n+1) / n!
    var power = x
    var sum = x
    for n in 1..<Iterations.erfTerms {
      power = divide(-multiply(power, square, &overflow), by: n)
      sum = add(sum, divide(power, by: 2 * n + 1), &overflow)
    }
    return multiply(sum, 2 / Double.pi.squareRoot(), &overflow)
  }

  /// The shares of a softmax.
  func softmax(_ x: [Int64], _ overflow: inout Overflow) -> [Int64] {
    let largest = x.max() ?? 0
    let powers = x.map { exponential(subtract($0, largest, &overflow), &overflow) }
    var halvings: Int64 = 0
    while x.count >> Int(halvings) > Iterations.largestReciprocal { halvings += 1 }
    let sum = powers.reduce(0) { add($0, $1, &overflow) }
    let factor = reciprocal(sum >> halvings, &overflow) >> halvings
    return powers.map { multiply($0, factor, &overflow) }
  }
}
