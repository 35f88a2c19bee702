import CNormFoldKernels

extension ElementType {
  /// Is true if `encode(_:into:)` can write this type.
  package var isEncodable: Bool {
    switch self {
    case .f64, .f32, .f16, .bf16, .q8_0, .q5_0, .q5_1, .q4_0, .q4_1: true
    default: false
    }
  }

  /// Stores Floats: exactly for F64 and F32, rounded to nearest, ties to even, for F16 and BF16, by the rules of
  /// ``PlainBlockEncoding`` for blocks.
  ///
  /// - Returns: Where a finite value was stored as an infinity or NaN, because it is too large for the type: the index
  ///   of the first such value; in a block, all of whose values are lost with its scale, that of the largest one. nil
  ///   where all finite values stay finite. Infinities and NaNs in the input are the caller's: they are not reported,
  ///   and make the other values of their block meaningless.
  /// - Precondition: ``isEncodable``; the values fill whole blocks; `bytes` is exactly as long as they take.
  @discardableResult
  package func encode(_ values: UnsafeBufferPointer<Float>, into bytes: UnsafeMutableRawBufferPointer) -> Int? {
    precondition(isEncodable, "\(displayName) is not encodable")
    precondition(byteCount(ofElements: values.count) == bytes.count, "the bytes do not fit the values")
    guard let source = values.baseAddress, let target = bytes.baseAddress, !values.isEmpty else { return nil }
    // In pieces that stay in cache between the passes.
    var overflow: Int?
    var start = 0
    while start < values.count {
      let count = min(Self.chunk, values.count - start)
      let out = unsafe target + start / elementsPerBlock * (bitsPerBlock / 8)
      let found = unsafe encodeChunk(source + start, count, out)
      overflow = overflow ?? found.map { start + $0 }
      start += count
    }
    return overflow
  }

  /// Stores Doubles, each rounded once: to nearest, ties to even. Blocks are computed in Float, as their definition says.
  ///
  /// - Returns: As for Floats; for F32, and for blocks, a finite Double that Float cannot hold counts, too.
  /// - Precondition: As for Floats.
  @discardableResult
  package func encode(_ values: UnsafeBufferPointer<Double>, into bytes: UnsafeMutableRawBufferPointer) -> Int? {
    precondition(isEncodable, "\(displayName) is not encodable")
    precondition(byteCount(ofElements: values.count) == bytes.count, "the bytes do not fit the values")
    guard let source = values.baseAddress, let target = bytes.baseAddress, !values.isEmpty else { return nil }
    if self == .f64 {
      unsafe target.copyMemory(from: source, byteCount: bytes.count)
      return nil
    }
    return unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.chunk) { scratch in
      guard let floats = scratch.baseAddress else { return nil }
      var overflow: Int?
      var start = 0
      while start < values.count {
        let count = min(Self.chunk, values.count - start)
        let input = unsafe source + start
        if self == .f16 || self == .bf16 {
          unsafe normfold_narrow_to_odd(input, count, floats)
        } else {
          unsafe normfold_narrow(input, count, floats)
          let found = unsafe firstInfinite(floats, input, count)
          overflow = overflow ?? found.map { start + $0 }
        }
        let out = unsafe target + start / elementsPerBlock * (bitsPerBlock / 8)
        let found = unsafe encodeChunk(floats, count, out)
        overflow = overflow ?? found.map { start + $0 }
        start += count
      }
      return overflow
    }
  }

  /// A multiple of all blocks that we write; 16 KiB of Floats.
  private static let chunk = 4_096

  /// Returns the index of the first finite value that becomes infinite or NaN, as above.
  private func encodeChunk(_ x: UnsafePointer<Float>, _ count: Int, _ b: UnsafeMutableRawPointer) -> Int? {
    switch self {
    case .f32: unsafe b.copyMemory(from: x, byteCount: count * 4)
    case .f64: unsafe convert(x, count, b) { Double($0) }
    case .f16:
      unsafe normfold_encode_f16(x, count, b)
      // 65,520 lies half-way between the largest binary16 and what would be the next.
      return unsafe firstFinite(x, count, from: 65_520)
    case .bf16:
      unsafe normfold_encode_bf16(x, count, b)
      return unsafe firstFinite(x, count, from: Float(bitPattern: 0x7F7F_8000))
    case .q8_0: if unsafe normfold_encode_q8_0(x, count / 32, b) != 0 { return nil }
    case .q5_0: unsafe FastBlocks.encodeQ5x0(x, count / 32, b)
    case .q5_1: unsafe FastBlocks.encodeQ5x1(x, count / 32, b)
    case .q4_0: unsafe FastBlocks.encodeQ4x0(x, count / 32, b)
    case .q4_1: unsafe FastBlocks.encodeQ4x1(x, count / 32, b)
    default: preconditionFailure("\(displayName) is not encodable")
    }
    return elementsPerBlock == 1 ? nil : unsafe firstLostBlock(x, count, b)
  }

  /// Encodes `count` whole blocks element by element.
  /// - Precondition: the type is one of the block types that ``isEncodable`` names.
  package func encodeWholeBlocksPlainly(
    _ x: UnsafePointer<Float>, count: Int, into b: UnsafeMutableRawPointer
  ) {
    for index in 0..<count {
      unsafe PlainBlockEncoding.encodeBlock(
        self, x + index * elementsPerBlock, into: b + index * (bitsPerBlock / 8))
    }
  }

  /// Returns the index of the value with the largest magnitude in the first block whose values are finite and whose
  /// scale or minimum is not; nil where there is no such block.
  private func firstLostBlock(_ x: UnsafePointer<Float>, _ count: Int, _ b: UnsafeMutableRawPointer) -> Int? {
    let byteCount = bitsPerBlock / 8
    let hasMinimum = self == .q4_1 || self == .q5_1
    for block in 0..<count / 32 {
      let p = unsafe b + block * byteCount
      let scale = unsafe p.loadUnaligned(as: UInt16.self)
      let minimum = hasMinimum ? unsafe p.loadUnaligned(fromByteOffset: 2, as: UInt16.self) : 0
      guard scale & 0x7C00 == 0x7C00 || minimum & 0x7C00 == 0x7C00 else { continue }
      var largest = block * 32
      var isFinite = true
      for i in block * 32..<block * 32 + 32 {
        isFinite = unsafe isFinite && x[i].isFinite
        if unsafe x[i].magnitude > x[largest].magnitude { largest = i }
      }
      if isFinite { return largest }
    }
    return nil
  }
}

@inline(__always)
private func convert<Stored>(
  _ x: UnsafePointer<Float>, _ count: Int, _ b: UnsafeMutableRawPointer, _ value: (Float) -> Stored
) {
  for i in 0..<count {
    unsafe b.storeBytes(of: value(x[i]), toByteOffset: i &* MemoryLayout<Stored>.stride, as: Stored.self)
  }
}

/// The index of the first finite value whose magnitude is `limit` or more.
private func firstFinite(_ x: UnsafePointer<Float>, _ count: Int, from limit: Float) -> Int? {
  guard unsafe normfold_largest_magnitude_bits(x, count) >= limit.bitPattern else { return nil }
  return (0..<count).first { unsafe x[$0].isFinite && x[$0].magnitude >= limit }
}

/// The index of the first infinite Float that was a finite Double.
private func firstInfinite(_ x: UnsafePointer<Float>, _ doubles: UnsafePointer<Double>, _ count: Int) -> Int? {
  guard unsafe normfold_largest_magnitude_bits(x, count) >= Float.infinity.bitPattern else { return nil }
  return (0..<count).first { unsafe x[$0].isInfinite && doubles[$0].isFinite }
}
