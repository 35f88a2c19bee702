/// Activations, row-major [rows, columns]: one row a token. Written once, by the operation that makes it.
package final class Matrix<Scalar: ArithmeticScalar>: @unchecked Sendable {
  package let rowCount: Int
  package let columnCount: Int
  /// Valid as long as the matrix: whoever uses it holds on to the matrix meanwhile.
  package let start: UnsafeMutablePointer<Scalar>

  /// Uninitialised.
  package init(rows: Int, columns: Int) {
    rowCount = rows
    columnCount = columns
    start = .allocate(capacity: rows * columns)
  }

  deinit { start.deallocate() }

  package var values: UnsafeMutableBufferPointer<Scalar> {
    UnsafeMutableBufferPointer(start: start, count: rowCount * columnCount)
  }

  package func row(_ index: Int) -> UnsafeMutableBufferPointer<Scalar> {
    UnsafeMutableBufferPointer(start: start + index * columnCount, count: columnCount)
  }

  /// All values as they lie.
  package var array: [Scalar] { withExtendedLifetime(self) { Array(values) } }

  /// All values as they lie, in double precision.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func doubles() -> [Double] {
    // An array without elements is one object for all threads, and the initializer below writes a count into it.
    guard !values.isEmpty else { return [] }
    return withExtendedLifetime(self) {
      [Double](unsafeUninitializedCapacity: values.count) { buffer, count in
        for index in 0..<values.count { buffer[index] = Double(values[index]) }
        count = values.count
      }
    }
  }
}
