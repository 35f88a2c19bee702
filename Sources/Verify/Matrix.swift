/// Activations, row-major [rows, columns]: one row a token. Written once, by the operation that makes it.
package final class Matrix<Scalar: ArithmeticScalar>: @unchecked Sendable {
  package let rowCount: Int
  package let columnCount: Int
  let values: UnsafeMutableBufferPointer<Scalar>

  /// Uninitialised.
  init(rows: Int, columns: Int) {
    rowCount = rows
    columnCount = columns
    values = .allocate(capacity: rows * columns)
  }

  deinit { values.deallocate() }

  func row(_ index: Int) -> UnsafeMutableBufferPointer<Scalar> {
    UnsafeMutableBufferPointer(rebasing: values[index * columnCount..<(index + 1) * columnCount])
  }

  /// All values as they lie.
  package var array: [Scalar] { Array(values) }
}
