extension ElementType {
  /// Is true if this is a ggml block type that we decode. The other block types need code books (IQ1, IQ2, IQ3) or are
  /// never stored (Q8_1, Q8_K).
  var isDecodableBlockType: Bool {
    switch self {
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q2K, .q3K, .q4K, .q5K, .q6K, .iq4NL, .iq4XS, .tq1_0, .tq2_0, .mxfp4,
      .nvfp4, .q1_0, .q2_0:
      true
    default: false
    }
  }

  /// Decodes the elements `range` of stored ggml blocks; the range may start and end inside a block.
  func decodeBlocks<Scalar: ComputeScalar>(
    _ stored: UnsafeRawBufferPointer, elements range: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    let (elements, bytes) = (elementsPerBlock, bitsPerBlock / 8)
    precondition(isDecodableBlockType, "\(displayName) is not decodable")
    precondition(range.lowerBound >= 0 && range.upperBound <= stored.count / bytes * elements)
    precondition(range.count <= destination.count)
    guard !range.isEmpty, let source = stored.baseAddress, let target = destination.baseAddress else { return }
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.largestBlock) { scratch in
      guard let block = scratch.baseAddress else { return }
      var position = range.lowerBound
      while position < range.upperBound {
        let out = unsafe target + (position - range.lowerBound)
        let first = position % elements
        let wholeBlocks = first == 0 ? (range.upperBound - position) / elements : 0
        let blockBytes = unsafe source + position / elements * bytes
        if wholeBlocks > 0, Scalar.self == Float.self {
          unsafe decodeWholeBlocks(
            blockBytes, count: wholeBlocks, into: UnsafeMutableRawPointer(out).assumingMemoryBound(to: Float.self))
          position += wholeBlocks * elements
        } else {
          // Doubles, and the blocks at the ends of which a part is wanted.
          unsafe decodeWholeBlocks(blockBytes, count: 1, into: block)
          let count = min(elements - first, range.upperBound - position)
          for index in 0..<count { unsafe out[index] = Scalar(block[first + index]) }
          position += count
        }
      }
    }
  }

  private static let largestBlock = 256

  /// Decodes `count` blocks: the common types fast, the others by their definition.
  package func decodeWholeBlocks(_ blocks: UnsafeRawPointer, count: Int, into values: UnsafeMutablePointer<Float>) {
    switch self {
    case .q8_0: unsafe FastBlocks.decodeQ8x0(blocks, count, values)
    case .q4_0: unsafe FastBlocks.decodeQ4x0(blocks, count, values)
    case .q4_1: unsafe FastBlocks.decodeQ4x1(blocks, count, values)
    case .q5_0: unsafe FastBlocks.decodeQ5x0(blocks, count, values)
    case .q5_1: unsafe FastBlocks.decodeQ5x1(blocks, count, values)
    case .q4K: unsafe FastBlocks.decodeQ4K(blocks, count, values)
    case .q5K: unsafe FastBlocks.decodeQ5K(blocks, count, values)
    case .q6K: unsafe FastBlocks.decodeQ6K(blocks, count, values)
    default: unsafe decodeWholeBlocksPlainly(blocks, count: count, into: values)
    }
  }

  /// Decodes `count` blocks element by element.
  package func decodeWholeBlocksPlainly(
    _ blocks: UnsafeRawPointer, count: Int, into values: UnsafeMutablePointer<Float>
  ) {
    let (elements, bytes) = (elementsPerBlock, bitsPerBlock / 8)
    for index in 0..<count {
      let block = unsafe PlainBlock(at: blocks + index * bytes)
      for i in 0..<elements { unsafe values[index * elements + i] = block.element(i, of: self) }
    }
  }
}
