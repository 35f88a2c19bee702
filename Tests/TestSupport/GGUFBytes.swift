/// The bytes of a GGUF file, put together by hand: an independent, permissive writer that can also write what is
/// forbidden.
package struct GGUFBytes {
  package var bytes: [UInt8] = []

  package init() {}

  /// Magic, version and counts.
  package init(magic: String = "GGUF", version: UInt32 = 3, tensors: Int64 = 0, pairs: Int64 = 0) {
    bytes += magic.utf8
    append(version)
    append(tensors)
    append(pairs)
  }

  package mutating func append<Number: FixedWidthInteger>(_ number: Number) {
    withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
  }

  package mutating func append(_ text: String) {
    append(UInt64(text.utf8.count))
    bytes += text.utf8
  }

  package func number<Number: FixedWidthInteger>(_ number: Number) -> GGUFBytes {
    var result = self
    result.append(number)
    return result
  }

  package func text(_ text: String) -> GGUFBytes {
    var result = self
    result.append(text)
    return result
  }

  package func raw(_ bytes: [UInt8]) -> GGUFBytes {
    var result = self
    result.bytes += bytes
    return result
  }

  /// A key, a type number and the bytes of a value.
  package func pair(_ key: String, type: Int32, _ value: [UInt8]) -> GGUFBytes { text(key).number(type).raw(value) }

  package func pair<Number: FixedWidthInteger>(_ key: String, type: Int32, _ value: Number) -> GGUFBytes {
    text(key).number(type).number(value)
  }

  /// A tensor record; `ne` has the contiguous axis first.
  package func tensor(
    _ name: String, _ ne: [Int64], type: Int32 = 0, offset: UInt64 = 0, rank: UInt32? = nil
  ) -> GGUFBytes {
    var result = text(name).number(rank ?? UInt32(ne.count))
    for extent in ne { result.append(extent) }
    return result.number(type).number(offset)
  }

  /// Zeros up to a multiple of `alignment`, then `byteCount` bytes of data.
  package func data(_ byteCount: Int, alignment: Int = 32) -> GGUFBytes {
    let padding = (alignment - bytes.count % alignment) % alignment
    return raw([UInt8](repeating: 0, count: padding) + (0..<byteCount).map { UInt8(truncatingIfNeeded: $0) })
  }
}
