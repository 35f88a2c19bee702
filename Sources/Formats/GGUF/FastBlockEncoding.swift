/// Quantisation to ggml blocks, sixteen values at a time: the same numbers, bit for bit, as in
/// PlainBlockEncoding.swift, whose legend applies. There is no rounding in the x86-64 baseline; adding 1.5 · 2^23 makes
/// the FPU round to an integer, ties to even, whose bits are the last ones of the sum.
extension FastBlocks {
  private typealias Values = SIMD16<Float>
  private typealias Words = SIMD16<Int32>

  private static let shift: Float = 12_582_912

  @inline(__always)
  private static func bits(_ values: SIMD16<Float>) -> SIMD16<Int32> { unsafe unsafeBitCast(values, to: Words.self) }

  @inline(__always)
  private static func magnitude(_ values: SIMD16<Float>) -> SIMD16<Float> {
    unsafe unsafeBitCast(bits(values) & 0x7FFF_FFFF, to: Values.self)
  }

  @inline(__always)
  private static func load(_ x: UnsafePointer<Float>) -> SIMD16<Float> {
    unsafe UnsafeRawPointer(x).loadUnaligned(as: Values.self)
  }

  /// The values, 0 for NaN and for magnitudes of 256 or more.
  @inline(__always)
  private static func inRange(_ v: SIMD16<Float>) -> SIMD16<Float> {
    v.replacing(with: 0, where: .!(magnitude(v) .< 256))
  }

  /// The nearest integers, ties away from zero; 0 for what is not in range.
  @inline(__always)
  private static func rounded(_ v: SIMD16<Float>) -> SIMD16<Int32> {
    let a = inRange(magnitude(v))
    let sum = a + shift
    let even = sum - shift
    // A tie that went down to an even number is exactly one half above it.
    let away = even.replacing(with: even + 1, where: (a - even) .== 0.5)
    let magnitudes = bits(away + shift) &- Int32(bitPattern: shift.bitPattern)
    let sign = bits(v) &>> 31
    return (magnitudes ^ sign) &- sign
  }

  /// The integral parts of values from 0 on, at most `largest`; 0 for what is not in range.
  ///
  /// - Note: Comparisons of Floats become SIMD, those of integers (in Swift 6.3) a loop over the lanes.
  @inline(__always)
  private static func truncated(_ v: SIMD16<Float>, _ largest: Float) -> SIMD16<Int32> {
    let a = inRange(v)
    let capped = a.replacing(with: largest, where: a .> largest)
    let nearest = (capped + shift) - shift
    let integral = nearest.replacing(with: nearest - 1, where: nearest .> capped)
    return bits(integral + shift) &- Int32(bitPattern: shift.bitPattern)
  }

  @inline(__always)
  private static func largest(_ v: SIMD16<Float>) -> Float {
    let a = v.lowHalf.replacing(with: v.highHalf, where: v.highHalf .> v.lowHalf)
    let b = a.lowHalf.replacing(with: a.highHalf, where: a.highHalf .> a.lowHalf)
    let c = b.lowHalf.replacing(with: b.highHalf, where: b.highHalf .> b.lowHalf)
    return c.x > c.y ? c.x : c.y
  }

  @inline(__always)
  private static func store(_ q: SIMD16<Int32>, _ b: UnsafeMutableRawPointer, _ offset: Int) {
    unsafe b.storeBytes(of: SIMD16<UInt8>(truncatingIfNeeded: q), toByteOffset: offset, as: SIMD16<UInt8>.self)
  }

  static func encodeQ8x0(_ x: UnsafePointer<Float>, _ n: Int, _ b: UnsafeMutableRawPointer) {
    for index in 0..<n {
      let (p, o) = unsafe (x + index * 32, b + index * 34)
      let (first, second) = unsafe (load(p), load(p + 16))
      let (a, c) = (magnitude(first), magnitude(second))
      let d = largest(a.replacing(with: c, where: c .> a)) / 127
      let inverse = d == 0 ? 0 : 1 / d
      unsafe o.storeBytes(of: d.float16Bits, as: UInt16.self)
      unsafe store(rounded(first * inverse), o, 2)
      unsafe store(rounded(second * inverse), o, 18)
    }
  }

  /// The value of largest magnitude, the first on ties.
  @inline(__always)
  private static func extreme(
    _ first: SIMD16<Float>, _ second: SIMD16<Float>, _ x: UnsafePointer<Float>
  ) -> Float {
    let maximum = largest(first.replacing(with: second, where: second .> first))
    let minimum = -largest(-first.replacing(with: second, where: second .< first))
    if maximum > -minimum { return maximum }
    if maximum < -minimum { return minimum }
    for i in 0..<32 where unsafe x[i].magnitude == maximum && maximum > 0 { return unsafe x[i] }
    return 0
  }

  @inline(__always)
  private static func storeNibbles(
    _ first: SIMD16<Int32>, _ second: SIMD16<Int32>, _ b: UnsafeMutableRawPointer, _ offset: Int
  ) {
    unsafe store(first & 15 | (second & 15) &<< 4, b, offset)
  }

  /// Bit i: bit 4 of number i.
  @inline(__always)
  private static func fifthBits(_ q: SIMD16<Int32>) -> UInt32 {
    let weights = Words(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
    let all = weights & (0 &- (q &>> 4))
    let eight = all.lowHalf | all.highHalf
    let four = eight.lowHalf | eight.highHalf
    let two = four.lowHalf | four.highHalf
    return UInt32(truncatingIfNeeded: two.x | two.y)
  }

  @inline(__always)
  private static func storeFifthBits(
    _ first: SIMD16<Int32>, _ second: SIMD16<Int32>, _ b: UnsafeMutableRawPointer, _ offset: Int
  ) {
    unsafe b.storeBytes(of: fifthBits(first) | fifthBits(second) &<< 16, toByteOffset: offset, as: UInt32.self)
  }

  static func encodeQ4x0(_ x: UnsafePointer<Float>, _ n: Int, _ b: UnsafeMutableRawPointer) {
    for index in 0..<n {
      let (p, o) = unsafe (x + index * 32, b + index * 18)
      let (first, second) = unsafe (load(p), load(p + 16))
      let d = unsafe extreme(first, second, p) / -8
      let inverse = d == 0 ? 0 : 1 / d
      unsafe o.storeBytes(of: d.float16Bits, as: UInt16.self)
      unsafe storeNibbles(truncated(first * inverse + 8.5, 15), truncated(second * inverse + 8.5, 15), o, 2)
    }
  }

  static func encodeQ5x0(_ x: UnsafePointer<Float>, _ n: Int, _ b: UnsafeMutableRawPointer) {
    for index in 0..<n {
      let (p, o) = unsafe (x + index * 32, b + index * 22)
      let (first, second) = unsafe (load(p), load(p + 16))
      let d = unsafe extreme(first, second, p) / -16
      let inverse = d == 0 ? 0 : 1 / d
      unsafe o.storeBytes(of: d.float16Bits, as: UInt16.self)
      let (low, high) = (truncated(first * inverse + 16.5, 31), truncated(second * inverse + 16.5, 31))
      unsafe storeFifthBits(low, high, o, 2)
      unsafe storeNibbles(low, high, o, 6)
    }
  }

  /// The smallest and the largest value. The sign of a zero minimum is that of the first zero.
  @inline(__always)
  private static func extent(
    _ first: SIMD16<Float>, _ second: SIMD16<Float>, _ x: UnsafePointer<Float>
  ) -> (minimum: Float, range: Float) {
    let maximum = largest(first.replacing(with: second, where: second .> first))
    var minimum = -largest(-first.replacing(with: second, where: second .< first))
    if minimum == 0 {
      for i in 0..<32 where unsafe x[i] == 0 {
        minimum = unsafe x[i]
        break
      }
    }
    return (minimum, maximum == minimum ? 0 : maximum - minimum)
  }

  static func encodeQ4x1(_ x: UnsafePointer<Float>, _ n: Int, _ b: UnsafeMutableRawPointer) {
    for index in 0..<n {
      let (p, o) = unsafe (x + index * 32, b + index * 20)
      let (first, second) = unsafe (load(p), load(p + 16))
      let (minimum, range) = unsafe extent(first, second, p)
      let d = range / 15
      let inverse = d == 0 ? 0 : 1 / d
      unsafe o.storeBytes(of: d.float16Bits, as: UInt16.self)
      unsafe o.storeBytes(of: minimum.float16Bits, toByteOffset: 2, as: UInt16.self)
      let low = truncated((first - minimum) * inverse + 0.5, 15)
      let high = truncated((second - minimum) * inverse + 0.5, 15)
      unsafe storeNibbles(low, high, o, 4)
    }
  }

  static func encodeQ5x1(_ x: UnsafePointer<Float>, _ n: Int, _ b: UnsafeMutableRawPointer) {
    for index in 0..<n {
      let (p, o) = unsafe (x + index * 32, b + index * 24)
      let (first, second) = unsafe (load(p), load(p + 16))
      let (minimum, range) = unsafe extent(first, second, p)
      let d = range / 31
      let inverse = d == 0 ? 0 : 1 / d
      unsafe o.storeBytes(of: d.float16Bits, as: UInt16.self)
      unsafe o.storeBytes(of: minimum.float16Bits, toByteOffset: 2, as: UInt16.self)
      let low = truncated((first - minimum) * inverse + 0.5, 31)
      let high = truncated((second - minimum) * inverse + 0.5, 31)
      unsafe storeFifthBits(low, high, o, 4)
      unsafe storeNibbles(low, high, o, 8)
    }
  }
}
