import CNormFoldKernels
import NormFoldFormats

/// Reads the numbers of a ``Parameter``, any rectangle of it at a time, in double precision.
///
/// Made once for a parameter, it computes what the whole is needed for (means, vectors) in passes over blocks of rows;
/// after that, reading a rectangle touches only the stored elements that it needs. A vector is one row.
package struct ParameterReader: Sendable {
  package let rowCount: Int
  package let columnCount: Int
  /// The number of rows in a block, as ``forEachBlock(of:_:)`` reads them.
  package let rowsPerBlock: Int
  private let node: Node

  private indirect enum Node: Sendable {
    case stored(Tensor, columnCount: Int)
    case storedTransposed(Tensor, columnCount: Int)
    case constant(Double)
    case vector([Double])
    case offset(ParameterReader, row: Int, column: Int)
    case concatenation([ParameterReader], axis: Int)
    case scaled(ParameterReader, rows: [Double]?, columns: [Double]?)
    case minusColumnMeans(ParameterReader, [Double])
    /// With the means where they are needed more than once; nil where whole rows are read.
    case minusRowMeans(ParameterReader, [Double]?)
    case multiplied(ParameterReader, Double)
    case sum(ParameterReader, ParameterReader)
    case product(ParameterReader, ParameterReader)
    case reordered(ParameterReader, isRow: Bool, AxisOrder)
  }

  /// 256 KiB of Double: a block stays in a core's own cache between the steps of a recipe.
  package static let blockElementCount = 1 << 15

  /// Rows are read in multiples of so many where they run across stored rows, so that what is fetched of each stored row is
  /// used: a line of the cache holds 16 Floats.
  private static let rowsAcross = 16

  /// - Parameters:
  ///   - readsPartsOfRows: whether what belongs to whole rows, their means, is to be computed at once, since few columns
  ///     will be read at a time.
  ///   - workers: who shares the passes over the whole.
  package init(_ parameter: Parameter, readsPartsOfRows: Bool = false, workers: Workers = .one) {
    rowCount = parameter.rowCount
    columnCount = parameter.columnCount
    rowsPerBlock = Self.rowsPerBlock(of: parameter)
    node = Self.node(for: parameter, readsPartsOfRows, workers)
  }

  /// Returns the number of rows in a block of about ``blockElementCount`` elements.
  package static func rowsPerBlock(of parameter: Parameter) -> Int {
    let fitting = blockElementCount / max(1, parameter.columnCount)
    let whole = parameter.readsAcrossStoredRows ? max(1, fitting / rowsAcross) * rowsAcross : max(1, fitting)
    return min(whole, max(1, parameter.rowCount))
  }

  private static func node(for parameter: Parameter, _ readsPartsOfRows: Bool, _ workers: Workers) -> Node {
    func reader(_ inner: Parameter) -> ParameterReader {
      ParameterReader(inner, readsPartsOfRows: readsPartsOfRows, workers: workers)
    }
    switch parameter.expression {
    case .stored(let tensor): return .stored(tensor, columnCount: parameter.columnCount)
    case .constant(let value): return .constant(value)
    case .transposed(let inner):
      if case .stored(let tensor) = inner.expression {
        return .storedTransposed(tensor, columnCount: inner.columnCount)
      }
      guard case .product(let a, let b) = inner.expression else {
        preconditionFailure("not in normal form: \(parameter)")
      }
      return .product(reader(b.transposed()), reader(a.transposed()))
    case .slice(let inner, let axis, let range):
      let isRow = axis == 0 && inner.shape.count == 2
      return .offset(reader(inner), row: isRow ? range.lowerBound : 0, column: isRow ? 0 : range.lowerBound)
    case .concatenation(let parts, let axis):
      return .concatenation(parts.map(reader), axis: parameter.shape.count == 2 ? axis : 1)
    case .scaled(let inner, let by, let axis):
      let factors = reader(by).values()
      let isRow = axis == 0 && parameter.shape.count == 2
      return .scaled(reader(inner), rows: isRow ? factors : nil, columns: isRow ? nil : factors)
    case .multiplied(let inner, let factor): return .multiplied(reader(inner), factor)
    case .quotient(let a, let b):
      precondition(parameter.shape.count == 1)
      let divisors = reader(b).values()
      return .vector(zip(reader(a).values(), divisors).map { $0 / $1 })
    case .sum(let a, let b): return .sum(reader(a), reader(b))
    case .centred(let inner, let axis):
      let whole = reader(inner)
      let isColumn = axis == 0 && parameter.shape.count == 2
      if isColumn {
        // The same means, along rows as they are stored.
        let means =
          inner.readsAcrossStoredRows
          ? reader(inner.transposed()).rowMeans(by: workers) : whole.columnMeans(by: workers)
        return .minusColumnMeans(whole, means)
      }
      // A wide matrix, an unembedding, is read in parts of its rows.
      guard readsPartsOfRows || whole.columnCount > whole.rowCount else { return .minusRowMeans(whole, nil) }
      let means =
        inner.readsAcrossStoredRows
        ? reader(inner.transposed()).columnMeans(by: workers) : whole.rowMeans(by: workers)
      return .minusRowMeans(whole, means)
    case .compressed(let inner, let axis):
      // As with means: a vector is subtracted from every row, or a number from each.
      let rest = reader(inner.sliced(axis: axis, 0..<inner.shape[axis] - 1))
      let last = reader(inner.sliced(axis: axis, inner.shape[axis] - 1..<inner.shape[axis])).values()
      let isColumn = axis == 0 && parameter.shape.count == 2
      return isColumn ? .minusColumnMeans(rest, last) : .minusRowMeans(rest, last)
    case .projection(let vector, let matrix):
      return .vector(projection(of: reader(vector).values(), through: matrix, by: workers))
    case .product(let a, let b): return .product(reader(a), reader(b))
    case .reordered(let inner, let axis, let order):
      return .reordered(reader(inner), isRow: axis == 0 && parameter.shape.count == 2, order)
    }
  }

  // MARK: Reading

  /// All values, row-major.
  package func values() -> [Double] { values(rows: 0..<rowCount, columns: 0..<columnCount) }

  /// The values of a rectangle, row-major.
  package func values(rows: Range<Int>, columns: Range<Int>) -> [Double] {
    // An array without elements is one object for all threads, and the initializer below writes a count into it.
    guard !rows.isEmpty, !columns.isEmpty else { return [] }
    return unsafe [Double](unsafeUninitializedCapacity: rows.count * columns.count) { buffer, count in
      unsafe read(rows: rows, columns: columns, into: buffer)
      count = rows.count * columns.count
    }
  }

  /// Calls `body` with each block of whole rows, in order.
  /// - Parameter wanted: the rows; nil for all.
  package func forEachBlock<Failure: Error>(
    of wanted: Range<Int>? = nil,
    _ body: (_ rows: Range<Int>, _ values: UnsafeMutableBufferPointer<Double>) throws(Failure) -> Void
  ) throws(Failure) {
    let step = rowsPerBlock
    let wanted = wanted ?? 0..<rowCount
    let storage = UnsafeMutableBufferPointer<Double>.allocate(capacity: step * columnCount)
    defer { unsafe storage.deallocate() }
    for start in stride(from: wanted.lowerBound, to: wanted.upperBound, by: step) {
      let rows = start..<min(start + step, wanted.upperBound)
      let block = unsafe UnsafeMutableBufferPointer(rebasing: storage[..<(rows.count * columnCount)])
      unsafe read(rows: rows, columns: 0..<columnCount, into: block)
      try unsafe body(rows, block)
    }
  }

  /// Reads a rectangle to `destination`, row-major and dense.
  package func read(rows: Range<Int>, columns: Range<Int>, into destination: UnsafeMutableBufferPointer<Double>) {
    precondition(destination.count >= rows.count * columns.count)
    guard let target = destination.baseAddress, !rows.isEmpty, !columns.isEmpty else { return }
    unsafe read(rows: rows, columns: columns, into: target, rowStride: columns.count)
  }

  private func read(rows: Range<Int>, columns: Range<Int>, into target: UnsafeMutablePointer<Double>, rowStride: Int) {
    switch node {
    case .stored(let tensor, let storedColumnCount):
      unsafe Self.read(tensor, storedColumnCount, rows, columns, into: target, rowStride: rowStride)
    case .storedTransposed(let tensor, let storedColumnCount):
      unsafe Self.readAcross(tensor, storedColumnCount, rows, columns, into: target, rowStride: rowStride)
    case .constant(let value):
      for row in 0..<rows.count {
        unsafe (target + row * rowStride).update(repeating: value, count: columns.count)
      }
    case .vector(let values):
      for (position, column) in columns.enumerated() { unsafe target[position] = values[column] }
    case .offset(let inner, let row, let column):
      unsafe inner.read(
        rows: rows.lowerBound + row..<rows.upperBound + row,
        columns: columns.lowerBound + column..<columns.upperBound + column,
        into: target, rowStride: rowStride)
    case .concatenation(let parts, let axis):
      unsafe Self.read(parts, axis, rows, columns, into: target, rowStride: rowStride)
    case .scaled(let inner, let rowFactors, let columnFactors):
      unsafe inner.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      for (position, row) in rows.enumerated() {
        let line = unsafe target + position * rowStride
        if let rowFactors {
          unsafe normfold_scale(line, columns.count, rowFactors[row])
        } else if let columnFactors {
          unsafe columnFactors[columns].withUnsafeBufferPointer { factors in
            unsafe normfold_multiply(line, factors.baseAddress, columns.count)
          }
        }
      }
    case .minusColumnMeans(let inner, let means):
      unsafe inner.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      unsafe means[columns].withUnsafeBufferPointer { means in
        for row in 0..<rows.count {
          unsafe normfold_subtract(target + row * rowStride, means.baseAddress, columns.count)
        }
      }
    case .minusRowMeans(let inner, .some(let means)):
      unsafe inner.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      for (position, row) in rows.enumerated() {
        unsafe normfold_shift(target + position * rowStride, columns.count, means[row])
      }
    case .minusRowMeans(let inner, nil):
      unsafe Self.readCentred(inner, rows, columns, into: target, rowStride: rowStride)
    case .multiplied(let inner, let factor):
      unsafe inner.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      for row in 0..<rows.count {
        unsafe normfold_scale(target + row * rowStride, columns.count, factor)
      }
    case .sum(let a, let b):
      unsafe a.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      let other = UnsafeMutableBufferPointer<Double>.allocate(capacity: rows.count * columns.count)
      defer { unsafe other.deallocate() }
      unsafe b.read(rows: rows, columns: columns, into: other)
      for row in 0..<rows.count {
        for column in 0..<columns.count {
          unsafe target[row * rowStride + column] += other[row * columns.count + column]
        }
      }
    case .product(let a, let b):
      unsafe Self.readProduct(a, b, rows, columns, into: target, rowStride: rowStride)
    case .reordered(let inner, isRow: true, let order):
      for (position, row) in rows.enumerated() {
        let origin = order.origin(of: row)
        unsafe inner.read(
          rows: origin..<origin + 1, columns: columns, into: target + position * rowStride, rowStride: rowStride)
      }
    case .reordered(let inner, isRow: false, let order):
      unsafe Self.readReordered(inner, order, rows, columns, into: target, rowStride: rowStride)
    }
  }

  /// Columns in another order: whole rows are read, then picked from.
  private static func readReordered(
    _ inner: ParameterReader, _ order: AxisOrder, _ rows: Range<Int>, _ columns: Range<Int>,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    let width = inner.columnCount
    let block = UnsafeMutableBufferPointer<Double>.allocate(capacity: rows.count * width)
    defer { unsafe block.deallocate() }
    unsafe inner.read(rows: rows, columns: 0..<width, into: block)
    for (position, column) in columns.enumerated() {
      let origin = order.origin(of: column)
      for row in 0..<rows.count { unsafe target[row * rowStride + position] = block[row * width + origin] }
    }
  }

  private static func read(
    _ tensor: Tensor, _ storedColumnCount: Int, _ rows: Range<Int>, _ columns: Range<Int>,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    if columns.count == storedColumnCount && rowStride == columns.count {
      let all = unsafe UnsafeMutableBufferPointer(start: target, count: rows.count * columns.count)
      return unsafe tensor.decode(rows.lowerBound * storedColumnCount..<rows.upperBound * storedColumnCount, into: all)
    }
    for (position, row) in rows.enumerated() {
      let line = unsafe UnsafeMutableBufferPointer(start: target + position * rowStride, count: columns.count)
      let start = row * storedColumnCount
      unsafe tensor.decode(start + columns.lowerBound..<start + columns.upperBound, into: line)
    }
  }

  private static func read(
    _ parts: [ParameterReader], _ axis: Int, _ rows: Range<Int>, _ columns: Range<Int>,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    var start = 0
    for part in parts {
      let wanted = axis == 0 ? rows : columns
      let extent = axis == 0 ? part.rowCount : part.columnCount
      let overlap = wanted.clamped(to: start..<start + extent)
      if !overlap.isEmpty {
        let local = overlap.lowerBound - start..<overlap.upperBound - start
        let skipped = overlap.lowerBound - wanted.lowerBound
        unsafe part.read(
          rows: axis == 0 ? local : rows, columns: axis == 0 ? columns : local,
          into: target + (axis == 0 ? skipped * rowStride : skipped), rowStride: rowStride)
      }
      start += extent
    }
  }

  private static func readCentred(
    _ inner: ParameterReader, _ rows: Range<Int>, _ columns: Range<Int>, into target: UnsafeMutablePointer<Double>,
    rowStride: Int
  ) {
    let width = inner.columnCount
    guard columns.count < width else {
      unsafe inner.read(rows: rows, columns: columns, into: target, rowStride: rowStride)
      for row in 0..<rows.count {
        unsafe centre(UnsafeMutableBufferPointer(start: target + row * rowStride, count: width))
      }
      return
    }
    // A part of a row needs the mean of the whole row.
    let line = UnsafeMutableBufferPointer<Double>.allocate(capacity: width)
    defer { unsafe line.deallocate() }
    for (position, row) in rows.enumerated() {
      unsafe inner.read(rows: row..<row + 1, columns: 0..<width, into: line)
      unsafe centre(line)
      for (index, column) in columns.enumerated() { unsafe target[position * rowStride + index] = line[column] }
    }
  }

  private static func centre(_ line: UnsafeMutableBufferPointer<Double>) {
    let mean = UnsafeBufferPointer(line).sum / Double(line.count)
    unsafe normfold_shift(line.baseAddress, line.count, mean)
  }

  /// Rows of `a` times the wanted columns of `b`; the inner extent is small (the rank of an adapter).
  private static func readProduct(
    _ a: ParameterReader, _ b: ParameterReader, _ rows: Range<Int>, _ columns: Range<Int>,
    into target: UnsafeMutablePointer<Double>, rowStride: Int
  ) {
    let rank = a.columnCount
    let left = UnsafeMutableBufferPointer<Double>.allocate(capacity: rows.count * rank)
    let right = UnsafeMutableBufferPointer<Double>.allocate(capacity: rank * columns.count)
    defer {
      unsafe left.deallocate()
      unsafe right.deallocate()
    }
    unsafe a.read(rows: rows, columns: 0..<rank, into: left)
    unsafe b.read(rows: 0..<rank, columns: columns, into: right)
    for row in 0..<rows.count {
      let line = unsafe target + row * rowStride
      unsafe line.update(repeating: 0, count: columns.count)
      for inner in 0..<rank {
        let factor = unsafe left[row * rank + inner]
        for column in 0..<columns.count { unsafe line[column] += factor * right[inner * columns.count + column] }
      }
    }
  }
}
