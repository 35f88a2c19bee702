import CNormFoldKernels

extension ElementType {
  /// The type that rows of `rowLength` elements are stored in where this one is asked for: F16 where it has blocks and
  /// the rows do not fill them. So does llama.cpp's quantiser.
  package func fitting(rowLength: Int) -> ElementType { rowLength % elementsPerBlock == 0 ? self : .f16 }

  /// Replaces each value by what is read back after storing it in this type; elements are in the order in which they are
  /// stored, so that blocks are theirs.
  ///
  /// - Precondition: ``isEncodable``; the values fill whole blocks.
  package func roundTrip(_ values: UnsafeMutableBufferPointer<Float>) {
    guard self != .f32, self != .f64, let start = values.baseAddress else { return }
    let chunk = 4_096
    unsafe withUnsafeTemporaryAllocation(byteCount: chunk * 4, alignment: 16) { scratch in
      for first in stride(from: 0, to: values.count, by: chunk) {
        let count = min(chunk, values.count - first)
        let part = unsafe start + first
        let bytes = unsafe UnsafeMutableRawBufferPointer(
          rebasing: scratch[..<(count / elementsPerBlock * bitsPerBlock / 8)])
        unsafe encode(UnsafeBufferPointer(start: part, count: count), into: bytes)
        guard let stored = bytes.baseAddress else { return }
        switch self {
        case .f16: unsafe normfold_decode_f16_float(stored, count, part)
        case .bf16: unsafe normfold_decode_bf16_float(stored, count, part)
        default: unsafe decodeWholeBlocks(stored, count: count / elementsPerBlock, into: part)
        }
      }
    }
  }
}
