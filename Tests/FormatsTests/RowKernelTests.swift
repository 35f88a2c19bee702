import CNormFoldKernels
import TestSupport
import Testing

/// The kernels over rows of doubles against plain loops, at all lengths that end within a vector and beyond one.
@Suite struct RowKernelTests {
  private static let lengths = Array(0...70) + [127, 128, 129, 1_000]

  private static func numbers(_ count: Int, seed: UInt64) -> [Double] {
    var random = SeededGenerator(seed: seed)
    return (0..<count).map { _ in .random(in: -2...2, using: &random) }
  }

  /// The sum in the order that the kernels have: lane by lane, halves of the lanes, then what is left.
  private static func sum(_ terms: [Double]) -> Double {
    let whole = terms.count / 16 * 16
    var sums = (0..<16).map { lane in stride(from: lane, to: whole, by: 16).reduce(0) { $0 + terms[$1] } }
    while sums.count > 1 { sums = (0..<sums.count / 2).map { sums[$0] + sums[sums.count / 2 + $0] } }
    return terms[whole...].reduce(sums[0], +)
  }

  @Test("One row by another, and by a number", arguments: lengths)
  func rows(count: Int) {
    let x = Self.numbers(count, seed: 1) + [7], y = Self.numbers(count, seed: 2)
    func found(_ kernel: (UnsafeMutablePointer<Double>?) -> Void) -> [Double] {
      var result = x
      result.withUnsafeMutableBufferPointer { kernel($0.baseAddress) }
      #expect(result[count] == 7)
      return Array(result[..<count])
    }
    #expect(found { normfold_multiply($0, y, count) } == zip(x, y).map { $0 * $1 })
    #expect(found { normfold_scale($0, count, 1.1) } == x[..<count].map { $0 * 1.1 })
    #expect(found { normfold_subtract($0, y, count) } == zip(x, y).map { $0 - $1 })
    #expect(found { normfold_shift($0, count, 0.3) } == x[..<count].map { $0 - 0.3 })
    #expect(normfold_sum(x, count) == Self.sum(Array(x[..<count])))
    #expect(normfold_sum_of_products(x, y, count) == Self.sum(zip(x, y).map { $0 * $1 }))
  }

  @Test("Rows are added up, each with its weight", arguments: [0, 1, 3, 4, 5, 8, 11])
  func weightedRows(rowCount: Int) {
    for count in Self.lengths {
      let x = Self.numbers(rowCount * count, seed: UInt64(count)), weights = Self.numbers(rowCount, seed: 3)
      let start = Self.numbers(count, seed: 4)
      var sums = start + [7]
      sums.withUnsafeMutableBufferPointer {
        normfold_add_weighted_rows(x, rowCount, count, weights, $0.baseAddress)
      }
      #expect(sums[count] == 7)
      let fours = rowCount / 4 * 4
      for column in 0..<count {
        func term(_ row: Int) -> Double { weights[row] * x[row * count + column] }
        var expected = start[column]
        for row in stride(from: 0, to: fours, by: 4) {
          expected += (term(row) + term(row + 1)) + (term(row + 2) + term(row + 3))
        }
        for row in fours..<rowCount { expected += term(row) }
        #expect(sums[column] == expected, "column \(column) of \(count)")
      }
    }
  }

  @Test("One number that is not finite is found, wherever it is", arguments: 1...70)
  func finite(count: Int) {
    for gap in 0..<4 {
      func isFinite<Bits: FixedWidthInteger>(_ bits: [Bits], _ kernel: (UnsafeRawPointer) -> Bool) -> Bool {
        let bytes = [UInt8](repeating: 0, count: gap) + bits.withUnsafeBytes(Array.init)
        return bytes.withUnsafeBytes { kernel($0.baseAddress! + gap) }
      }
      for place in 0..<count {
        var doubles = [Double](repeating: -.greatestFiniteMagnitude, count: count)
        var floats = [UInt32](repeating: 0xFF7F_FFFF, count: count)
        var halves = [UInt16](repeating: 0xFBFF, count: count), brains = [UInt16](repeating: 0xFF7F, count: count)
        func areFinite() -> [Bool] {
          [
            normfold_are_finite_double(doubles, count),
            isFinite(floats) { normfold_are_finite_32($0, count, 0x7F80_0000) },
            isFinite(halves) { normfold_are_finite_16($0, count, 0x7C00) },
            isFinite(brains) { normfold_are_finite_16($0, count, 0x7F80) },
          ]
        }
        #expect(areFinite() == [true, true, true, true])
        (doubles[place], floats[place], halves[place], brains[place]) = (.nan, 0x7F80_0001, 0x7C01, 0x7F81)
        #expect(areFinite() == [false, false, false, false])
        (doubles[place], floats[place], halves[place], brains[place]) = (-.infinity, 0xFF80_0000, 0xFC00, 0xFF80)
        #expect(areFinite() == [false, false, false, false])
      }
    }
  }

  @Test("Rows become columns", arguments: [0, 1, 7, 8, 9, 16, 17, 24, 33], [0, 1, 7, 8, 9, 16, 31, 40])
  func transposing(rowCount: Int, columnCount: Int) {
    let (stride, targetStride) = (columnCount + 3, rowCount + 2)
    for gap in 0..<4 {
      let floats = (0..<rowCount * stride).map { Float($0) * 1.1 }
      let bytes = [UInt8](repeating: 0, count: gap) + floats.withUnsafeBytes(Array.init) + [0]
      var y = [Double](repeating: 7, count: columnCount * targetStride + 1)
      bytes.withUnsafeBytes { bytes in
        y.withUnsafeMutableBufferPointer {
          normfold_transpose_f32_double(
            bytes.baseAddress! + gap, stride, rowCount, columnCount, $0.baseAddress, targetStride)
        }
      }
      var expected = [Double](repeating: 7, count: y.count)
      for row in 0..<rowCount {
        for column in 0..<columnCount { expected[column * targetStride + row] = Double(floats[row * stride + column]) }
      }
      #expect(y == expected)
    }
  }
}
