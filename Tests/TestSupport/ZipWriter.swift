/// Writes zip archives, sound ones and others: every field can be set to what it should not be.
package struct ZipWriter {
  package struct Record {
    package var name: String
    package var bytes: [UInt8]
    package var method: UInt16 = 0
    package var flags: UInt16 = 0x808
    /// The size before compression; nil for that of `bytes`.
    package var byteCount: Int?
    /// Of the uncompressed bytes; nil for the CRC of `bytes`.
    package var crc: UInt32?
    /// In the local header; nil for `name`.
    package var localName: String?
    /// Of the local header; nil for where it is written.
    package var headerOffset: Int?

    package init(_ name: String, _ bytes: [UInt8]) {
      self.name = name
      self.bytes = bytes
    }

    package func with(_ change: (inout Record) -> Void) -> Record {
      var copy = self
      change(&copy)
      return copy
    }

    /// `bytes` as one stored block of deflate.
    package var deflated: Record {
      with { record in
        record.byteCount = bytes.count
        record.crc = crc32(bytes)
        record.method = 8
        record.bytes = [1] + little(UInt16(bytes.count)) + little(~UInt16(bytes.count)) + bytes
      }
    }
  }

  package var records: [Record]
  /// Puts the sizes and the offset into a zip64 extra field, as torch does for large archives.
  package var isZip64 = false
  package var recordCount: UInt16?
  package var disk: UInt16 = 0
  package var comment: [UInt8] = []

  package init(
    records: [Record], isZip64: Bool = false, recordCount: UInt16? = nil, disk: UInt16 = 0, comment: [UInt8] = []
  ) {
    self.records = records
    self.isZip64 = isZip64
    self.recordCount = recordCount
    self.disk = disk
    self.comment = comment
  }

  package var archive: [UInt8] {
    var bytes: [UInt8] = []
    var directory: [UInt8] = []
    for record in records {
      let start = record.headerOffset ?? bytes.count
      let crc = record.crc ?? crc32(record.bytes)
      let sizes = (compressed: record.bytes.count, plain: record.byteCount ?? record.bytes.count)
      let localName = Array((record.localName ?? record.name).utf8)
      bytes += little(UInt32(0x0403_4B50)) + little(UInt16(20)) + little(record.flags) + little(record.method)
      bytes += little(UInt32(0))
      let hasDescriptor = record.flags & 8 != 0
      bytes += little(hasDescriptor ? 0 : crc) + little(UInt32(hasDescriptor ? 0 : sizes.compressed))
      bytes += little(UInt32(hasDescriptor ? 0 : sizes.plain)) + little(UInt16(localName.count)) + little(UInt16(0))
      bytes += localName + record.bytes
      let name = Array(record.name.utf8)
      let extra: [UInt8] =
        isZip64
        ? little(UInt16(1)) + little(UInt16(24)) + little(UInt64(sizes.plain)) + little(UInt64(sizes.compressed))
          + little(UInt64(start)) : []
      directory += little(UInt32(0x0201_4B50)) + little(UInt16(20)) + little(UInt16(20)) + little(record.flags)
      directory += little(record.method) + little(UInt32(0)) + little(crc)
      directory += isZip64 ? little(UInt64.max) : little(UInt32(sizes.compressed)) + little(UInt32(sizes.plain))
      directory += little(UInt16(name.count)) + little(UInt16(extra.count)) + little(UInt16(0)) + little(UInt16(0))
      directory += little(UInt16(0)) + little(UInt32(0)) + little(isZip64 ? UInt32.max : UInt32(start)) + name + extra
    }
    let start = bytes.count
    bytes += directory
    if isZip64 {
      let end = bytes.count
      bytes += little(UInt32(0x0606_4B50)) + little(UInt64(44)) + little(UInt16(20)) + little(UInt16(20))
      bytes += little(UInt64(0)) + little(UInt64(records.count)) + little(UInt64(records.count))
      bytes += little(UInt64(directory.count)) + little(UInt64(start))
      bytes += little(UInt32(0x0706_4B50)) + little(UInt32(0)) + little(UInt64(end)) + little(UInt32(1))
    }
    let count = recordCount ?? UInt16(records.count)
    bytes += little(UInt32(0x0605_4B50)) + little(disk) + little(disk) + little(count) + little(count)
    bytes += isZip64 ? little(UInt64.max) : little(UInt32(directory.count)) + little(UInt32(start))
    return bytes + little(UInt16(comment.count)) + comment
  }
}

package func little<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
  (0..<Integer.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

/// From the polynomial, a byte at a time.
package func crc32(_ bytes: [UInt8]) -> UInt32 {
  var remainder = UInt32.max
  for byte in bytes { remainder = remainder >> 8 ^ crcTable[Int(UInt8(truncatingIfNeeded: remainder) ^ byte)] }
  return ~remainder
}

private let crcTable: [UInt32] = (0..<256).map { (byte: UInt32) -> UInt32 in
  var remainder = byte
  for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0xEDB8_8320 : 0) }
  return remainder
}
