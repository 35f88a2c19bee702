import CNormFoldZlib

extension ZipArchive {
  /// The place of the bytes of a record: in the archive itself, or in a temporary file that they were inflated to.
  struct Content: Sendable {
    var file: MappedFile
    var byteOffset: Int
    var byteCount: Int
    /// The checksum, where there is one that is still to be verified: inflating has verified it.
    var pending: IntegrityCheck?

    var byteRange: Range<Int> { byteOffset..<byteOffset + byteCount }
  }

  /// Makes the bytes of `records` addressable, in their order: stored ones stay where they are, deflated ones go to one
  /// temporary file together, each aligned as torch.save aligns them.
  ///
  /// - Parameter directory: for the temporary file; nil for the system's.
  /// - Throws: `.malformed` for damaged records and for those that expand beyond all reason.
  func contents(of records: [Record], temporaryDirectory directory: String?) throws(Refusal) -> [Content] {
    let deflated = records.filter { $0.method == .deflated }
    var inflated: [String: Int] = [:]
    var expanded = file
    if !deflated.isEmpty {
      try checkExpansion(of: deflated)
      let output = try TemporaryFile(in: directory)
      for record in deflated where inflated[record.name] == nil {
        try output.pad(to: 64)
        inflated[record.name] = output.byteCount
        try inflate(record, into: output)
      }
      expanded = try output.mapped(as: file.path)
    }
    return records.map { record in
      if let offset = inflated[record.name] {
        return Content(file: expanded, byteOffset: offset, byteCount: record.byteCount)
      }
      let range = record.dataOffset..<record.dataOffset + record.byteCount
      let check = IntegrityCheck(file: file, record: record.name, byteRange: range, expected: record.crc32)
      return Content(
        file: file, byteOffset: record.dataOffset, byteCount: record.byteCount,
        pending: record.hasChecksum ? check : nil)
    }
  }

  /// Deflate cannot expand more than 1,032 times, so a record that claims to is a lie; the whole is held to
  /// ``ExpansionLimit``.
  private func checkExpansion(of deflated: [Record]) throws(Refusal) {
    let limit = ExpansionLimit.byteCount(forCompressed: file.byteCount)
    var total = 0
    for record in deflated {
      let (most, overflow) = record.compressedByteCount.multipliedReportingOverflow(by: 1_032)
      guard overflow || record.byteCount <= most else {
        throw Refusal(
          .malformed, file: file.path, at: record.headerOffset, subject: record.name,
          "expected at most \(most) bytes from \(record.compressedByteCount) deflated ones, found a size of \(record.byteCount)",
          advice: "deflate cannot expand that far; the archive is damaged or hostile")
      }
      let (sum, sumOverflow) = total.addingReportingOverflow(record.byteCount)
      guard !sumOverflow, sum <= limit else {
        throw Refusal(
          .malformed, file: file.path, at: record.headerOffset, subject: record.name,
          "the deflated records expand to more than \(limit) bytes",
          advice:
            "16 times the archive and 1 GiB is the limit; if you trust the file, unpack it and zip it without compression"
        )
      }
      total = sum
    }
  }

  /// - Throws: `.malformed` where the stream is damaged, or holds more, less or other bytes than the directory says.
  private func inflate(_ record: Record, into output: TemporaryFile) throws(Refusal) {
    // At a stable address: zlib keeps a pointer back to the stream.
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    defer { unsafe stream.deallocate() }
    // Negative window bits: no zlib header around the data.
    guard unsafe inflateInit2_(stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw Refusal(.output, file: file.path, subject: record.name, "zlib has no memory left")
    }
    defer { unsafe inflateEnd(stream) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    defer { unsafe buffer.deallocate() }

    func refusal(_ consumed: Int, _ problem: String) -> Refusal {
      Refusal(
        .malformed, file: file.path, at: record.dataOffset + consumed, subject: record.name, problem,
        advice: "download the file again; it is damaged")
    }
    try file.parse { (bytes) throws(Refusal) in
      let span = bytes.extracting(record.dataOffset..<record.dataOffset + record.compressedByteCount)
      let outcome: Result<Void, Refusal> = unsafe span.withUnsafeBytes { input in
        do throws(Refusal) {
          var fed = 0
          var produced = 0
          var checksum: UInt32 = 0
          while true {
            if unsafe stream.pointee.avail_in == 0, fed < input.count {
              let count = min(input.count - fed, 1 << 30)
              let start = unsafe input.baseAddress?.advanced(by: fed).assumingMemoryBound(to: UInt8.self)
              unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(mutating: start)
              unsafe stream.pointee.avail_in = UInt32(count)
              fed += count
            }
            unsafe stream.pointee.next_out = unsafe buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe stream.pointee.avail_out = UInt32(buffer.count)
            let status = unsafe CNormFoldZlib.inflate(stream, Z_NO_FLUSH)
            let consumed = unsafe fed - Int(stream.pointee.avail_in)
            let count = unsafe buffer.count - Int(stream.pointee.avail_out)
            let piece = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
            produced += count
            guard produced <= record.byteCount else {
              throw refusal(consumed, "inflates to more than the \(record.byteCount) bytes that the directory says")
            }
            checksum = unsafe CRC32.update(checksum, with: piece)
            try unsafe output.write(piece)
            if status == Z_STREAM_END {
              guard consumed == input.count else {
                throw refusal(consumed, "the deflated data end after \(consumed) of \(input.count) bytes")
              }
              break
            }
            guard status == Z_OK || status == Z_BUF_ERROR && count > 0 else {
              let reason =
                unsafe status == Z_BUF_ERROR
                ? "it ends too early" : stream.pointee.msg.map { unsafe String(cString: $0) }
              throw refusal(consumed, "the deflated data cannot be read: \(reason ?? "zlib error \(status)")")
            }
          }
          guard produced == record.byteCount else {
            throw refusal(input.count, "expected \(record.byteCount) bytes, inflated \(produced)")
          }
          guard checksum == record.crc32 || !record.hasChecksum else {
            throw refusal(0, "CRC-32: expected \(CRC32.text(record.crc32)), found \(CRC32.text(checksum))")
          }
          return .success(())
        } catch {
          return .failure(error)
        }
      }
      try outcome.get()
    }
  }
}
