import CNormFoldKernels
import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// The integers of the weights of one network under one dynamic fixed point: exponents and packed matrices, each found once,
/// for all runs of the network that share this.
package final class IntegerWeights: Sendable {
  private let known = Mutex<[Path: [Int]]>([:])
  /// nil for a matrix that does not fit into ``PackedIntegers``.
  private let packed = Mutex<[Path: PackedIntegers?]>([:])

  /// Matrices that do not fit there, or that products on the way back read.
  let matrices = Mutex<[Path: Matrix<Double>]>([:])
  /// Is true if matrices that do not fit into ``PackedIntegers`` are kept, too, in 8 bytes a number, as in training; otherwise they
  /// are read again for every product.
  let keepsMatrices: Bool

  package init(keepingMatrices: Bool = false) { keepsMatrices = keepingMatrices }

  /// - Parameters:
  ///   - axis: the axis with an exponent for each of its places, if not all numbers share one.
  /// - Returns: one exponent, or one for each place along the axis.
  func exponents(
    of parameter: Parameter, at path: Path, in format: DynamicFixedPoint, scales: IntegerArithmetic.Scales, axis: Int
  ) -> [Int] {
    if let found = known.withLock({ $0[path] }) { return found }
    let isTransposed = parameter.storedView?.isTransposed ?? parameter.readsAcrossStoredRows
    let reader = ParameterReader(isTransposed ? parameter.transposed() : parameter)
    let runsAlongRows = (axis == 0) != isTransposed
    var largest = [Double](repeating: 0, count: scales == .tensor ? 1 : parameter.shape[axis])
    unsafe reader.forEachBlock { rows, values in
      for row in rows {
        let line = unsafe UnsafeBufferPointer(
          rebasing: values[
            (row - rows.lowerBound) * reader.columnCount..<(row - rows.lowerBound + 1) * reader.columnCount])
        if scales == .tensor || runsAlongRows {
          let place = scales == .tensor ? 0 : row
          largest[place] = unsafe max(largest[place], line.largestMagnitude)
        } else {
          for column in 0..<line.count { largest[column] = unsafe max(largest[column], abs(line[column])) }
        }
      }
    }
    let result = largest.map { format.exponent(ofLargest: $0) }
    known.withLock { $0[path] = result }
    return result
  }

  /// A matrix in 8-bit integers; nil where it is wider, holds a number that is not finite, or is so deep that sums could
  /// need more than 32 bits.
  ///
  /// - Parameter exponents: of all outputs, or one.
  func packed(
    _ weight: Parameter, at path: Path, in format: DynamicFixedPoint, exponents: [Int], activationBits: Int
  ) -> PackedIntegers? {
    guard PackedIntegers.holds(format.bits, activationBits, depth: weight.rowCount) else { return nil }
    // Whoever comes meanwhile waits for the same matrix.
    return packed.withLock { packed in
      if let found = packed[path] { return found }
      let result = PackedIntegers(weight, in: format, exponents: exponents)
      packed[path] = .some(result)
      return result
    }
  }
}

extension DynamicFixedPoint {
  /// Maps rows of a weight as they lie.
  ///
  /// - Parameters:
  ///   - values: the rows, one behind the other.
  ///   - exponents: of all outputs, or one.
  ///   - outputs: those that the rows have numbers of, or that the rows are.
  ///   - isTransposed: whether a row is an output.
  func map(
    rowsOfWeight values: UnsafeMutableBufferPointer<Double>, count: Int, exponents: [Int], outputs: Range<Int>,
    isTransposed: Bool
  ) {
    guard exponents.count > 1, count > 0 else {
      if let exponent = exponents.first { unsafe map(values, exponent: exponent) }
      return
    }
    let width = values.count / count
    for row in 0..<count {
      let line = unsafe UnsafeMutableBufferPointer(rebasing: values[row * width..<(row + 1) * width])
      if isTransposed {
        unsafe map(line, exponent: exponents[outputs.lowerBound + row])
      } else {
        unsafe map(line, exponents: exponents[outputs])
      }
    }
  }
}

/// A matrix [in, out] of integers from −127 to 127, in the order in which a product reads them.
@safe package final class PackedIntegers: @unchecked Sendable {
  package let inputCount: Int
  package let outputCount: Int
  private let bytes: UnsafeMutablePointer<UInt8>

  /// The instructions of this machine that take the least time.
  package static let form =
    [NORMFOLD_INT8_AVX512_VNNI, NORMFOLD_INT8_AVX_VNNI, NORMFOLD_INT8_AVX2].first { normfold_has_int8($0) }
    ?? NORMFOLD_INT8_PLAIN

  /// Outputs that lie together.
  private static let panel = 16

  /// Returns whether the products of so many numbers of these widths have sums of 32 bits.
  static func holds(_ weightBits: Int, _ activationBits: Int, depth: Int) -> Bool {
    max(weightBits, activationBits) <= 8
      && weightBits + activationBits - 1 + (Int.bitWidth - max(0, depth - 1).leadingZeroBitCount) <= 32
  }

  /// Maps a weight; nil where a number is not finite.
  ///
  /// - Parameter exponents: of all outputs, or one.
  init?(_ weight: Parameter, in format: DynamicFixedPoint, exponents: [Int]) {
    (inputCount, outputCount) = (weight.rowCount, weight.columnCount)
    let size = normfold_packed_int8_size(outputCount, inputCount)
    unsafe bytes = UnsafeMutableRawPointer.allocate(byteCount: max(1, size), alignment: 64)
      .initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let isTransposed = weight.storedView?.isTransposed ?? weight.readsAcrossStoredRows
    let reader = ParameterReader(isTransposed ? weight.transposed() : weight)
    let (inputs, outputs) = (inputCount, outputCount)
    var isFinite = true
    unsafe reader.forEachBlock { rows, values in
      unsafe format.map(
        rowsOfWeight: values, count: rows.count, exponents: exponents,
        outputs: isTransposed ? rows : 0..<outputs, isTransposed: isTransposed)
      guard isFinite, let numbers = unsafe values.bytes() else {
        isFinite = false
        return
      }
      unsafe normfold_pack_int8(
        isTransposed ? rows.count : outputs, isTransposed ? inputs : rows.count, numbers,
        isTransposed ? inputs : 1, isTransposed ? 1 : outputs, isTransposed ? rows.lowerBound : 0,
        isTransposed ? 0 : rows.lowerBound, inputs, bytes)
    }
    if !isFinite { return nil }
  }

  /// Maps a weight with one exponent; nil where a number is not finite.
  package convenience init?(_ weight: Parameter, bits: Int) {
    let format = DynamicFixedPoint(bits: bits)
    let exponents = IntegerWeights().exponents(of: weight, at: "", in: format, scales: .tensor, axis: 1)
    self.init(weight, in: format, exponents: exponents)
  }

  deinit { unsafe bytes.deallocate() }

  /// X·W for rows of 8-bit integers that lie one behind the other.
  ///
  /// - Returns: the sums of some outputs: those of a row begin at `start`, and those of two rows are `stride` apart.
  package func sums(of x: [Int8], rows: Int, outputs: Range<Int>) -> (sums: [Int32], start: Int, stride: Int) {
    let first = outputs.lowerBound / Self.panel * Self.panel
    let count = outputs.upperBound - first
    let sums = unsafe [Int32](unsafeUninitializedCapacity: rows * count) { sums, initialized in
      unsafe normfold_product_int8(
        Self.form, rows, count, inputCount, x, inputCount, bytes + normfold_packed_int8_size(first, inputCount),
        sums.baseAddress, count)
      initialized = rows * count
    }
    return (sums, outputs.lowerBound - first, count)
  }
}

extension UnsafeMutableBufferPointer<Double> {
  /// Integers from −128 to 127 in a byte each; nil where a number is NaN.
  func bytes() -> [Int8]? {
    var notNumbers = 0
    let result = unsafe [Int8](unsafeUninitializedCapacity: count) { bytes, initialized in
      for index in 0..<count {
        let number = unsafe self[index]
        // The lowest byte of 1.5 · 2^52 + x is x.
        unsafe bytes[index] = Int8(truncatingIfNeeded: (number + 0x1.8p52).bitPattern)
        notNumbers &+= number == number ? 0 : 1
      }
      initialized = count
    }
    return notNumbers == 0 ? result : nil
  }
}
