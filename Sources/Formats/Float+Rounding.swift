/// Conversions of single numbers to narrower floating-point types, rounding to nearest, ties to even. Many at a time are the
/// work of kernels in C, which are tested against these.
extension Float {
  /// The bfloat16 nearest to this value. NaNs stay NaNs and become quiet, whatever their lower half.
  @inline(__always)
  package var bfloat16Bits: UInt16 {
    let bits = bitPattern
    let rounded = (bits &+ 0x7FFF &+ (bits &>> 16 & 1)) &>> 16
    let quiet = bits &>> 16 | 0x40
    return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? quiet : rounded)
  }

  /// The IEEE 754 binary16 nearest to this value; infinite from 65,520 on.
  @inline(__always)
  package var float16Bits: UInt16 {
    let magnitude = bitPattern & 0x7FFF_FFFF
    // The fraction loses 13 bits; the exponent is biased by 15 instead of 127.
    let normal = ((magnitude &+ 0xFFF &+ (magnitude &>> 13 & 1)) &>> 13) &- (112 &<< 10)
    // Below 2^-14, where the numbers of binary16 are multiples of 2^-24: as are the Floats above 0.5, so that the
    // addition rounds as we must.
    let subnormal = (Float(bitPattern: magnitude) + 0.5).bitPattern &- Float(0.5).bitPattern
    let notANumber = 0x7E00 | (magnitude &>> 13 & 0x3FF)
    let finite = magnitude < 0x3880_0000 ? subnormal : (normal < 0x7C00 ? normal : 0x7C00)
    let result = magnitude > 0x7F80_0000 ? notANumber : finite
    return UInt16(truncatingIfNeeded: result | (bitPattern &>> 16 & 0x8000))
  }
}
