/// Quantisation to ggml blocks, element by element, as ggml's C reference and gguf-py round. This is the definition
/// that the fast versions in FastBlockEncoding.swift are tested against.
///
/// Legend: x the 32 values of a block, b its bytes, d scale, m minimum. All arithmetic is in Float; the inverse of the
/// scale is that of d before d is rounded to binary16. Where that inverse overflows (all values below 2^-121 or so) the
/// conversion of infinity and NaN to an integer gives 0, as on x86.
enum PlainBlockEncoding {
  /// - Precondition: the type is one of Q8_0, Q5_0, Q5_1, Q4_0 and Q4_1; `x` has 32 elements and `b` room for a block.
  static func encodeBlock(_ type: ElementType, _ x: UnsafePointer<Float>, into b: UnsafeMutableRawPointer) {
    switch type {
    case .q8_0: unsafe q8x0(x, b)
    case .q5_0: unsafe signed(x, b, halfRange: 16)
    case .q4_0: unsafe signed(x, b, halfRange: 8)
    case .q5_1: unsafe withMinimum(x, b, largest: 31)
    case .q4_1: unsafe withMinimum(x, b, largest: 15)
    default: preconditionFailure("\(type.displayName) is not encodable")
    }
  }

  /// d f16 | 32 × i8
  private static func q8x0(_ x: UnsafePointer<Float>, _ b: UnsafeMutableRawPointer) {
    var largest: Float = 0
    for i in 0..<32 { largest = unsafe x[i].magnitude > largest ? x[i].magnitude : largest }
    let d = largest / 127
    let inverse = d == 0 ? 0 : 1 / d
    unsafe b.storeBytes(of: d.float16Bits, as: UInt16.self)
    for i in 0..<32 {
      let q = unsafe byte((x[i] * inverse).rounded(.toNearestOrAwayFromZero))
      unsafe b.storeBytes(of: q, toByteOffset: 2 + i, as: UInt8.self)
    }
  }

  /// Q4_0 and Q5_0: d f16 | fifth bits, u32, for Q5_0 | 4 bits. The value of largest magnitude, the first on ties, is
  /// −8 d or −16 d exactly.
  private static func signed(_ x: UnsafePointer<Float>, _ b: UnsafeMutableRawPointer, halfRange: Int) {
    var extreme: Float = 0
    for i in 0..<32 where unsafe x[i].magnitude > extreme.magnitude { extreme = unsafe x[i] }
    let d = extreme / Float(-halfRange)
    let inverse = d == 0 ? 0 : 1 / d
    unsafe b.storeBytes(of: d.float16Bits, as: UInt16.self)
    unsafe storeBits(b + 2, fifthBits: halfRange == 16) { i in
      min(unsafe byte(x[i] * inverse + (Float(halfRange) + 0.5)), UInt8(2 * halfRange - 1))
    }
  }

  /// Q4_1 and Q5_1: d f16 | m f16 | fifth bits, u32, for Q5_1 | 4 bits.
  private static func withMinimum(_ x: UnsafePointer<Float>, _ b: UnsafeMutableRawPointer, largest: Int) {
    var minimum = Float.greatestFiniteMagnitude
    var maximum = -Float.greatestFiniteMagnitude
    for i in 0..<32 {
      if unsafe x[i] < minimum { minimum = unsafe x[i] }
      if unsafe x[i] > maximum { maximum = unsafe x[i] }
    }
    let d = (maximum - minimum) / Float(largest)
    let inverse = d == 0 ? 0 : 1 / d
    unsafe b.storeBytes(of: d.float16Bits, as: UInt16.self)
    unsafe b.storeBytes(of: minimum.float16Bits, toByteOffset: 2, as: UInt16.self)
    unsafe storeBits(b + 4, fifthBits: largest == 31) { i in
      min(unsafe byte((x[i] - minimum) * inverse + 0.5), UInt8(largest))
    }
  }

  /// Low halves of 16 bytes hold the first 16 numbers, high halves the others; fifth bits come before them.
  private static func storeBits(_ b: UnsafeMutableRawPointer, fifthBits: Bool, _ q: (Int) -> UInt8) {
    var high: UInt32 = 0
    let packed = unsafe fifthBits ? b + 4 : b
    for i in 0..<16 {
      let (first, second) = (q(i), q(i + 16))
      unsafe packed.storeBytes(of: first & 15 | (second & 15) << 4, toByteOffset: i, as: UInt8.self)
      high |= UInt32(first >> 4) << UInt32(i) | UInt32(second >> 4) << UInt32(i + 16)
    }
    if fifthBits { unsafe b.storeBytes(of: high, as: UInt32.self) }
  }

  /// The integral part, modulo 256; 0 for what is no number of this size.
  private static func byte(_ value: Float) -> UInt8 {
    value.magnitude < 256 ? UInt8(truncatingIfNeeded: Int(value)) : 0
  }
}
