/// The records of a zip archive, read from its central directory.
///
///     +---------------------------------------------+
///     | local header | name | extra | record bytes  |  once per record; torch.save leaves the sizes and the CRC
///     | (data descriptor)                           |  here zero (flag 8) and aligns the bytes to 64
///     +---------------------------------------------+
///     | central header | name | extra | comment     |  once per record: the sizes, the CRC and the place that count
///     +---------------------------------------------+
///     | zip64 end of directory, zip64 locator       |  where a number does not fit 16 or 32 bits
///     +---------------------------------------------+
///     | end of directory | comment                  |  ends the file exactly
///     +---------------------------------------------+
///
/// Stricter than unzip: one central directory that touches its end record, no record twice, no two records over the same
/// bytes, and local headers that agree with the directory, so that no two readers can see different contents.
/// The numbers are those of PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
struct ZipArchive: Sendable {
  struct Record: Sendable {
    enum Method: Sendable { case stored, deflated }

    var name: String
    var method: Method
    /// The CRC-32 of the bytes before compression; 0 where no checksum was computed, too.
    var crc32: UInt32
    /// The number of bytes that the record has in the archive; equal to `byteCount` for stored records.
    var compressedByteCount: Int
    var byteCount: Int
    /// The start of the local header, in bytes from the start of the file.
    var headerOffset: Int
    /// The start of the bytes of the record, in bytes from the start of the file.
    var dataOffset = 0

    /// Is true if `crc32` says something about the bytes. torch.save writes 0 where it computes no checksum
    /// (`torch.serialization.set_crc32_options(False)`), and for storages that it leaves to be filled by others
    /// (`skip_data()`). Of real checksums, one in 2^32 is 0.
    var hasChecksum: Bool { crc32 != 0 || byteCount == 0 }
  }

  let file: MappedFile
  /// In the order of the directory; names are unique.
  let records: [Record]
  private let indexByName: [String: Int]

  static let maximumRecordCount = 1 << 20

  /// Bits 0, 5, 6 and 13: encrypted, a patch of other data, strongly encrypted, masked headers.
  private static let unreadableFlags: UInt16 = 0x2061

  private static let localSignature: UInt32 = 0x0403_4B50
  private static let centralSignature: UInt32 = 0x0201_4B50
  private static let endSignature: UInt32 = 0x0605_4B50
  private static let zip64EndSignature: UInt32 = 0x0606_4B50
  private static let zip64LocatorSignature: UInt32 = 0x0706_4B50

  /// - Throws: `.malformed` with the first rule that the archive breaks; `.unsupported` for encryption, archives in
  ///   several parts and methods other than stored and deflated.
  init(of file: MappedFile) throws(Refusal) {
    self.file = file
    let path = file.path
    records = try file.parse { (bytes) throws(Refusal) in
      let directory = try Self.findDirectory(in: bytes, path: path)
      var records = try Self.readDirectory(directory, in: bytes, path: path)
      for index in records.indices { try Self.locate(&records[index], in: bytes, path: path) }
      try Self.checkOverlaps(records, directoryOffset: directory.offset, path: path)
      return records
    }
    var index: [String: Int] = [:]
    index.reserveCapacity(records.count)
    for (position, record) in records.enumerated() where index.updateValue(position, forKey: record.name) != nil {
      throw Refusal(
        .malformed, file: path, at: record.headerOffset, subject: record.name, "the record occurs twice",
        advice: "a name must mean one record; write the archive again")
    }
    indexByName = index
  }

  subscript(name: String) -> Record? { indexByName[name].map { records[$0] } }

  /// Says that damage to some records cannot be noticed; nil where it can.
  var warningOnChecksums: String? {
    let count = records.count { !$0.hasChecksum }
    guard count > 0 else { return nil }
    return "\(file.path): \(count) of its \(records.count) records \(count == 1 ? "has" : "have") no checksum"
      + " (a CRC-32 of 0, as torch.save writes it when told to compute none),"
      + " so damage to \(count == 1 ? "it" : "them") is not noticed"
  }

  // MARK: The end of the directory

  private struct Directory {
    var offset: Int
    var end: Int
    var recordCount: Int
  }

  ///     end of directory   0 signature   4 disk u16   6 disk of directory u16   8 records here u16   10 records u16
  ///                        12 directory bytes u32   16 directory offset u32   20 comment bytes u16
  private static func findDirectory(in bytes: RawSpan, path: String) throws(Refusal) -> Directory {
    let size = 22
    var end = bytes.byteCount - size
    let lowest = max(0, end - 0xFFFF)
    while end >= lowest {
      if bytes.integer(UInt32.self, at: end) == endSignature,
        Int(bytes.integer(UInt16.self, at: end + 20)) == bytes.byteCount - end - size
      {
        break
      }
      end -= 1
    }
    guard end >= lowest else {
      throw Refusal(
        .malformed, file: path, "the zip archive has no end of directory within its last 65557 bytes",
        advice: "download the file again; it is incomplete, or something was appended to it")
    }
    let disks = (bytes.integer(UInt16.self, at: end + 4), bytes.integer(UInt16.self, at: end + 6))
    guard (disks.0 == 0 || disks.0 == 0xFFFF) && (disks.1 == 0 || disks.1 == 0xFFFF) else {
      throw Refusal(
        .unsupported, file: path, at: end,
        "the zip archive is one of several parts (disk \(disks.0), directory on \(disks.1))",
        advice: "join the parts first")
    }
    var counts = (
      here: UInt64(bytes.integer(UInt16.self, at: end + 8)), all: UInt64(bytes.integer(UInt16.self, at: end + 10))
    )
    var byteCount = UInt64(bytes.integer(UInt32.self, at: end + 12))
    var offset = UInt64(bytes.integer(UInt32.self, at: end + 16))
    var directoryEnd = end
    if end >= 20, bytes.integer(UInt32.self, at: end - 20) == zip64LocatorSignature {
      let wide = try readZip64End(locator: end - 20, in: bytes, path: path)
      let agree =
        (counts.here == wide.here || counts.here == 0xFFFF) && (counts.all == wide.all || counts.all == 0xFFFF)
        && (byteCount == wide.byteCount || byteCount == 0xFFFF_FFFF) && (offset == wide.offset || offset == 0xFFFF_FFFF)
      guard agree else {
        throw Refusal(
          .malformed, file: path, at: end, "the end of directory contradicts its zip64 form",
          advice: "the archive is damaged; download the file again")
      }
      (counts.here, counts.all, byteCount, offset) = (wide.here, wide.all, wide.byteCount, wide.offset)
      directoryEnd = wide.start
    }
    guard counts.here == counts.all else {
      throw Refusal(
        .unsupported, file: path, at: end,
        "the zip archive is one of several parts (\(counts.here) of \(counts.all) records here)",
        advice: "join the parts first")
    }
    guard counts.all <= UInt64(maximumRecordCount) else {
      throw Refusal(
        .malformed, file: path, at: end, "expected at most \(maximumRecordCount) records, found \(counts.all)")
    }
    let (sum, overflow) = offset.addingReportingOverflow(byteCount)
    guard !overflow, sum == UInt64(directoryEnd) else {
      throw Refusal(
        .malformed, file: path, at: end,
        "central directory: expected to end at byte \(directoryEnd), found \(byteCount) bytes from byte \(offset)",
        advice: "bytes were cut from the file or put before it; download it again")
    }
    return Directory(offset: Int(offset), end: directoryEnd, recordCount: Int(counts.all))
  }

  ///     locator        0 signature   4 disk u32   8 offset of the zip64 end u64   16 disks u32
  ///     zip64 end      0 signature   4 bytes that follow u64   12 versions   16 disk u32   20 disk of directory u32
  ///                    24 records here u64   32 records u64   40 directory bytes u64   48 directory offset u64
  private static func readZip64End(
    locator: Int, in bytes: RawSpan, path: String
  ) throws(Refusal) -> (start: Int, here: UInt64, all: UInt64, byteCount: UInt64, offset: UInt64) {
    let size = 56
    let offset = bytes.integer(UInt64.self, at: locator + 8)
    guard locator >= size, offset <= UInt64(locator - size),
      bytes.integer(UInt32.self, at: Int(offset)) == zip64EndSignature,
      bytes.integer(UInt64.self, at: Int(offset) + 4) == UInt64(locator) - offset - 12
    else {
      throw Refusal(
        .malformed, file: path, at: locator, "zip64 locator: no zip64 end of directory between byte \(offset) and here",
        advice: "the archive is damaged; download the file again")
    }
    let start = Int(offset)
    let disks = (
      bytes.integer(UInt32.self, at: locator + 4), bytes.integer(UInt32.self, at: start + 16),
      bytes.integer(UInt32.self, at: start + 20)
    )
    guard disks == (0, 0, 0), bytes.integer(UInt32.self, at: locator + 16) <= 1 else {
      throw Refusal(
        .unsupported, file: path, at: start, "the zip archive is one of several parts", advice: "join the parts first")
    }
    return (
      start, bytes.integer(UInt64.self, at: start + 24), bytes.integer(UInt64.self, at: start + 32),
      bytes.integer(UInt64.self, at: start + 40), bytes.integer(UInt64.self, at: start + 48)
    )
  }

  // MARK: The directory

  ///     central header     0 signature   8 flags u16   10 method u16   16 CRC-32 u32   20 compressed bytes u32
  ///                        24 bytes u32   28 name bytes u16   30 extra bytes u16   32 comment bytes u16
  ///                        34 disk u16   42 offset of the local header u32   46 name, extra, comment
  private static func readDirectory(
    _ directory: Directory, in bytes: RawSpan, path: String
  ) throws(Refusal) -> [Record] {
    let size = 46
    var records: [Record] = []
    var offset = directory.offset
    for index in 0..<directory.recordCount {
      guard directory.end - offset >= size, bytes.integer(UInt32.self, at: offset) == centralSignature else {
        throw Refusal(
          .malformed, file: path, at: offset,
          "central directory: expected \(directory.recordCount) records, found \(index)",
          advice: "the archive is damaged; download the file again")
      }
      let nameStart = offset + size
      let extraStart = nameStart + Int(bytes.integer(UInt16.self, at: offset + 28))
      let extraEnd = extraStart + Int(bytes.integer(UInt16.self, at: offset + 30))
      let next = extraEnd + Int(bytes.integer(UInt16.self, at: offset + 32))
      guard next <= directory.end else {
        throw Refusal(
          .malformed, file: path, at: offset,
          "central directory: record \(index) needs \(next - offset) bytes, found \(directory.end - offset)",
          advice: "the archive is damaged; download the file again")
      }
      guard let name = bytes.text(in: nameStart..<extraStart), !name.isEmpty, !name.utf8.contains(0) else {
        throw Refusal(
          .malformed, file: path, at: nameStart, "record \(index): expected a name in UTF-8",
          advice: "write the archive again")
      }
      var record = try readCentralHeader(at: offset, name: name, in: bytes, path: path)
      try widen(&record, by: extraStart..<extraEnd, centralOffset: offset, in: bytes, path: path)
      guard record.method == .deflated || record.byteCount == record.compressedByteCount else {
        throw Refusal(
          .malformed, file: path, at: offset, subject: name,
          "a stored record has one size, found \(record.byteCount) and \(record.compressedByteCount) bytes",
          advice: "the archive is damaged; download the file again")
      }
      records.append(record)
      offset = next
    }
    guard offset == directory.end else {
      throw Refusal(
        .malformed, file: path, at: offset,
        "central directory: \(directory.end - offset) bytes follow its \(directory.recordCount) records",
        advice: "the archive is damaged; download the file again")
    }
    return records
  }

  private static func readCentralHeader(
    at offset: Int, name: String, in bytes: RawSpan, path: String
  ) throws(Refusal) -> Record {
    let flags = bytes.integer(UInt16.self, at: offset + 8)
    guard flags & unreadableFlags == 0 else {
      throw Refusal(
        .unsupported, file: path, at: offset, subject: name, "the record is encrypted or a patch",
        advice: "unpack the archive and zip it again")
    }
    let method: Record.Method
    switch bytes.integer(UInt16.self, at: offset + 10) {
    case 0: method = .stored
    case 8: method = .deflated
    case let other:
      throw Refusal(
        .unsupported, file: path, at: offset, subject: name,
        "compression method: expected 0 (stored) or 8 (deflated), found \(other)",
        advice: "write the archive again with torch.save")
    }
    return Record(
      name: name, method: method, crc32: bytes.integer(UInt32.self, at: offset + 16),
      compressedByteCount: Int(bytes.integer(UInt32.self, at: offset + 20)),
      byteCount: Int(bytes.integer(UInt32.self, at: offset + 24)),
      headerOffset: Int(bytes.integer(UInt32.self, at: offset + 42)))
  }

  /// The zip64 extra field (id 1) holds, in this order, those of the numbers that are saturated in the header:
  /// bytes u64, compressed bytes u64, offset u64, disk u32.
  private static func widen(
    _ record: inout Record, by extra: Range<Int>, centralOffset: Int, in bytes: RawSpan, path: String
  ) throws(Refusal) {
    func refusal(_ problem: String) -> Refusal {
      Refusal(
        .malformed, file: path, at: centralOffset, subject: record.name, problem,
        advice: "the archive is damaged; download the file again")
    }
    var disk = UInt32(bytes.integer(UInt16.self, at: centralOffset + 34))
    var wide: Range<Int>?
    var offset = extra.lowerBound
    while extra.upperBound - offset >= 4 {
      let end = offset + 4 + Int(bytes.integer(UInt16.self, at: offset + 2))
      guard end <= extra.upperBound else { throw refusal("an extra field ends beyond the record's header") }
      if bytes.integer(UInt16.self, at: offset) == 1 {
        guard wide == nil else { throw refusal("the zip64 extra field occurs twice") }
        wide = offset + 4..<end
      }
      offset = end
    }
    var position = wide?.lowerBound ?? 0
    func next() throws(Refusal) -> Int {
      guard let wide, wide.upperBound - position >= 8 else {
        throw refusal("the header refers to a zip64 extra field that is missing or too short")
      }
      defer { position += 8 }
      guard let value = Int(exactly: bytes.integer(UInt64.self, at: position)) else {
        throw refusal("zip64 extra field: a number exceeds any file")
      }
      return value
    }
    if record.byteCount == 0xFFFF_FFFF { record.byteCount = try next() }
    if record.compressedByteCount == 0xFFFF_FFFF { record.compressedByteCount = try next() }
    if record.headerOffset == 0xFFFF_FFFF { record.headerOffset = try next() }
    if disk == 0xFFFF, let wide, wide.upperBound - position >= 4 { disk = bytes.integer(UInt32.self, at: position) }
    guard disk == 0 else {
      throw Refusal(
        .unsupported, file: path, at: centralOffset, subject: record.name,
        "the record is in part \(disk) of an archive in several parts", advice: "join the parts first")
    }
  }

  // MARK: The records

  ///     local header       0 signature   6 flags u16   8 method u16   14 CRC-32 u32   18 compressed bytes u32
  ///                        22 bytes u32   26 name bytes u16   28 extra bytes u16   30 name, extra
  private static func locate(_ record: inout Record, in bytes: RawSpan, path: String) throws(Refusal) {
    let size = 30
    let start = record.headerOffset
    let name = record.name
    func refusal(_ problem: String, _ advice: Message = "the archive is damaged; download the file again") -> Refusal {
      Refusal(.malformed, file: path, at: start, subject: name, problem, advice: advice)
    }
    guard start <= bytes.byteCount - size, bytes.integer(UInt32.self, at: start) == localSignature else {
      throw refusal("the directory points to no record here")
    }
    let nameEnd = start + size + Int(bytes.integer(UInt16.self, at: start + 26))
    let dataOffset = nameEnd + Int(bytes.integer(UInt16.self, at: start + 28))
    guard dataOffset <= bytes.byteCount, record.compressedByteCount <= bytes.byteCount - dataOffset else {
      throw refusal(
        "expected \(record.compressedByteCount) bytes from byte \(dataOffset), found \(max(0, bytes.byteCount - dataOffset))",
        "download the file again; it is incomplete")
    }
    let localName = bytes.text(in: start + size..<nameEnd)
    guard localName == name else { throw refusal("the record itself is named '\(localName ?? "not UTF-8")'") }
    let flags = bytes.integer(UInt16.self, at: start + 6)
    let method = bytes.integer(UInt16.self, at: start + 8)
    guard flags & unreadableFlags == 0, method == (record.method == .stored ? 0 : 8) else {
      throw refusal("the record and the directory disagree on how it is stored")
    }
    if flags & 8 == 0 {
      func agrees(_ value: UInt32, _ other: Int) -> Bool { value == 0xFFFF_FFFF || Int(value) == other }
      guard bytes.integer(UInt32.self, at: start + 14) == record.crc32,
        agrees(bytes.integer(UInt32.self, at: start + 18), record.compressedByteCount),
        agrees(bytes.integer(UInt32.self, at: start + 22), record.byteCount)
      else { throw refusal("the record and the directory disagree on its size or checksum") }
    }
    record.dataOffset = dataOffset
  }

  private static func checkOverlaps(_ records: [Record], directoryOffset: Int, path: String) throws(Refusal) {
    var end = 0
    var previous = ""
    for record in records.sorted(by: { $0.headerOffset < $1.headerOffset }) {
      guard record.headerOffset >= end else {
        throw Refusal(
          .malformed, file: path, at: record.headerOffset, subject: record.name,
          "overlaps '\(previous)', which ends at byte \(end)", advice: "each byte may belong to one record only")
      }
      end = record.dataOffset + record.compressedByteCount
      previous = record.name
    }
    guard end <= directoryOffset else {
      throw Refusal(
        .malformed, file: path, at: directoryOffset, subject: previous,
        "the record ends at byte \(end), inside the central directory",
        advice: "each byte may belong to one record only")
    }
  }
}
