/// Characters of a span of valid UTF-8, by offsets of bytes.
extension Span<UInt8> {
  /// Returns the scalar that starts at `index`, and where it ends.
  func scalar(at index: Int) -> (scalar: Unicode.Scalar, end: Int) {
    let first = UInt32(self[index])
    let count = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
    var value = count == 1 ? first : first & (0x7F >> UInt32(count))
    for offset in 1..<count { value = value << 6 | UInt32(self[index + offset] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", index + count)
  }

  /// Returns the scalar that ends before `index`, and where it starts.
  func scalar(before index: Int) -> (scalar: Unicode.Scalar, start: Int) {
    var start = index - 1
    while !isStartOfScalar(start) { start -= 1 }
    return (scalar(at: start).scalar, start)
  }

  @inline(__always)
  func isStartOfScalar(_ index: Int) -> Bool { self[index] & 0xC0 != 0x80 }
}
