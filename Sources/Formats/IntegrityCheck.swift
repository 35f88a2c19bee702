import CNormFoldZlib

/// A CRC-32 that a container states for a range of its bytes, to be verified before the numbers in them are used.
///
/// Opening a checkpoint reads its headers only, so that a file of any size can be listed at once. Where a container
/// has checksums of its data, opening returns them as a list of these instead. Each one is independent of the
/// others. (torch.load verifies none: it loads corrupted weights without a word.)
package struct IntegrityCheck: Sendable {
  package let file: MappedFile
  /// The name of the bytes inside their container: `pytorch_model/data/17`.
  package let record: String
  /// From the start of the file.
  package let byteRange: Range<Int>
  package let expected: UInt32

  /// - Precondition: `byteRange` lies inside the file, which the reader has checked.
  package init(file: MappedFile, record: String, byteRange: Range<Int>, expected: UInt32) {
    self.file = file
    self.record = record
    self.byteRange = byteRange
    self.expected = expected
  }

  /// Reads the bytes.
  /// - Throws: `.malformed` where they are not the bytes that were written.
  package func verify() throws(Refusal) {
    let found = file.withBytes { CRC32.checksum(of: $0.extracting(byteRange)) }
    guard found == expected else {
      throw Refusal(
        .malformed, file: file.path, at: byteRange.lowerBound, subject: record,
        "CRC-32: expected \(CRC32.text(expected)), found \(CRC32.text(found))",
        advice: "the bytes have changed since they were written; download the file again")
    }
  }
}

/// The checksum of zip, gzip and PNG.
enum CRC32 {
  static func checksum(of bytes: RawSpan) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe update(0, with: $0) }
  }

  /// The checksum of what `checksum` covers, followed by `bytes`. It starts at 0.
  static func update(_ checksum: UInt32, with bytes: UnsafeRawBufferPointer) -> UInt32 {
    // For a null pointer zlib's function returns the start value instead.
    guard let start = bytes.baseAddress, unsafe !bytes.isEmpty else { return checksum }
    return UInt32(
      truncatingIfNeeded: unsafe crc32_z(UInt(checksum), start.assumingMemoryBound(to: UInt8.self), bytes.count))
  }

  static func text(_ checksum: UInt32) -> String {
    let digits = String(checksum, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}
