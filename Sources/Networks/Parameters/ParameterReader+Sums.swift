/// Passes over the whole matrix.
extension ParameterReader {
  /// The mean of each column over all rows, summed in double precision.
  func columnMeans() -> [Double] { columnSums().map { $0 / Double(rowCount) } }

  /// Each column's sum over all rows, row i times element i of a vector, if there is one.
  private func columnSums(weighing weights: [Double]? = nil) -> [Double] {
    var sums = [Double](repeating: 0, count: columnCount)
    unsafe forEachBlock { rows, values in
      unsafe sums.withUnsafeMutableBufferPointer { sums in
        guard let sums = sums.baseAddress, var line = unsafe UnsafePointer(values.baseAddress) else { return }
        var row = rows.lowerBound
        // Four at a time, so that the sums are fetched a quarter as often.
        while row + 4 <= rows.upperBound {
          let (a, b, c, d) = weights.map { ($0[row], $0[row + 1], $0[row + 2], $0[row + 3]) } ?? (1, 1, 1, 1)
          let (second, third, fourth) = unsafe (line + columnCount, line + 2 * columnCount, line + 3 * columnCount)
          for column in 0..<columnCount {
            unsafe sums[column] += (a * line[column] + b * second[column]) + (c * third[column] + d * fourth[column])
          }
          unsafe line += 4 * columnCount
          row += 4
        }
        for row in row..<rows.upperBound {
          let weight = weights?[row] ?? 1
          for column in 0..<columnCount { unsafe sums[column] += weight * line[column] }
          unsafe line += columnCount
        }
      }
    }
    return sums
  }

  /// The mean of each row over all columns, summed in double precision.
  func rowMeans() -> [Double] {
    var means: [Double] = []
    means.reserveCapacity(rowCount)
    unsafe forEachBlock { rows, values in
      for row in 0..<rows.count {
        let line = unsafe UnsafeBufferPointer(rebasing: values[row * columnCount..<(row + 1) * columnCount])
        means.append(unsafe line.sum / Double(columnCount))
      }
    }
    return means
  }

  static func projection(of vector: [Double], through matrix: Parameter) -> [Double] {
    guard case .transposed = matrix.expression else { return ParameterReader(matrix).columnSums(weighing: vector) }
    // Stored row by row, the matrix is read along its columns: one dot product each.
    var result = [Double](repeating: 0, count: matrix.columnCount)
    let reader = ParameterReader(matrix.transposed())
    let width = reader.columnCount
    unsafe reader.forEachBlock { rows, values in
      unsafe vector.withUnsafeBufferPointer { vector in
        for (position, row) in rows.enumerated() {
          let line = unsafe UnsafeBufferPointer(rebasing: values[position * width..<(position + 1) * width])
          result[row] = unsafe line.product(with: vector)
        }
      }
    }
    return result
  }
}
