/// Some columns of every row of a matrix, one row a token, in the precision that they were computed in.
package struct MatrixRows: Sendable {
  private enum Numbers {
    case single(Matrix<Float>)
    case double(Matrix<Double>)
  }

  private let numbers: Numbers
  private let columns: Range<Int>

  /// - Parameter columns: nil for all.
  init<Scalar: ArithmeticScalar>(_ matrix: Matrix<Scalar>, columns: Range<Int>? = nil) {
    self.columns = columns ?? 0..<matrix.columnCount
    if let matrix = matrix as? Matrix<Float> {
      numbers = .single(matrix)
    } else if let matrix = matrix as? Matrix<Double> {
      numbers = .double(matrix)
    } else {
      preconditionFailure("no precision of ours")
    }
  }

  var columnCount: Int { columns.count }

  /// One row, valid as long as the matrix and `room`, in which it is where it had to be converted.
  package func row(_ index: Int, room: UnsafeMutableBufferPointer<Double>) -> UnsafeBufferPointer<Double> {
    switch numbers {
    case .double(let matrix): return UnsafeBufferPointer(rebasing: matrix.row(index)[columns])
    case .single(let matrix):
      let row = UnsafeBufferPointer(rebasing: matrix.row(index)[columns])
      for column in 0..<row.count { room[column] = Double(row[column]) }
      return UnsafeBufferPointer(rebasing: room[..<row.count])
    }
  }

  /// The largest |x| that is finite.
  func largestMagnitude(rows: Range<Int>) -> Double {
    withRoom { room in
      rows.reduce(0) { largest, index in
        row(index, room: room).reduce(largest) { $1.isFinite ? max($0, abs($1)) : $0 }
      }
    }
  }

  /// The largest |Δ| to as many rows of another matrix, where ours are finite; infinite where its are not.
  func largestDifference(rows: Range<Int>, from other: MatrixRows, rows otherRows: Range<Int>) -> Double {
    withRoom { room in
      withRoom { otherRoom in
        var largest = 0.0
        for (index, otherIndex) in zip(rows, otherRows) {
          let (mine, others) = (row(index, room: room), other.row(otherIndex, room: otherRoom))
          for column in 0..<mine.count where mine[column].isFinite {
            // `max` would lose a NaN.
            guard others[column].isFinite else { return .infinity }
            largest = max(largest, abs(mine[column] - others[column]))
          }
        }
        return largest
      }
    }
  }

  private func withRoom<Result>(_ body: (UnsafeMutableBufferPointer<Double>) -> Result) -> Result {
    withUnsafeTemporaryAllocation(of: Double.self, capacity: columnCount, body)
  }
}
