import NormFoldFormats
import NormFoldNetworks

/// The largest difference that a stored number w' may have from the number that was meant: what rounding to its type
/// costs at most.
///
/// For a floating type it is u·|w'| with the unit roundoff u = 2^−p of p significant bits, and half of the smallest
/// subnormal number (of F64 the whole of it, whose half no Double is). For a type with blocks it is half a step of the block, and what rounding the block's scale to 16 bits
/// costs (see ``bounds(of:into:)``).
struct StorageError: Sendable {
  let type: ElementType
  /// The bound over |w'|.
  let relative: Double
  /// The bound for every number, however small.
  let absolute: Double

  /// - Returns: nil for a type that nothing here can write: how it was rounded to is not known.
  init?(_ type: ElementType) {
    self.type = type
    switch type {
    case .f64: (relative, absolute) = (0x1p-53, 0x1p-1074)
    case .f32: (relative, absolute) = (0x1p-24, 0x1p-150)
    case .bf16: (relative, absolute) = (0x1p-8, 0x1p-134)
    case .f16: (relative, absolute) = (0x1p-11, 0x1p-25)
    // A scale of 16 bits, and at most 127 steps of one that is subnormal.
    case .q8_0: (relative, absolute) = (0x1p-11, 127 * 0x1p-25)
    case .q4_0, .q5_0, .q4_1, .q5_1: (relative, absolute) = (0x1p-11, 32 * 0x1p-25)
    default: return nil
    }
  }

  var hasBlocks: Bool { type.elementsPerBlock > 1 }

  /// Writes the bound of each number of some whole blocks, as they were decoded.
  ///
  /// The step d of a block follows from what was decoded, since the number of largest magnitude is stored as the last
  /// step: d = max/127 for Q8_0, max/8 for Q4_0, max/16 for Q5_0, (max − min)/15 and /31 for Q4_1 and Q5_1. Where only one
  /// sign has a last step (Q4_0: −8 … 7), a number beside the last step of the other may be a whole step off.
  func bounds(of values: UnsafeBufferPointer<Double>, into bounds: UnsafeMutableBufferPointer<Double>) {
    let width = type.elementsPerBlock
    for start in stride(from: 0, to: values.count, by: width) {
      let block = unsafe UnsafeBufferPointer(rebasing: values[start..<min(start + width, values.count)])
      var (low, high) = (Double.infinity, -Double.infinity)
      for index in block.indices {
        let value = unsafe block[index]
        (low, high) = (min(low, value), max(high, value))
      }
      let largest = max(abs(low), abs(high))
      switch type {
      case .q8_0: fill(largest / 254 * 1.001)
      case .q4_0: fill(largest / 16 * 1.001, edge: 6.5 / 8)
      case .q5_0: fill(largest / 32 * 1.001, edge: 14.5 / 16)
      case .q4_1: fill((high - low) / 30 * 1.001 + (high - low + largest) * relative)
      case .q5_1: fill((high - low) / 62 * 1.001 + (high - low + largest) * relative)
      default: fill(0)
      }
      func fill(_ half: Double, edge: Double = .infinity) {
        // The largest number in magnitude has the sign of the last step.
        let sign = abs(low) > high ? 1.0 : -1.0
        for index in block.indices {
          let value = unsafe block[index]
          let step = value * sign > edge * largest ? 2 * half : half
          unsafe bounds[start + index] = step + relative * abs(value) + absolute
        }
      }
    }
  }
}
