import Glibc

/// Activations, row-major [rows, columns]: one row a token. Written once, by the operation that makes it.
@safe package final class Matrix<Scalar: ArithmeticScalar>: @unchecked Sendable {
  package let rowCount: Int
  package let columnCount: Int
  /// Valid as long as the matrix: whoever uses it holds on to the matrix meanwhile.
  package let start: UnsafeMutablePointer<Scalar>

  /// Uninitialised.
  package init(rows: Int, columns: Int) {
    rowCount = rows
    columnCount = columns
    unsafe start = .allocate(inLargePages: rows * columns)
  }

  deinit { unsafe start.deallocate() }

  package var values: UnsafeMutableBufferPointer<Scalar> {
    unsafe UnsafeMutableBufferPointer(start: start, count: rowCount * columnCount)
  }

  package func row(_ index: Int) -> UnsafeMutableBufferPointer<Scalar> {
    unsafe UnsafeMutableBufferPointer(start: start + index * columnCount, count: columnCount)
  }

  /// All values as they lie.
  package var array: [Scalar] { withExtendedLifetime(self) { unsafe Array(values) } }

  /// All values as they lie, in double precision.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func doubles() -> [Double] {
    // An array without elements is one object for all threads, and the initializer below writes a count into it.
    guard unsafe !values.isEmpty else { return [] }
    return withExtendedLifetime(self) {
      unsafe [Double](unsafeUninitializedCapacity: values.count) { buffer, count in
        for index in unsafe 0..<values.count { unsafe buffer[index] = unsafe Double(values[index]) }
        count = unsafe values.count
      }
    }
  }
}

extension UnsafeMutablePointer {
  /// Memory for so many numbers; many of them in pages of 2 MB, where the kernel gives them: going across the rows of a matrix
  /// needs an entry of the processor's table for each page.
  package static func allocate(inLargePages count: Int) -> Self {
    let (pageSize, byteCount) = (2 << 20, count * MemoryLayout<Pointee>.stride)
    guard byteCount >= 2 * pageSize else { return .allocate(capacity: count) }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: pageSize)
    // Whether they are given or not, the memory is the same. The rest behind the last whole page is left as it is.
    _ = unsafe madvise(memory, byteCount / pageSize * pageSize, MADV_HUGEPAGE)
    return unsafe memory.bindMemory(to: Pointee.self, capacity: count)
  }
}
