import CNormFoldKernels
import Testing
import TestSupport

@testable import NormFoldFormats

/// The kernels in C against the conversions of single numbers, at all lengths that end within a vector and beyond one, at all
/// alignments, on numbers of every kind.
@Suite struct ConversionKernelTests {
  /// Random bits: every exponent, subnormals, infinities and NaNs among them.
  private static func floats(_ count: Int, seed: UInt64) -> [Float] {
    var random = SeededGenerator(seed: seed)
    let special: [Float] = [0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, 65_519.9, 65_520, 0x1p-14]
    return (0..<count).map { index in
      index % 5 == 3
        ? special[index / 5 % special.count] : Float(bitPattern: .random(in: 0...UInt32.max, using: &random))
    }
  }

  private static let lengths = Array(0...70) + [127, 128, 129, 1_000]

  @Test("Narrower types, at every length and alignment", arguments: [0, 1, 2, 3])
  func encoding(gap: Int) {
    for count in Self.lengths {
      let x = Self.floats(count, seed: UInt64(count))
      var bytes = [UInt8](repeating: 0xA5, count: gap + 2 * count + 1)
      func found(_ kernel: (UnsafePointer<Float>?, Int, UnsafeMutableRawPointer?) -> Void) -> [UInt16] {
        bytes.withUnsafeMutableBytes { kernel(x, count, $0.baseAddress! + gap) }
        #expect(bytes[0..<gap].allSatisfy { $0 == 0xA5 } && bytes[gap + 2 * count] == 0xA5)
        return (0..<count).map { UInt16(bytes[gap + 2 * $0]) | UInt16(bytes[gap + 2 * $0 + 1]) << 8 }
      }
      #expect(found(normfold_encode_f16) == x.map(\.float16Bits), "\(count) numbers")
      #expect(found(normfold_encode_bf16) == x.map(\.bfloat16Bits), "\(count) numbers")
    }
  }

  @Test("Wider types, at every length and alignment", arguments: [0, 1, 2, 3])
  func decoding(gap: Int) {
    for count in Self.lengths {
      let x = Self.floats(count, seed: UInt64(count + 500))
      let halves = x.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 7) }
      func shifted<T>(_ values: [T]) -> [UInt8] {
        [UInt8](repeating: 0, count: gap) + values.withUnsafeBytes(Array.init)
      }
      func found<Scalar: BinaryFloatingPoint>(
        _ bytes: [UInt8], _ kernel: (UnsafeRawPointer?, Int, UnsafeMutablePointer<Scalar>?) -> Void
      ) -> [Double] {
        var y = [Scalar](repeating: 7, count: count + 1)
        bytes.withUnsafeBytes { bytes in
          y.withUnsafeMutableBufferPointer { kernel(bytes.baseAddress! + gap, count, $0.baseAddress) }
        }
        #expect(y[count] == 7)
        return y[..<count].map { Double($0) }
      }
      func same(_ found: [Double], _ expected: [Float]) -> Bool {
        zip(found, expected).allSatisfy { $1.isNaN ? $0.isNaN : $0 == Double($1) && $0.sign == $1.sign }
      }
      guard gap + count > 0 else { continue }
      #expect(same(found(shifted(x), normfold_decode_f32_double), x), "\(count) numbers")
      #expect(same(found(shifted(halves), normfold_decode_f16_float), halves.map { Float(float16Bits: $0) }))
      #expect(same(found(shifted(halves), normfold_decode_f16_double), halves.map { Float(float16Bits: $0) }))
      #expect(same(found(shifted(halves), normfold_decode_bf16_float), halves.map { Float(bfloat16Bits: $0) }))
      #expect(same(found(shifted(halves), normfold_decode_bf16_double), halves.map { Float(bfloat16Bits: $0) }))
    }
  }

  @Test("Doubles, and the largest magnitude")
  func narrowing() {
    for count in Self.lengths {
      let floats = Self.floats(count, seed: UInt64(count + 1_000))
      // Between two Floats, and where one holds them exactly.
      let x = floats.enumerated().map { Double($1) * ($0.isMultiple(of: 3) ? 1 : 1 + Double($0 + 1) * 0x1p-40) }
      var y = [Float](repeating: 7, count: count + 1)
      func bits(_ kernel: (UnsafePointer<Double>?, Int, UnsafeMutablePointer<Float>?) -> Void) -> [UInt32] {
        y.withUnsafeMutableBufferPointer { kernel(x, count, $0.baseAddress) }
        #expect(y[count] == 7)
        return y[..<count].map { $0.isNaN ? 0 : $0.bitPattern }
      }
      func bits(of numbers: [Float]) -> [UInt32] { numbers.map { $0.isNaN ? 0 : $0.bitPattern } }
      #expect(bits(normfold_narrow) == bits(of: x.map { Float($0) }))
      #expect(bits(normfold_narrow_to_odd) == bits(of: x.map(\.roundedToOddFloat)))
      #expect(
        normfold_largest_magnitude_bits(floats, count)
          == floats.reduce(0) { max($0, $1.bitPattern & 0x7FFF_FFFF) })
    }
  }
}
