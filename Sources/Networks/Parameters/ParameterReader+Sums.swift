import CNormFoldKernels
import NormFoldFormats

/// Passes over the whole matrix, in parts that several threads share. Where it is cut does not depend on how many they are.
extension ParameterReader {
  /// Numbers of a part: 1 MB of Double.
  private static let partElementCount = 1 << 17

  /// Calls `body` with each part of the rows, and returns the results in order.
  private func byPart<Result: Sendable>(_ workers: Workers, _ body: @Sendable (Range<Int>) -> Result) -> [Result] {
    let size = max(1, Self.partElementCount / max(1, columnCount) / rowsPerBlock) * rowsPerBlock
    let results = (0..<(rowCount + size - 1) / size).map { _ in Part<Result>() }
    workers.forEach(results.count) { part in
      results[part].result = body(part * size..<min((part + 1) * size, rowCount))
    }
    return results.compactMap(\.result)
  }

  /// The mean of each column over all rows, summed in double precision.
  func columnMeans(by workers: Workers) -> [Double] { columnSums(by: workers).map { $0 / Double(rowCount) } }

  /// Each column's sum over all rows, row i times element i of a vector, if there is one.
  private func columnSums(weighing weights: [Double]? = nil, by workers: Workers) -> [Double] {
    let parts = byPart(workers) { columnSums(of: $0, weighing: weights) }
    guard var sums = parts.first else { return [Double](repeating: 0, count: columnCount) }
    for part in parts.dropFirst() { for column in 0..<columnCount { sums[column] += part[column] } }
    return sums
  }

  private func columnSums(of wanted: Range<Int>, weighing weights: [Double]?) -> [Double] {
    var sums = [Double](repeating: 0, count: columnCount)
    let ones = weights == nil ? [Double](repeating: 1, count: rowsPerBlock) : []
    unsafe forEachBlock(of: wanted) { rows, values in
      let weights = weights?[rows] ?? ones[..<rows.count]
      unsafe weights.withUnsafeBufferPointer { weights in
        unsafe normfold_add_weighted_rows(values.baseAddress, rows.count, columnCount, weights.baseAddress, &sums)
      }
    }
    return sums
  }

  /// The mean of each row over all columns, summed in double precision.
  func rowMeans(by workers: Workers) -> [Double] {
    unsafe byRow(workers) { line in unsafe line.sum / Double(line.count) }
  }

  /// Returns the result of `body` for each row.
  private func byRow(_ workers: Workers, _ body: @Sendable (UnsafeBufferPointer<Double>) -> Double) -> [Double] {
    let width = columnCount
    return byPart(workers) { wanted in
      var results: [Double] = []
      results.reserveCapacity(wanted.count)
      unsafe forEachBlock(of: wanted) { rows, values in
        for row in 0..<rows.count {
          results.append(unsafe body(UnsafeBufferPointer(rebasing: values[row * width..<(row + 1) * width])))
        }
      }
      return results
    }.flatMap(\.self)
  }

  /// vᵀW of a matrix W.
  static func projection(of vector: [Double], through matrix: Parameter, by workers: Workers) -> [Double] {
    guard case .transposed = matrix.expression else {
      return ParameterReader(matrix, workers: workers).columnSums(weighing: vector, by: workers)
    }
    // Stored row by row, the matrix is read along its columns: one dot product each.
    return unsafe ParameterReader(matrix.transposed(), workers: workers).byRow(workers) { line in
      unsafe vector.withUnsafeBufferPointer { unsafe line.product(with: $0) }
    }
  }
}

/// The result of one task. The task sets it, and it is read after all tasks have ended.
private final class Part<Result>: @unchecked Sendable {
  var result: Result?
}
