import CNormFoldKernels

/// The two precisions that we compute in.
package protocol ComputeScalar: BinaryFloatingPoint, SIMDScalar, Codable, Sendable {}
extension Float: ComputeScalar {}
extension Double: ComputeScalar {}

extension ElementType {
  /// Is true if ``Tensor/decode(_:into:)`` can turn elements of this type into numbers.
  package var isDecodable: Bool {
    switch self {
    case .bool, .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64, .f16, .bf16, .f32, .f64: true
    case .f4e2m1, .f6e2m3, .f6e3m2, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .c64: false
    default: isDecodableBlockType
    }
  }
}

extension Tensor {
  /// Decodes the elements `range`, in row-major order, to the start of `destination`: exact where the type of
  /// `Scalar` can hold the value, rounded to nearest otherwise.
  ///
  /// - Precondition: ``ElementType/isDecodable``; `range` lies inside the tensor; `destination` has room.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func decode<Scalar: ComputeScalar>(_ range: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>)
  {
    precondition(range.lowerBound >= 0 && range.upperBound <= info.elementCount)
    precondition(destination.count >= range.count)
    if let elementStrides { return unsafe decodeStrided(range, strides: elementStrides, into: destination) }
    file.withBytes { bytes in
      let stored = bytes.extracting(byteOffset..<byteOffset + info.byteCount)
      unsafe stored.withUnsafeBytes { unsafe info.type.decode($0, elements: range, into: destination) }
    }
  }

  /// All elements, decoded.
  /// - Precondition: as for ``decode(_:into:)``.
  package func decoded<Scalar: ComputeScalar>(as _: Scalar.Type = Scalar.self) -> [Scalar] {
    let count = info.elementCount
    // An array without elements is one object for all threads, and the initializer below writes a count into it.
    guard count > 0 else { return [] }
    return unsafe [Scalar](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      unsafe decode(0..<count, into: buffer)
      initializedCount = count
    }
  }

  /// Element by element: strided views are rare and small next to what is computed from them.
  private func decodeStrided<Scalar: ComputeScalar>(
    _ range: Range<Int>, strides: [Int], into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    let elementByteCount = info.type.bitsPerBlock / 8
    file.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { all in
        for (position, flat) in range.enumerated() {
          var remainder = flat
          var element = 0
          for axis in shape.indices.reversed() {
            element += remainder % shape[axis] * strides[axis]
            remainder /= shape[axis]
          }
          let start = byteOffset + element * elementByteCount
          let one = unsafe UnsafeRawBufferPointer(rebasing: all[start..<start + elementByteCount])
          let slot = unsafe UnsafeMutableBufferPointer(rebasing: destination[position..<position + 1])
          unsafe info.type.decode(one, elements: 0..<1, into: slot)
        }
      }
    }
  }
}

extension ElementType {
  /// Decodes elements of a stored row-major array. Loads are unaligned: formats promise no alignment.
  fileprivate func decode<Scalar: ComputeScalar>(
    _ stored: UnsafeRawBufferPointer, elements range: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    switch self {
    case .f32: unsafe floats(stored, range, destination)
    case .f64: unsafe convert(stored, range, destination) { (bits: UInt64) in Scalar(Double(bitPattern: bits)) }
    case .bf16:
      unsafe halves(stored, range, destination, normfold_decode_bf16_float, normfold_decode_bf16_double)
    case .f16: unsafe halves(stored, range, destination, normfold_decode_f16_float, normfold_decode_f16_double)
    case .i8: unsafe convert(stored, range, destination) { (value: Int8) in Scalar(value) }
    case .i16: unsafe convert(stored, range, destination) { (value: Int16) in Scalar(value) }
    case .i32: unsafe convert(stored, range, destination) { (value: Int32) in Scalar(value) }
    case .i64: unsafe convert(stored, range, destination) { (value: Int64) in Scalar(value) }
    case .u8: unsafe convert(stored, range, destination) { (value: UInt8) in Scalar(value) }
    case .u16: unsafe convert(stored, range, destination) { (value: UInt16) in Scalar(value) }
    case .u32: unsafe convert(stored, range, destination) { (value: UInt32) in Scalar(value) }
    case .u64: unsafe convert(stored, range, destination) { (value: UInt64) in Scalar(value) }
    case .bool: unsafe convert(stored, range, destination) { (value: UInt8) in value == 0 ? 0 : 1 }
    case .f4e2m1, .f6e2m3, .f6e3m2, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .c64:
      preconditionFailure("\(displayName) is not decodable")
    default: unsafe decodeBlocks(stored, elements: range, into: destination)
    }
  }
}

private func floats<Scalar: ComputeScalar>(
  _ stored: UnsafeRawBufferPointer, _ range: Range<Int>, _ destination: UnsafeMutableBufferPointer<Scalar>
) {
  precondition(range.upperBound * 4 <= stored.count)
  guard !range.isEmpty, let source = stored.baseAddress, let target = destination.baseAddress else { return }
  let start = unsafe source + range.lowerBound * 4
  if let doubles = unsafe target as? UnsafeMutablePointer<Double> {
    unsafe normfold_decode_f32_double(start, range.count, doubles)
  } else {
    unsafe UnsafeMutableRawPointer(target).copyMemory(from: start, byteCount: range.count * 4)
  }
}

/// Decodes numbers of two bytes by a kernel.
private func halves<Scalar: ComputeScalar>(
  _ stored: UnsafeRawBufferPointer, _ range: Range<Int>, _ destination: UnsafeMutableBufferPointer<Scalar>,
  _ toFloats: (UnsafeRawPointer?, Int, UnsafeMutablePointer<Float>?) -> Void,
  _ toDoubles: (UnsafeRawPointer?, Int, UnsafeMutablePointer<Double>?) -> Void
) {
  precondition(range.upperBound * 2 <= stored.count)
  guard !range.isEmpty, let source = stored.baseAddress, let target = destination.baseAddress else { return }
  let start = unsafe source + range.lowerBound * 2
  if let doubles = unsafe target as? UnsafeMutablePointer<Double> {
    unsafe toDoubles(start, range.count, doubles)
  } else if let floats = unsafe target as? UnsafeMutablePointer<Float> {
    unsafe toFloats(start, range.count, floats)
  }
}

/// - Note: all supported hosts are little-endian, as all supported files are.
@inline(__always)
private func convert<Stored, Scalar: ComputeScalar>(
  _ stored: UnsafeRawBufferPointer, _ range: Range<Int>, _ destination: UnsafeMutableBufferPointer<Scalar>,
  _ value: (Stored) -> Scalar
) {
  precondition(range.upperBound * MemoryLayout<Stored>.stride <= stored.count)
  guard !range.isEmpty, let source = stored.baseAddress, let target = destination.baseAddress else { return }
  var address = unsafe source + range.lowerBound * MemoryLayout<Stored>.stride
  for index in 0..<range.count {
    unsafe target[index] = value(address.loadUnaligned(as: Stored.self))
    unsafe address += MemoryLayout<Stored>.stride
  }
}

extension Float {
  /// The value of a bfloat16: the upper half of a Float.
  @inline(__always)
  package init(bfloat16Bits bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }

  /// The value of an IEEE 754 binary16, exactly, in integer steps that the compiler turns into SIMD: the hardware
  /// conversion is not part of the x86-64 baseline.
  @inline(__always)
  package init(float16Bits bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF)
    // Exponent and fraction, moved into place, the exponent biased by 127 instead of 15. A subnormal is a count of
    // 2^-24; it is converted as such, because arithmetic on subnormal Floats is a hundred times slower.
    let normal = (magnitude << 13) + (112 << 23)
    let subnormal = (Float(Int32(bitPattern: magnitude)) * 0x1p-24).bitPattern
    let isSpecial = magnitude >= 0x7C00
    let special = magnitude << 13 | 0x7F80_0000
    let isSubnormal = magnitude < 0x0400
    self.init(bitPattern: (isSpecial ? special : isSubnormal ? subnormal : normal) | sign)
  }
}
