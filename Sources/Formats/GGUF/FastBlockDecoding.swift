/// Decoding of the common ggml block types, a block at a time: the same operations on the same numbers in the same
/// order as in PlainBlockDecoding.swift, which tests hold it to, bit for bit. The loops have constant bounds and
/// wrapping arithmetic, which the compiler turns into SIMD of any width.
///
/// Legend: b the blocks, n their count, v the values, p one block, o its values, d scale, m minimum.
enum FastBlocks {
  @inline(__always)
  private static func half(_ p: UnsafeRawPointer, _ offset: Int) -> Float {
    Float(float16Bits: unsafe p.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  @inline(__always)
  private static func bytes16(_ p: UnsafeRawPointer, _ offset: Int) -> SIMD16<UInt8> {
    unsafe p.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self)
  }

  /// o[0..<16] = q · d
  @inline(__always)
  private static func store(_ q: SIMD16<Int16>, _ d: Float, _ o: UnsafeMutablePointer<Float>) {
    let values = SIMD16<Float>(SIMD16<Int32>(truncatingIfNeeded: q)) * d
    unsafe UnsafeMutableRawPointer(o).storeBytes(of: values, as: SIMD16<Float>.self)
  }

  /// o[0..<16] = q · d + m
  @inline(__always)
  private static func store(_ q: SIMD16<Int16>, _ d: Float, _ m: Float, _ o: UnsafeMutablePointer<Float>) {
    let values = SIMD16<Float>(SIMD16<Int32>(truncatingIfNeeded: q)) * d + m
    unsafe UnsafeMutableRawPointer(o).storeBytes(of: values, as: SIMD16<Float>.self)
  }

  @inline(__always)
  private static func widen(_ q: SIMD16<UInt8>) -> SIMD16<Int16> { SIMD16<Int16>(truncatingIfNeeded: q) }

  static func decodeQ8x0(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 34, v + index * 32)
      let d = unsafe half(p, 0)
      for i in 0..<32 { unsafe o[i] = d * Float(p.load(fromByteOffset: 2 &+ i, as: Int8.self)) }
    }
  }

  static func decodeQ4x0(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 18, v + index * 32)
      let d = unsafe half(p, 0)
      let q = unsafe bytes16(p, 2)
      unsafe store(widen(q & 15) &- 8, d, o)
      unsafe store(widen(q &>> 4) &- 8, d, o + 16)
    }
  }

  static func decodeQ4x1(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 20, v + index * 32)
      let (d, m) = unsafe (half(p, 0), half(p, 2))
      let q = unsafe bytes16(p, 4)
      unsafe store(widen(q & 15), d, m, o)
      unsafe store(widen(q &>> 4), d, m, o + 16)
    }
  }

  /// 16 where bit i of `bits` is set, 0 elsewhere: a comparison, because shifts by a lane's number are slow.
  @inline(__always)
  private static func fifthBits(_ bits: UInt16) -> SIMD16<Int16> {
    let masks = SIMD16<UInt16>(
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
    let isSet = (SIMD16<UInt16>(repeating: bits) & masks) .== masks
    return SIMD16<Int16>.zero.replacing(with: 16, where: isSet)
  }

  static func decodeQ5x0(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 22, v + index * 32)
      let d = unsafe half(p, 0)
      let low = unsafe p.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
      let high = unsafe p.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
      let q = unsafe bytes16(p, 6)
      unsafe store((widen(q & 15) | fifthBits(low)) &- 16, d, o)
      unsafe store((widen(q &>> 4) | fifthBits(high)) &- 16, d, o + 16)
    }
  }

  static func decodeQ5x1(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 24, v + index * 32)
      let (d, m) = unsafe (half(p, 0), half(p, 2))
      let low = unsafe p.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
      let high = unsafe p.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
      let q = unsafe bytes16(p, 8)
      unsafe store(widen(q & 15) | fifthBits(low), d, m, o)
      unsafe store(widen(q &>> 4) | fifthBits(high), d, m, o + 16)
    }
  }

  /// The scale and the minimum of one of the eight sub-blocks of Q4_K and Q5_K.
  @inline(__always)
  private static func scaleAndMinimum(_ p: UnsafeRawPointer, _ s: Int) -> (scale: Float, minimum: Float) {
    @inline(__always) func byte(_ offset: Int) -> UInt8 { unsafe p.load(fromByteOffset: offset, as: UInt8.self) }
    if s < 4 { return (Float(byte(4 &+ s) & 63), Float(byte(8 &+ s) & 63)) }
    let packed = byte(8 &+ s)
    return (
      Float(packed & 15 | (byte(s) &>> 6) &<< 4), Float(packed &>> 4 | (byte(4 &+ s) &>> 6) &<< 4)
    )
  }

  static func decodeQ4K(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 144, v + index * 256)
      let (d, dmin) = unsafe (half(p, 0), half(p, 2))
      for pair in 0..<4 {
        let (even, odd) = unsafe (scaleAndMinimum(p, 2 &* pair), scaleAndMinimum(p, 2 &* pair &+ 1))
        for part in 0..<2 {
          let q = unsafe bytes16(p, 16 &+ 32 &* pair &+ 16 &* part)
          let out = unsafe o + (64 &* pair &+ 16 &* part)
          unsafe store(widen(q & 15), d * even.scale, -(dmin * even.minimum), out)
          unsafe store(widen(q &>> 4), d * odd.scale, -(dmin * odd.minimum), out + 32)
        }
      }
    }
  }

  static func decodeQ5K(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 176, v + index * 256)
      let (d, dmin) = unsafe (half(p, 0), half(p, 2))
      for pair in 0..<4 {
        let (even, odd) = unsafe (scaleAndMinimum(p, 2 &* pair), scaleAndMinimum(p, 2 &* pair &+ 1))
        for part in 0..<2 {
          let q = unsafe bytes16(p, 48 &+ 32 &* pair &+ 16 &* part)
          let high = unsafe widen(bytes16(p, 16 &+ 16 &* part)) &>> Int16(2 &* pair)
          let out = unsafe o + (64 &* pair &+ 16 &* part)
          unsafe store(widen(q & 15) | (high & 1) &<< 4, d * even.scale, -(dmin * even.minimum), out)
          unsafe store(widen(q &>> 4) | (high & 2) &<< 3, d * odd.scale, -(dmin * odd.minimum), out + 32)
        }
      }
    }
  }

  static func decodeQ6K(_ b: UnsafeRawPointer, _ n: Int, _ v: UnsafeMutablePointer<Float>) {
    for index in 0..<n {
      let (p, o) = unsafe (b + index * 210, v + index * 256)
      let d = unsafe half(p, 208)
      for half in 0..<2 {
        for part in 0..<2 {
          let first = unsafe bytes16(p, 64 &* half &+ 16 &* part)
          let second = unsafe bytes16(p, 64 &* half &+ 16 &* part &+ 32)
          let high = unsafe bytes16(p, 128 &+ 32 &* half &+ 16 &* part)
          let out = unsafe o + (128 &* half &+ 16 &* part)
          @inline(__always) func scale(_ j: Int) -> Float {
            d * Float(unsafe p.load(fromByteOffset: 192 &+ 8 &* half &+ 2 &* j &+ part, as: Int8.self))
          }
          unsafe store(widen(first & 15 | (high & 3) &<< 4) &- 32, scale(0), out)
          unsafe store(widen(second & 15 | (high & 12) &<< 2) &- 32, scale(1), out + 32)
          unsafe store(widen(first &>> 4 | high & 48) &- 32, scale(2), out + 64)
          unsafe store(widen(second &>> 4 | (high &>> 2) & 48) &- 32, scale(3), out + 96)
        }
      }
    }
  }
}
