/// Some columns of every row of a matrix, one row a token, in the precision that they were computed in.
package struct MatrixRows: Sendable {
  private enum Numbers {
    case single(Matrix<Float>)
    case double(Matrix<Double>)
  }

  private let numbers: Numbers
  private let columns: Range<Int>

  /// - Parameter columns: nil for all.
  package init<Scalar: ArithmeticScalar>(_ matrix: Matrix<Scalar>, columns: Range<Int>? = nil) {
    self.columns = columns ?? 0..<matrix.columnCount
    if let matrix = matrix as? Matrix<Float> {
      numbers = .single(matrix)
    } else if let matrix = matrix as? Matrix<Double> {
      numbers = .double(matrix)
    } else {
      preconditionFailure("no precision of ours")
    }
  }

  package var columnCount: Int { columns.count }

  /// One row, valid as long as the matrix and `room`, in which it is where it had to be converted.
  package func row(_ index: Int, room: UnsafeMutableBufferPointer<Double>) -> UnsafeBufferPointer<Double> {
    switch numbers {
    case .double(let matrix): return unsafe UnsafeBufferPointer(rebasing: matrix.row(index)[columns])
    case .single(let matrix):
      let row = unsafe UnsafeBufferPointer(rebasing: matrix.row(index)[columns])
      for column in 0..<row.count { unsafe room[column] = unsafe Double(row[column]) }
      return unsafe UnsafeBufferPointer(rebasing: room[..<row.count])
    }
  }

  /// The largest |x| that is finite.
  package func largestMagnitude(rows: Range<Int>) -> Double {
    unsafe withRoom { room in
      rows.reduce(0) { largest, index in
        let row = unsafe row(index, room: room)
        let extremes = unsafe Extremes(of: row)
        if extremes.areFinite { return max(largest, extremes.largest, -extremes.smallest) }
        return unsafe row.reduce(largest) { $1.isFinite ? max($0, abs($1)) : $0 }
      }
    }
  }

  /// The largest |Δ| to as many rows of another matrix, where ours are finite; infinite where its are not.
  package func largestDifference(rows: Range<Int>, from other: MatrixRows, rows otherRows: Range<Int>) -> Double {
    unsafe withRoom { room in
      unsafe withRoom { otherRoom in
        zip(rows, otherRows).reduce(0) { largest, indices in
          let (mine, others) = unsafe (row(indices.0, room: room), other.row(indices.1, room: otherRoom))
          // In place of the others, where these had to be converted.
          let differences = unsafe UnsafeMutableBufferPointer(rebasing: otherRoom[..<mine.count])
          for column in 0..<mine.count { unsafe differences[column] = unsafe mine[column] - others[column] }
          let extremes = unsafe Extremes(of: UnsafeBufferPointer(differences))
          if extremes.areFinite { return max(largest, extremes.largest, -extremes.smallest) }
          return (0..<mine.count).reduce(largest) { largest, column in
            guard unsafe mine[column].isFinite else { return largest }
            // `max` would lose a NaN.
            return unsafe differences[column].isFinite ? max(largest, abs(differences[column])) : .infinity
          }
        }
      }
    }
  }

  private func withRoom<Result>(_ body: (UnsafeMutableBufferPointer<Double>) -> Result) -> Result {
    unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: columnCount, body)
  }
}
