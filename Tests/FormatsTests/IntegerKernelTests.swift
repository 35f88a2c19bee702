import CNormFoldKernels
import Testing

/// The products of integers of 8 and of 16 bits in C against plain loops, with each set of instructions that the machine has: numbers of rows that
/// end within a tile, columns within a panel, depths within a group, matrices at any byte and with gaps between their rows.
@Suite struct IntegerKernelTests {
  private static let forms = [
    NORMFOLD_PLAIN, NORMFOLD_AVX2, NORMFOLD_AVX_VNNI, NORMFOLD_AVX512_VNNI,
  ].filter { normfold_has_form($0) }.map(\.rawValue)

  private static func product(
    _ form: UInt32, _ m: Int, _ n: Int, _ k: Int, isTransposed: Bool, gap: Int, _ number: () -> Int8
  ) -> (found: [Int32], expected: [Int32]) {
    let (strideX, strideC) = (k + gap, n + 2)
    let x = (0..<gap + m * strideX).map { _ in number() }
    let (rows, columns) = isTransposed ? (n, k) : (k, n)
    let w = (0..<gap + rows * columns).map { _ in number() }
    // What lies between the rows is not to change.
    var found = [Int32](repeating: 77, count: m * strideC)
    var expected = found
    var packed = [UInt8](repeating: 9, count: normfold_packed_int8_size(n, k) + 1)
    // In two parts, as the blocks of a reader are.
    let half = rows / 2
    packed.withUnsafeMutableBufferPointer { packed in
      w.withUnsafeBufferPointer { w in
        for (start, count) in [(0, half), (half, rows - half)] {
          normfold_pack_int8(
            isTransposed ? count : n, isTransposed ? k : count, w.baseAddress.map { $0 + gap + start * columns },
            isTransposed ? k : 1, isTransposed ? 1 : n, isTransposed ? start : 0, isTransposed ? 0 : start, k,
            packed.baseAddress.map { $0 + 1 })
        }
        x.withUnsafeBufferPointer { x in
          normfold_product_int8(
            normfold_integer_form(rawValue: form), m, n, k, x.baseAddress.map { $0 + gap }, strideX,
            packed.baseAddress.map { $0 + 1 }, &found, strideC)
        }
      }
    }
    for row in 0..<m {
      for column in 0..<n {
        var sum = 0
        for step in 0..<k {
          let weight = w[gap + (isTransposed ? column * k + step : step * n + column)]
          sum += Int(x[gap + row * strideX + step]) * Int(weight)
        }
        expected[row * strideC + column] = Int32(sum)
      }
    }
    return (found, expected)
  }

  @Test("A product of bytes is the sum of products, with all instructions", arguments: forms)
  func product(form: UInt32) {
    var state: UInt64 = 3
    func number() -> Int8 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int8(truncatingIfNeeded: state >> 40)
    }
    for m in 1...13 {
      for n in [1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 130] {
        for k in [1, 2, 3, 4, 5, 7, 8, 33, 64] {
          let (found, expected) = Self.product(
            form, m, n, k, isTransposed: (m + n + k) % 2 == 0, gap: (m * n + k) % 5, number)
          #expect(found == expected, "m \(m), n \(n), k \(k)")
        }
      }
    }
  }

  @Test("Sums of the largest numbers are exact up to the greatest depth", arguments: forms)
  func extremes(form: UInt32) {
    for (k, numbers) in [(131_071, [Int8(-128)]), (131_072, [-127, 127]), (4_099, [-128, 127, 127])] {
      var index = 0
      let (found, expected) = Self.product(form, 2, 17, k, isTransposed: true, gap: 1) {
        index += 1
        return numbers[index % numbers.count]
      }
      #expect(found == expected, "k \(k)")
    }
  }

  private static func wideProduct(
    _ form: UInt32, _ m: Int, _ n: Int, _ k: Int, isTransposed: Bool, gap: Int, _ number: () -> Int16
  ) -> (found: [Int32], expected: [Int32]) {
    let (strideX, strideC) = (k + gap, n + 2)
    let x = (0..<gap + m * strideX).map { _ in number() }
    let (rows, columns) = isTransposed ? (n, k) : (k, n)
    let w = (0..<gap + rows * columns).map { _ in number() }
    // What lies between the rows is not to change.
    var found = [Int32](repeating: 77, count: m * strideC)
    var expected = found
    var packed = [Int16](repeating: 9, count: normfold_packed_int16_size(n, k) + 1)
    // In two parts, as the blocks of a reader are.
    let half = rows / 2
    packed.withUnsafeMutableBufferPointer { packed in
      w.withUnsafeBufferPointer { w in
        for (start, count) in [(0, half), (half, rows - half)] {
          normfold_pack_int16(
            isTransposed ? count : n, isTransposed ? k : count, w.baseAddress.map { $0 + gap + start * columns },
            isTransposed ? k : 1, isTransposed ? 1 : n, isTransposed ? start : 0, isTransposed ? 0 : start, k,
            packed.baseAddress.map { $0 + 1 })
        }
        x.withUnsafeBufferPointer { x in
          normfold_product_int16(
            normfold_integer_form(rawValue: form), m, n, k, x.baseAddress.map { $0 + gap }, strideX,
            packed.baseAddress.map { $0 + 1 }, &found, strideC)
        }
      }
    }
    for row in 0..<m {
      for column in 0..<n {
        var sum = 0
        for step in 0..<k {
          let weight = w[gap + (isTransposed ? column * k + step : step * n + column)]
          sum += Int(x[gap + row * strideX + step]) * Int(weight)
        }
        expected[row * strideC + column] = Int32(sum)
      }
    }
    return (found, expected)
  }

  @Test("A product of 16-bit integers is the sum of products, with all instructions", arguments: forms)
  func wideProduct(form: UInt32) {
    var state: UInt64 = 3
    func number() -> Int16 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int16(truncatingIfNeeded: state >> 40) >> 3
    }
    for m in 1...13 {
      for n in [1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 130] {
        for k in [1, 2, 3, 4, 5, 7, 8, 33, 64] {
          let (found, expected) = Self.wideProduct(
            form, m, n, k, isTransposed: (m + n + k) % 2 == 0, gap: (m * n + k) % 5, number)
          #expect(found == expected, "m \(m), n \(n), k \(k)")
        }
      }
    }
  }

  @Test("Sums of the largest numbers of 16 bits are exact up to the greatest depth", arguments: forms)
  func wideExtremes(form: UInt32) {
    for (k, numbers) in [(2, [Int16(32_767)]), (1, [-32_768]), (511, [2_047, -2_047]), (8_192, [511, 512])] {
      var index = 0
      let (found, expected) = Self.wideProduct(form, 2, 17, k, isTransposed: true, gap: 1) {
        index += 1
        return numbers[index % numbers.count]
      }
      #expect(found == expected, "k \(k)")
    }
  }
}
