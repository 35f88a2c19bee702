/// The bytes of one ggml block, and what they mean, element by element. This is the definition: short, slow, and what
/// the fast versions in FastBlockDecoding.swift are tested against.
///
/// Legend: b block bytes, d scale, m minimum, i element in the block, q quantised number, n = i / 128,
/// j = i % 128 / 32, l = i % 32. All arithmetic is in Float, in the order written, never fused: that is what ggml's C
/// reference computes, bit for bit.
@safe struct PlainBlock {
  private let b: UnsafeRawPointer

  /// - Precondition: `bytes` outlives this value and holds a whole block of the type that is asked for.
  @unsafe init(at bytes: UnsafeRawPointer) { unsafe b = bytes }

  private func byte(_ index: Int) -> Int { Int(unsafe b.load(fromByteOffset: index, as: UInt8.self)) }
  private func signedByte(_ index: Int) -> Float { Float(unsafe b.load(fromByteOffset: index, as: Int8.self)) }
  private func half(_ index: Int) -> Float {
    Float(float16Bits: unsafe b.loadUnaligned(fromByteOffset: index, as: UInt16.self))
  }
  private func word(_ index: Int) -> Int { Int(unsafe b.loadUnaligned(fromByteOffset: index, as: UInt32.self)) }

  /// A four-bit number of 32: the low halves of 16 bytes hold the first 16, the high halves the others.
  private func nibble(_ start: Int, _ i: Int) -> Int { i < 16 ? byte(start + i) & 15 : byte(start + i - 16) >> 4 }

  /// - Precondition: ``ElementType/isDecodableBlockType``.
  func element(_ i: Int, of type: ElementType) -> Float {
    switch type {
    case .q4_0: half(0) * Float(nibble(2, i) - 8)
    case .q4_1: half(0) * Float(nibble(4, i)) + half(2)
    case .q5_0: half(0) * Float((nibble(6, i) | (word(2) >> i & 1) << 4) - 16)
    case .q5_1: half(0) * Float(nibble(8, i) | (word(4) >> i & 1) << 4) + half(2)
    case .q8_0: half(0) * signedByte(2 + i)
    case .q2K: q2K(i)
    case .q3K: q3K(i)
    case .q4K: q4K(i)
    case .q5K: q5K(i)
    case .q6K: q6K(i)
    case .iq4NL: half(0) * Self.iq4Values[nibble(2, i)]
    case .iq4XS: iq4XS(i)
    case .tq1_0: ternary(i)
    case .tq2_0: Float((byte(i / 128 * 32 + i % 32) >> (2 * (i % 128 / 32)) & 3) - 1) * half(64)
    case .mxfp4: mxfp4Scale * Self.mxfp4Values[nibble(1, i)]
    case .nvfp4: nvfp4(i)
    case .q1_0: byte(2 + i / 8) >> (i % 8) & 1 == 1 ? half(0) : -half(0)
    case .q2_0: Float((byte(2 + i / 4) >> (2 * (i % 4)) & 3) - 1) * half(0)
    default: preconditionFailure("\(type.displayName) is not decodable")
    }
  }
}

// MARK: 256 elements: 16 or 8 sub-blocks with scales of their own

extension PlainBlock {
  /// scales 16: 4 bits scale, 4 bits minimum | qs 64: 2 bits | d f16 | dmin f16
  private func q2K(_ i: Int) -> Float {
    let (n, j, l) = (i / 128, i % 128 / 32, i % 32)
    let scale = byte(i / 16)
    let q = byte(16 + 32 * n + l) >> (2 * j) & 3
    return half(80) * Float(scale & 15) * Float(q) - half(82) * Float(scale >> 4)
  }

  /// hmask 32: third bits | qs 64: 2 bits | scales 12: 16 × 6 bits | d f16
  private func q3K(_ i: Int) -> Float {
    let (n, j, l, k) = (i / 128, i % 128 / 32, i % 32, i / 16)
    let q = byte(32 + 32 * n + l) >> (2 * j) & 3
    let high = byte(l) >> (4 * n + j) & 1
    let lowScale = k < 8 ? byte(96 + k) & 15 : byte(96 + k - 8) >> 4
    let highScale = byte(96 + 8 + k % 4) >> (2 * (k / 4)) & 3
    return half(108) * Float((lowScale | highScale << 4) - 32) * Float(q - (high == 1 ? 0 : 4))
  }

  /// Eight scales and eight minima of 6 bits in 12 bytes from `start`.
  private func scaleAndMinimum(_ start: Int, _ subBlock: Int) -> (scale: Float, minimum: Float) {
    let s = subBlock
    if s < 4 { return (Float(byte(start + s) & 63), Float(byte(start + s + 4) & 63)) }
    let scale = byte(start + s + 4) & 15 | (byte(start + s - 4) >> 6) << 4
    let minimum = byte(start + s + 4) >> 4 | (byte(start + s) >> 6) << 4
    return (Float(scale), Float(minimum))
  }

  /// d f16 | dmin f16 | scales 12 | qs 128: 4 bits
  private func q4K(_ i: Int) -> Float {
    let (subBlock, l) = (i / 32, i % 32)
    let (scale, minimum) = scaleAndMinimum(4, subBlock)
    let packed = byte(16 + 32 * (subBlock / 2) + l)
    let q = subBlock % 2 == 0 ? packed & 15 : packed >> 4
    return half(0) * scale * Float(q) - half(2) * minimum
  }

  /// d f16 | dmin f16 | scales 12 | qh 32: fifth bits | qs 128: 4 bits
  private func q5K(_ i: Int) -> Float {
    let (subBlock, l) = (i / 32, i % 32)
    let (scale, minimum) = scaleAndMinimum(4, subBlock)
    let packed = byte(48 + 32 * (subBlock / 2) + l)
    let low = subBlock % 2 == 0 ? packed & 15 : packed >> 4
    let q = low | (byte(16 + l) >> subBlock & 1) << 4
    return half(0) * scale * Float(q) - half(2) * minimum
  }

  /// ql 128: 4 bits | qh 64: 2 bits | scales 16 × i8 | d f16
  private func q6K(_ i: Int) -> Float {
    let (n, j, l) = (i / 128, i % 128 / 32, i % 32)
    let packed = byte(64 * n + l + (j % 2 == 1 ? 32 : 0))
    let low = j < 2 ? packed & 15 : packed >> 4
    let high = byte(128 + 32 * n + l) >> (2 * j) & 3
    return half(208) * signedByte(192 + i / 16) * Float((low | high << 4) - 32)
  }

  /// d f16 | high scale bits u16 | low scale bits 4 | qs 128: 4 bits
  private func iq4XS(_ i: Int) -> Float {
    let subBlock = i / 32
    let lowScale = byte(4 + subBlock / 2) >> (4 * (subBlock % 2)) & 15
    let highScale = (byte(2) | byte(3) << 8) >> (2 * subBlock) & 3
    let scale = half(0) * Float((lowScale | highScale << 4) - 32)
    return scale * Self.iq4Values[nibble(8 + 16 * subBlock, i % 32)]
  }

  /// qs 48, qh 4: five and four ternary digits in a byte, as a fraction of 256 | d f16
  private func ternary(_ i: Int) -> Float {
    let (position, digit) =
      if i < 160 {
        (i % 32, i / 32)
      } else if i < 240 {
        (32 + (i - 160) % 16, (i - 160) / 16)
      } else {
        (48 + (i - 240) % 4, (i - 240) / 4)
      }
    let powers = [1, 3, 9, 27, 81]
    let value = ((byte(position) * powers[digit] & 255) * 3) >> 8
    return Float(value - 1) * half(52)
  }
}

// MARK: Tables and small floating-point scales

extension PlainBlock {
  private static let iq4Values: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

  /// Twice the values of E2M1, which halve the scale in turn.
  private static let mxfp4Values: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// scale u8: 2^(e − 128) | qs 16: 4 bits
  private var mxfp4Scale: Float {
    let exponent = UInt32(byte(0))
    return Float(bitPattern: exponent < 2 ? 0x0020_0000 << exponent : (exponent - 1) << 23)
  }

  /// four scales u8: UE4M3 | qs 32: 4 bits; 16 elements to a scale
  private func nvfp4(_ i: Int) -> Float {
    let (s, t) = (i / 16, i % 16)
    let packed = byte(4 + 8 * s + t % 8)
    let code = byte(s)
    let (exponent, fraction) = (code >> 3 & 15, code & 7)
    var scale: Float = 0
    if code != 0 && code != 0x7F {
      // 2^(exponent − 7) × 1.fraction, or 2^−6 × 0.fraction
      scale =
        exponent == 0
        ? Float(fraction) / 512 : Float(8 + fraction) / 8 * Float(bitPattern: UInt32(exponent - 7 + 127) << 23)
    }
    return scale / 2 * Self.mxfp4Values[t < 8 ? packed & 15 : packed >> 4]
  }
}
