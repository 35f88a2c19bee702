import Numerics

extension Float {
  /// Replaces each x by eˣ, to within two units in the last place.
  ///
  /// x = k·ln 2 + r with |r| ≤ ½ ln 2, and eʳ by its series up to r⁷, whose rest is below a tenth of a unit. ln 2 is
  /// taken in two parts, the first of which has so few bits that its product with k is exact.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Float>) {
    typealias Lanes = SIMD8<Float>
    guard let start = x.baseAddress else { return }
    let whole = x.count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
      let lanes = unsafe UnsafeMutableRawPointer(start + index)
      unsafe lanes.storeBytes(of: exponential(lanes.loadUnaligned(as: Lanes.self)), as: Lanes.self)
    }
    if whole < x.count {
      var rest = Lanes()
      for index in whole..<x.count { rest[index - whole] = unsafe x[index] }
      rest = exponential(rest)
      for index in whole..<x.count { unsafe x[index] = rest[index - whole] }
    }
  }

  @inline(__always)
  private static func exponential(_ x: SIMD8<Float>) -> SIMD8<Float> {
    let isOrdinary = all((x .> -87) .& (x .< 88))
    var y = x
    if !isOrdinary {
      // Beyond these the result is 0 or infinite in any case. NaN is neither, and stays.
      y.replace(with: 100, where: x .> 100)
      y.replace(with: -110, where: x .< -110)
    }
    // Adding 1.5 · 2²³ leaves no room for a fraction: the sum holds the nearest integer in its low bits.
    let shifter = SIMD8<Float>(repeating: 0x1.8p23)
    let shifted = y * 0x1.715476p0 + shifter
    let k = shifted - shifter
    let r = (y - k * 0x1.62e4p-1) - k * 0x1.7f7d1cp-20
    var p = SIMD8<Float>(repeating: 1.0 / 5_040)
    p = p * r + 1.0 / 720
    p = p * r + 1.0 / 120
    p = p * r + 1.0 / 24
    p = p * r + 1.0 / 6
    p = p * r + 0.5
    p = p * r * r + r + 1
    let shiftedBits = unsafe unsafeBitCast(shifted, to: SIMD8<Int32>.self)
    if isOrdinary {
      // k joins the exponent. Those bits of the shifter that are not shifted out are zero.
      return unsafe unsafeBitCast(unsafeBitCast(p, to: SIMD8<Int32>.self) &+ shiftedBits &<< 23, to: SIMD8<Float>.self)
    }
    // 2ᵏ in two factors, so that results below the smallest normal number, and infinity, come out right.
    let bits = unsafe shiftedBits &- unsafeBitCast(shifter, to: SIMD8<Int32>.self)
    let half = bits &>> 1
    return p * powerOfTwo(half) * powerOfTwo(bits &- half)
  }

  @inline(__always)
  private static func powerOfTwo(_ k: SIMD8<Int32>) -> SIMD8<Float> {
    unsafe unsafeBitCast((k &+ 127) &<< 23, to: SIMD8<Float>.self)
  }
}

extension Double {
  /// Replaces each x by eˣ. The system's function is as fast as two lanes of the instructions that every x86-64 has.
  package static func exponentials(_ x: UnsafeMutableBufferPointer<Double>) {
    for index in 0..<x.count { unsafe x[index] = unsafe .exp(x[index]) }
  }
}
