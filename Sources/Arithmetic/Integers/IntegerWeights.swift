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

  /// A matrix in integers of 8 or 16 bits; nil where it is wider, holds a number that is not finite, or is so deep that
  /// sums could need more than 32 bits.
  ///
  /// - Parameter exponents: of all outputs, or one.
  func packed(
    _ weight: Parameter, at path: Path, in format: DynamicFixedPoint, exponents: [Int], activationBits: Int
  ) -> PackedIntegers? {
    guard PackedIntegers.holds(format.bits, activationBits, depth: weight.rowCount) else { return nil }
    // Whoever comes meanwhile waits for the same matrix.
    return packed.withLock { packed in
      if let found = packed[path] { return found }
      let result = PackedIntegers(
        weight, in: format, exponents: exponents, isWide: max(format.bits, activationBits) > 8)
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

/// A matrix [in, out] of integers, 8 or 16 bits each, in the order in which a product reads them.
@safe package final class PackedIntegers: @unchecked Sendable {
  package let inputCount: Int
  package let outputCount: Int
  /// Is true if numbers have 16 bits, which those that they are multiplied by have then, too.
  package let isWide: Bool
  private let memory: UnsafeMutableRawPointer

  /// The instructions of this machine that take the least time.
  package static let form =
    [NORMFOLD_AVX512_VNNI, NORMFOLD_AVX_VNNI, NORMFOLD_AVX2].first { normfold_has_form($0) } ?? NORMFOLD_PLAIN

  /// Outputs that lie together.
  private static let panel = 16

  /// Returns whether the products of so many numbers of these widths have sums of 32 bits.
  static func holds(_ weightBits: Int, _ activationBits: Int, depth: Int) -> Bool {
    max(weightBits, activationBits) <= 16
      && weightBits + activationBits - 1 + (Int.bitWidth - max(0, depth - 1).leadingZeroBitCount) <= 32
  }

  /// Maps a weight; nil where a number is not finite.
  ///
  /// - Parameter exponents: of all outputs, or one.
  init?(_ weight: Parameter, in format: DynamicFixedPoint, exponents: [Int], isWide: Bool) {
    (inputCount, outputCount, self.isWide) = (weight.rowCount, weight.columnCount, isWide)
    let (inputs, outputs) = (inputCount, outputCount)
    let size =
      isWide
      ? MemoryLayout<Int16>.stride * normfold_packed_int16_size(outputs, inputs)
      : normfold_packed_int8_size(outputs, inputs)
    unsafe memory = .allocate(byteCount: max(1, size), alignment: 64)
    let bytes = unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let isTransposed = weight.storedView?.isTransposed ?? weight.readsAcrossStoredRows
    let reader = ParameterReader(isTransposed ? weight.transposed() : weight)
    var isFinite = true
    unsafe reader.forEachBlock { rows, values in
      unsafe format.map(
        rowsOfWeight: values, count: rows.count, exponents: exponents,
        outputs: isTransposed ? rows : 0..<outputs, isTransposed: isTransposed)
      let (n, k) = isTransposed ? (rows.count, inputs) : (outputs, rows.count)
      let (strideOutput, strideInput) = isTransposed ? (inputs, 1) : (1, outputs)
      let (output, input) = isTransposed ? (rows.lowerBound, 0) : (0, rows.lowerBound)
      if isWide, let numbers = unsafe values.integers(as: Int16.self) {
        unsafe bytes.withMemoryRebound(to: Int16.self, capacity: size / 2) { packed in
          unsafe normfold_pack_int16(n, k, numbers, strideOutput, strideInput, output, input, inputs, packed)
        }
      } else if !isWide, let numbers = unsafe values.integers(as: Int8.self) {
        unsafe normfold_pack_int8(n, k, numbers, strideOutput, strideInput, output, input, inputs, bytes)
      } else {
        isFinite = false
      }
    }
    if !isFinite { return nil }
  }

  /// Maps a weight with one exponent; nil where a number is not finite.
  package convenience init?(_ weight: Parameter, bits: Int) {
    let format = DynamicFixedPoint(bits: bits)
    let exponents = IntegerWeights().exponents(of: weight, at: "", in: format, scales: .tensor, axis: 1)
    self.init(weight, in: format, exponents: exponents, isWide: bits > 8)
  }

  deinit { unsafe memory.deallocate() }

  /// The sums of some outputs: those of a row begin at `start`, and those of two rows are `stride` apart.
  package typealias Sums = (sums: [Int32], start: Int, stride: Int)

  /// X·W for rows of integers that lie one behind the other; nil where one is not finite.
  package func sums(of x: UnsafeMutableBufferPointer<Double>, rows: Int, outputs: Range<Int>) -> Sums? {
    if isWide { return unsafe x.integers(as: Int16.self).map { sums(of: $0, rows: rows, outputs: outputs) } }
    return unsafe x.integers(as: Int8.self).map { sums(of: $0, rows: rows, outputs: outputs) }
  }

  package func sums(of x: [Int8], rows: Int, outputs: Range<Int>) -> Sums {
    precondition(!isWide)
    return unsafe sums(of: outputs, rows: rows) { first, count, sums in
      let start = unsafe memory.assumingMemoryBound(to: UInt8.self) + normfold_packed_int8_size(first, inputCount)
      unsafe normfold_product_int8(Self.form, rows, count, inputCount, x, inputCount, start, sums, count)
    }
  }

  package func sums(of x: [Int16], rows: Int, outputs: Range<Int>) -> Sums {
    precondition(isWide)
    return unsafe sums(of: outputs, rows: rows) { first, count, sums in
      let start = unsafe memory.assumingMemoryBound(to: Int16.self) + normfold_packed_int16_size(first, inputCount)
      unsafe normfold_product_int16(Self.form, rows, count, inputCount, x, inputCount, start, sums, count)
    }
  }

  /// - Parameter multiply: computes the sums of outputs from the first of a panel on.
  @inline(__always)
  private func sums(
    of outputs: Range<Int>, rows: Int,
    _ multiply: (_ first: Int, _ count: Int, _ sums: UnsafeMutablePointer<Int32>?) -> Void
  ) -> Sums {
    let first = outputs.lowerBound / Self.panel * Self.panel
    let count = outputs.upperBound - first
    let sums = unsafe [Int32](unsafeUninitializedCapacity: rows * count) { sums, initialized in
      unsafe multiply(first, count, sums.baseAddress)
      initialized = rows * count
    }
    return (sums, outputs.lowerBound - first, count)
  }
}

extension UnsafeMutableBufferPointer<Double> {
  /// Integers in fewer bits, which hold them; nil where a number is NaN.
  @specialized(where Number == Int8)
  @specialized(where Number == Int16)
  func integers<Number: FixedWidthInteger>(as _: Number.Type) -> [Number]? {
    var notNumbers = 0
    let result = unsafe [Number](unsafeUninitializedCapacity: count) { numbers, initialized in
      for index in 0..<count {
        let number = unsafe self[index]
        // The lowest bits of 1.5 · 2^52 + x are those of x.
        unsafe numbers[index] = Number(truncatingIfNeeded: (number + 0x1.8p52).bitPattern)
        notNumbers &+= number == number ? 0 : 1
      }
      initialized = count
    }
    return notNumbers == 0 ? result : nil
  }
}
