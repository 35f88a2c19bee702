extension RawSpan {
  /// The little-endian integer at `offset`, which need not be aligned.
  /// - Precondition: it lies inside the span. A failed check ends the process, so readers compare first and throw.
  @inline(__always)
  func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type, at offset: Int) -> Integer {
    Integer(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: Integer.self))
  }

  /// The UTF-8 text in `range`, or nil where it is not UTF-8.
  /// - Precondition: as for ``integer(_:at:)``.
  package func text(in range: Range<Int>) -> String? {
    unsafe extracting(range).withUnsafeBytes { unsafe String(validating: $0, as: UTF8.self) }
  }
}
