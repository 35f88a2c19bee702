import CNormFoldKernels
import Testing

/// The product of few rows in C against plain loops: all counts of rows of a group and beyond one, columns and depths that end within
/// a vector, weights at any byte and with gaps between their rows.
@Suite struct ProductKernelTests {
  private static let sizes = [1, 2, 15, 16, 17, 31, 33, 127, 128, 129, 260]

  @Test("A product of few rows is the sum of products, however the weight lies", arguments: 1...17)
  func product(rows m: Int) {
    var state: UInt64 = UInt64(m)
    func number() -> Double {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Double(Int(state >> 40) % 2_001 - 1_000) / 256
    }
    for (place, n) in Self.sizes.enumerated() {
      for k in [1, Self.sizes[(place + 3) % Self.sizes.count], Self.sizes[(place * 7 + m) % Self.sizes.count]] {
        for isTransposed in [false, true] {
          let (outer, inner) = isTransposed ? (n, k) : (k, n)
          let (strideX, strideW, strideC, gap) = (k + 3, inner + 5, n + 2, 1 + m % 4)
          let x = (0..<m * strideX).map { _ in number() }
          let weights = (0..<outer * strideW).map { _ in Float(number()) }
          let start = (0..<m * strideC).map { _ in number() }
          var bytes = [UInt8](repeating: 0, count: gap + 4 * weights.count)
          bytes.withUnsafeMutableBytes { bytes in
            for (index, weight) in weights.enumerated() {
              bytes.storeBytes(of: weight, toByteOffset: gap + 4 * index, as: Float.self)
            }
          }
          var found = start
          bytes.withUnsafeBytes { raw in
            let w = raw.baseAddress.map { ($0 + gap).assumingMemoryBound(to: Float.self) }
            found.withUnsafeMutableBufferPointer { c in
              normfold_product(m, n, k, x, strideX, w, strideW, isTransposed, c.baseAddress, strideC)
            }
          }
          var expected = start
          for row in 0..<m {
            for column in 0..<n {
              for step in 0..<k {
                let weight = weights[isTransposed ? column * strideW + step : step * strideW + column]
                expected[row * strideC + column] += x[row * strideX + step] * Double(weight)
              }
            }
          }
          // The numbers are multiples of 2⁻⁸ below 4, so that every sum of their products is exact in any order.
          #expect(found == expected, "n \(n), k \(k), transposed \(isTransposed)")
        }
      }
    }
  }

  @Test(
    "The product of one row is the sum of products, however the weight lies, and each output the same whichever are asked for"
  )
  func row() {
    var state: UInt64 = 7
    func number() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(Int(state >> 40) % 2_001 - 1_000) / 256
    }
    for n in Self.sizes {
      for k in [1, 7, 8, 9, 63, 64, 65, 130, 200] {
        for isTransposed in [false, true] {
          let (outer, inner) = isTransposed ? (n, k) : (k, n)
          let (strideW, gap) = (inner + 5, 1 + n % 4)
          let x = (0..<k).map { _ in number() }
          let weights = (0..<outer * strideW).map { _ in number() }
          let start = (0..<n).map { _ in number() }
          var bytes = [UInt8](repeating: 0, count: gap + 4 * weights.count)
          bytes.withUnsafeMutableBytes { bytes in
            for (index, weight) in weights.enumerated() {
              bytes.storeBytes(of: weight, toByteOffset: gap + 4 * index, as: Float.self)
            }
          }
          func product(of outputs: Range<Int>) -> [Float] {
            var sums = Array(start[outputs])
            bytes.withUnsafeBytes { raw in
              let first = isTransposed ? outputs.lowerBound * strideW : outputs.lowerBound
              let w = raw.baseAddress.map { ($0 + gap + 4 * first).assumingMemoryBound(to: Float.self) }
              sums.withUnsafeMutableBufferPointer { c in
                normfold_row_product(outputs.count, k, x, w, strideW, isTransposed, c.baseAddress)
              }
            }
            return sums
          }
          let found = product(of: 0..<n)
          for column in 0..<n {
            var (expected, magnitude) = (Double(start[column]), Double(abs(start[column])))
            for step in 0..<k {
              let term =
                Double(x[step]) * Double(weights[isTransposed ? column * strideW + step : step * strideW + column])
              expected += term
              magnitude += abs(term)
            }
            // A sum of k + 1 terms in single precision.
            #expect(abs(Double(found[column]) - expected) <= Double(k + 1) * 0x1p-24 * magnitude)
          }
          for middle in [0, 1, 16, n / 2] where middle <= n {
            let parts = product(of: 0..<middle) + product(of: middle..<n)
            #expect(
              parts.map(\.bitPattern) == found.map(\.bitPattern), "n \(n), k \(k), \(isTransposed), cut at \(middle)")
          }
        }
      }
    }
  }
}
