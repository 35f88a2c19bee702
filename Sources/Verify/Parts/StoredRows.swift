import NormFoldFormats
import NormFoldNetworks

/// The rows of a matrix: in place where they are stored as Floats, decoded otherwise.
struct StoredRows: Sendable {
  private let reader: ParameterReader
  /// The matrix in its file, where it is nothing but Floats row by row.
  private let view: StoredView?

  init(_ matrix: Parameter) {
    reader = ParameterReader(matrix)
    view = matrix.storedView.flatMap {
      !$0.isTransposed && $0.tensor.info.type == .f32 && $0.tensor.isContiguous ? $0 : nil
    }
  }

  func values(row: Int, columns: Range<Int>) -> [Double] { reader.values(rows: row..<row + 1, columns: columns) }

  /// Calls `body` with each row, as Floats or as Doubles, and with that of another matrix, both of one kind. A row may begin
  /// at any byte. Without another matrix, the second pointer is the first.
  func forEachRow(
    with other: StoredRows?, rows: Range<Int>, columns: Range<Int>,
    _ body: (_ row: Int, _ isFloat: Bool, UnsafeRawPointer, UnsafeRawPointer) -> Void
  ) {
    if let view, let theirs = other == nil ? view : other?.view {
      unsafe view.withRows { mine in
        unsafe theirs.withRows { found in
          for row in rows {
            unsafe body(
              row, true, mine + (row * view.leadingDimension + columns.lowerBound) * 4,
              found + (row * theirs.leadingDimension + columns.lowerBound) * 4)
          }
        }
      }
      return
    }
    // As many as ParameterReader reads of a matrix.
    let rowsPerBlock = max(1, ParameterReader.blockElementCount / max(1, columns.count) / 16) * 16
    let capacity = rowsPerBlock * columns.count
    unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: (other == nil ? 1 : 2) * capacity) { all in
      let mine = unsafe UnsafeMutableBufferPointer(rebasing: all[..<capacity])
      let found = unsafe other == nil ? mine : UnsafeMutableBufferPointer(rebasing: all[capacity...])
      guard let first = mine.baseAddress, let second = found.baseAddress else { return }
      for start in stride(from: rows.lowerBound, to: rows.upperBound, by: rowsPerBlock) {
        let block = start..<min(start + rowsPerBlock, rows.upperBound)
        unsafe reader.read(rows: block, columns: columns, into: mine)
        unsafe other?.reader.read(rows: block, columns: columns, into: found)
        for row in block {
          let offset = (row - start) * columns.count
          unsafe body(row, false, UnsafeRawPointer(first + offset), UnsafeRawPointer(second + offset))
        }
      }
    }
  }
}

extension StoredView {
  /// Lends the bytes from row 0, column 0 on.
  fileprivate func withRows(_ body: (UnsafeRawPointer) -> Void) {
    tensor.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { all in
        if let start = all.baseAddress { unsafe body(start + elementOffset * 4) }
      }
    }
  }
}
