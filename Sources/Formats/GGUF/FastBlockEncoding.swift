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
  private static func load(_ x: UnsafePointer<Float>) -> SIMD16<Float> {
    unsafe UnsafeRawPointer(x).loadUnaligned(as: Values.self)
  }

  /// Lane by lane: selections so written become one or two SIMD instructions each, those of `replacing(with:where:)`
  /// six (Swift 6.3).
  @inline(__always)
  private static func map(_ v: SIMD16<Float>, _ transform: (Float) -> Float) -> SIMD16<Float> {
    var result = v
    for lane in 0..<16 { result[lane] = transform(v[lane]) }
    return result
  }

  @inline(__always)
  private static func larger(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float> {
    var result = a
    for lane in 0..<16 { result[lane] = b[lane] > a[lane] ? b[lane] : a[lane] }
    return result
  }

  @inline(__always)
  private static func smaller(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float> {
    var result = a
    for lane in 0..<16 { result[lane] = b[lane] < a[lane] ? b[lane] : a[lane] }
    return result
  }

  @inline(__always)
  private static func largest(_ v: SIMD16<Float>) -> Float {
    var rest = v
    for lane in 0..<8 { rest[lane] = rest[lane + 8] > rest[lane] ? rest[lane + 8] : rest[lane] }
    for lane in 0..<4 { rest[lane] = rest[lane + 4] > rest[lane] ? rest[lane + 4] : rest[lane] }
    for lane in 0..<2 { rest[lane] = rest[lane + 2] > rest[lane] ? rest[lane + 2] : rest[lane] }
    return rest[1] > rest[0] ? rest[1] : rest[0]
  }

  @inline(__always)
  private static func smallest(_ v: SIMD16<Float>) -> Float {
    var rest = v
    for lane in 0..<8 { rest[lane] = rest[lane + 8] < rest[lane] ? rest[lane + 8] : rest[lane] }
    for lane in 0..<4 { rest[lane] = rest[lane + 4] < rest[lane] ? rest[lane + 4] : rest[lane] }
    for lane in 0..<2 { rest[lane] = rest[lane + 2] < rest[lane] ? rest[lane + 2] : rest[lane] }
    return rest[1] < rest[0] ? rest[1] : rest[0]
  }

  /// The integral parts of values from 0 on, at most `largest`; 0 for NaN and for 256 or more.
  @inline(__always)
  private static func truncated(_ v: SIMD16<Float>, _ largest: Float) -> SIMD16<Int32> {
    integers(
      map(v) { value in
        let inRange = value < 256 ? value : 0
        let capped = inRange < largest ? inRange : largest
        let nearest = (capped + shift) - shift
        return nearest - (nearest > capped ? 1 : 0)
      })
  }

  /// - Precondition: the values are integers of a magnitude below 2^22.
  @inline(__always)
  private static func integers(_ v: SIMD16<Float>) -> SIMD16<Int32> {
    bits(v + shift) &- Int32(bitPattern: shift.bitPattern)
  }

  @inline(__always)
  private static func store(_ q: SIMD16<Int32>, _ b: UnsafeMutableRawPointer, _ offset: Int) {
    unsafe b.storeBytes(of: SIMD16<UInt8>(truncatingIfNeeded: q), toByteOffset: offset, as: SIMD16<UInt8>.self)
  }

  /// The value of largest magnitude, the first on ties.
  @inline(__always)
  private static func extreme(
    _ first: SIMD16<Float>, _ second: SIMD16<Float>, _ x: UnsafePointer<Float>
  ) -> Float {
    let maximum = largest(larger(first, second))
    let minimum = smallest(smaller(first, second))
    // Which of them is larger is a coin toss, so that a branch would cost more than all the rest; ties are rare.
    if maximum == -minimum {
      for i in 0..<32 where unsafe x[i].magnitude == maximum && maximum > 0 { return unsafe x[i] }
      return 0
    }
    return maximum > -minimum ? maximum : minimum
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
    let maximum = largest(larger(first, second))
    var minimum = smallest(smaller(first, second))
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
