import Glibc

/// Activations, row-major [rows, columns]: one row a token. Written once, by the operation that makes it.
@safe package final class Matrix<Scalar: ArithmeticScalar>: @unchecked Sendable {
  package let rowCount: Int
  package let columnCount: Int
  /// Valid as long as the matrix: whoever uses it holds on to the matrix meanwhile.
  package let start: UnsafeMutablePointer<Scalar>
  /// The size of the memory in bytes, which may be more than the values take.
  private let capacity: Int

  /// Uninitialised.
  package init(rows: Int, columns: Int) {
    rowCount = rows
    columnCount = columns
    let byteCount = rows * columns * MemoryLayout<Scalar>.stride
    let block = unsafe KeptMemory.take(byteCount)
    capacity = unsafe block?.count ?? byteCount
    unsafe start = (block?.baseAddress ?? .allocate(inLargePages: byteCount)).bindMemory(
      to: Scalar.self, capacity: rows * columns)
  }

  deinit { unsafe KeptMemory.give(UnsafeMutableRawBufferPointer(start: start, count: capacity)) }

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

extension UnsafeMutableRawPointer {
  /// Memory of so many bytes, aligned for any number; much of it in pages of 2 MB, where the kernel gives them: going across
  /// the rows of a matrix needs an entry of the processor's table for each page.
  package static func allocate(inLargePages byteCount: Int) -> Self {
    let pageSize = 2 << 20
    guard byteCount >= 2 * pageSize else { return .allocate(byteCount: byteCount, alignment: 16) }
    let memory = allocate(byteCount: byteCount, alignment: pageSize)
    // Whether they are given or not, the memory is the same. The rest behind the last whole page is left as it is.
    _ = unsafe madvise(memory, byteCount / pageSize * pageSize, MADV_HUGEPAGE)
    return unsafe memory
  }
}
