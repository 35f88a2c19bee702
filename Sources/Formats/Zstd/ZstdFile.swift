import CNormFoldZstd

/// A zstd-compressed file, expanded to a temporary file without a name: compressed bytes cannot be mapped.
///
///     frame      28 B5 2F FD | descriptor | window? | dictionary? | content size? | blocks … | checksum?
///                descriptor: bits 7-6 form of the content size, 5 single segment (no window byte), 3 reserved,
///                            2 checksum, 1-0 form of the dictionary's id
///                window:     bits 7-3 exponent above 10, 2-0 eighths of that power of two
///     skippable  5x 2A 4D 18 | byte count u32 | that many bytes of anything
///
/// A file is any number of either, one after the other (RFC 8878, section 3). The frame headers are read here, since
/// what they promise must be judged before libzstd is asked to keep it; the blocks are libzstd's.
package struct ZstdFile: Sendable {
  /// The expanded bytes. Its path and identity are those of the compressed file, which messages should name.
  package let content: MappedFile
  /// Messages about what was accepted but the user should know.
  package let warnings: [String]

  /// More than this must be in memory at once to expand the file: 128 MiB, `zstd --long=27`, libzstd's own limit.
  static let maximumWindowByteCount: UInt64 = 1 << 27

  private static let frameMagic: UInt32 = 0xFD2F_B528
  private static let skippableMagic: UInt32 = 0x184D_2A50

  /// Expands the file at `path` in bounded memory, and verifies the checksums that it has.
  ///
  /// - Parameters:
  ///   - maximumByteCount: of the expanded file; nil for 16 times the compressed one and 1 GiB.
  ///   - directory: where the expanded bytes are kept, without a name; nil for the system's temporary directory.
  /// - Throws: `.malformed` where the file is damaged, incomplete, followed by other bytes or expands beyond the
  ///   limit, or needs a larger window; `.unsupported` where it needs a dictionary; `.output` where the disk is full.
  package init(
    decompressing path: String, maximumByteCount: Int? = nil, temporaryDirectory directory: String? = nil
  ) throws(Refusal) {
    try self.init(
      decompressing: try MappedFile(path: path), maximumByteCount: maximumByteCount, temporaryDirectory: directory)
  }

  /// Expands a file that is mapped already.
  ///
  /// - Throws: as for a path.
  package init(
    decompressing file: MappedFile, maximumByteCount: Int? = nil, temporaryDirectory directory: String? = nil
  ) throws(Refusal) {
    let path = file.path
    let output = try TemporaryFile(in: directory)
    var expansion = try Expansion(
      file: file, output: output, limit: maximumByteCount ?? ExpansionLimit.byteCount(forCompressed: file.byteCount))
    try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      try expansion.run(bytes)
    }
    content = try output.mapped(as: path, identity: file.identity)
    warnings = expansion.warnings
  }

  /// The header of a frame: what the frame says of itself.
  private struct FrameHeader {
    var byteCount: Int
    var windowByteCount: UInt64
    var contentByteCount: UInt64?
    var hasChecksum: Bool

    /// - Parameter offset: of the frame's magic number, which has been read.
    init(at offset: Int, in bytes: RawSpan, path: String) throws(Refusal) {
      func refusal(_ problem: String, _ advice: Message, _ category: Refusal.Category = .malformed) -> Refusal {
        Refusal(category, file: path, at: offset, problem, advice: advice)
      }
      let truncated = refusal("the file ends inside a frame header", "download the file again; it is incomplete")
      var position = offset + 4
      func has(_ count: Int) -> Bool { bytes.byteCount - position >= count }
      /// A little-endian number of 0, 1, 2, 4 or 8 bytes.
      func number(_ count: Int) throws(Refusal) -> UInt64 {
        guard has(count) else { throw truncated }
        defer { position += count }
        var value: UInt64 = 0
        for index in (0..<count).reversed() {
          value = value << 8 | UInt64(bytes.integer(UInt8.self, at: position + index))
        }
        return value
      }
      let descriptor = try number(1)
      guard descriptor & 0x08 == 0 else {
        throw refusal("frame header: a reserved bit is set", "the file is damaged; download it again")
      }
      hasChecksum = descriptor & 0x04 != 0
      let isSingleSegment = descriptor & 0x20 != 0
      var window: UInt64?
      if !isSingleSegment {
        let byte = try number(1)
        let base = UInt64(1) << (10 + byte >> 3)
        window = base + base / 8 * (byte & 7)
      }
      let dictionary = try number([0, 1, 2, 4][Int(descriptor & 3)])
      guard dictionary == 0 else {
        throw refusal(
          "the frame needs the dictionary \(dictionary)", "compress the file again without a dictionary", .unsupported)
      }
      let form = Int(descriptor >> 6)
      let size = try number(form == 0 ? (isSingleSegment ? 1 : 0) : [0, 2, 4, 8][form])
      contentByteCount = form == 0 && !isSingleSegment ? nil : form == 1 ? size + 256 : size
      windowByteCount = window ?? contentByteCount ?? 0
      byteCount = position - offset
      guard windowByteCount <= ZstdFile.maximumWindowByteCount else {
        throw refusal(
          "window: expected at most \(ZstdFile.maximumWindowByteCount) bytes, found \(windowByteCount)",
          "compress the file again with --long=27 or without --long")
      }
    }
  }

  private struct Expansion {
    let file: MappedFile
    let output: TemporaryFile
    let limit: Int
    private let stream: Stream
    private(set) var warnings: [String] = []

    init(file: MappedFile, output: TemporaryFile, limit: Int) throws(Refusal) {
      guard let stream = Stream() else { throw Refusal(.output, file: file.path, "zstd has no memory left") }
      self.file = file
      self.output = output
      self.limit = limit
      self.stream = stream
    }

    private func refusal(_ offset: Int, _ problem: String, _ advice: Message) -> Refusal {
      Refusal(.malformed, file: file.path, at: offset, problem, advice: advice)
    }

    mutating func run(_ bytes: RawSpan) throws(Refusal) {
      var offset = 0
      var frameCount = 0
      while offset < bytes.byteCount {
        let left = bytes.byteCount - offset
        let magic = left >= 4 ? bytes.integer(UInt32.self, at: offset) : 0
        if magic & 0xFFFF_FFF0 == ZstdFile.skippableMagic {
          guard left >= 8, Int(bytes.integer(UInt32.self, at: offset + 4)) <= left - 8 else {
            throw refusal(offset, "the file ends inside a skippable frame", "download the file again; it is incomplete")
          }
          offset += 8 + Int(bytes.integer(UInt32.self, at: offset + 4))
        } else if magic == ZstdFile.frameMagic {
          offset = try expandFrame(at: offset, in: bytes)
          frameCount += 1
        } else if offset == 0 {
          throw refusal(
            0, "expected a zstd file, which starts with the bytes 28 b5 2f fd",
            "check what the file is; its name ends in '.zst'")
        } else {
          throw refusal(
            offset, "\(left) bytes follow the last frame",
            "cut the file at byte \(offset) if you know where they come from")
        }
      }
      guard frameCount > 0 else {
        throw Refusal(
          .malformed, file: file.path, "the file holds no compressed data", advice: "download the file again")
      }
    }

    /// - Returns: where the frame ends.
    private mutating func expandFrame(at start: Int, in bytes: RawSpan) throws(Refusal) -> Int {
      let header = try FrameHeader(at: start, in: bytes, path: file.path)
      let room = UInt64(limit - output.byteCount)
      func exceeds(_ found: String) -> Refusal {
        refusal(
          start, "the file expands to more than \(limit) bytes\(found)",
          "that is the limit for \(file.byteCount) compressed bytes; if you trust the file, expand it with zstd -d")
      }
      if let size = header.contentByteCount, size > room {
        throw exceeds(": a frame of \(size) after \(output.byteCount)")
      }
      if !header.hasChecksum {
        warnings.append(
          "\(file.path): the frame at byte \(start) has no checksum, so damage to it may go unnoticed; compress with zstd --check"
        )
      }
      let before = output.byteCount
      let consumed: Result<Int, Refusal> = unsafe bytes.extracting(start..<bytes.byteCount).withUnsafeBytes { input in
        do throws(Refusal) {
          stream.reset()
          var consumed = 0
          while true {
            let (status, produced) = unsafe stream.step(input, &consumed)
            if let problem = stream.problem(status) {
              // The damage lies here or behind: libzstd does not say how far its last step came.
              throw refusal(
                start + consumed, "the frame at byte \(start) cannot be expanded: \(problem)",
                "the file is damaged; download it again")
            }
            guard produced.count <= limit - output.byteCount else { throw exceeds("") }
            if let size = header.contentByteCount, output.byteCount - before + produced.count > size {
              throw refusal(
                start, "the frame expands to more than the \(size) bytes that it states",
                "the file is damaged; download it again")
            }
            try unsafe output.write(produced)
            if status == 0 { return .success(consumed) }
            guard unsafe consumed < input.count || !produced.isEmpty else {
              throw refusal(
                start + consumed, "the file ends inside the frame that starts at byte \(start)",
                "download the file again; it is incomplete")
            }
          }
        } catch {
          return .failure(error)
        }
      }
      return start + (try consumed.get())
    }
  }

  /// libzstd's decompressor and a buffer for what it produces.
  @safe private final class Stream {
    private let context: OpaquePointer
    private let buffer: UnsafeMutableRawBufferPointer

    /// - Returns: nil without memory.
    init?() {
      guard let context = unsafe ZSTD_createDCtx() else { return nil }
      unsafe self.context = context
      unsafe buffer = .allocate(byteCount: ZSTD_DStreamOutSize(), alignment: 64)
      _ = unsafe ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, 27)
    }

    deinit {
      unsafe ZSTD_freeDCtx(context)
      unsafe buffer.deallocate()
    }

    /// Prepares for the next frame.
    func reset() { _ = unsafe ZSTD_DCtx_reset(context, ZSTD_reset_session_only) }

    /// Expands as much of `input` from `consumed` on as the buffer takes.
    /// - Returns: zstd's status, 0 at the end of a frame; the bytes, valid until the next step.
    func step(_ input: UnsafeRawBufferPointer, _ consumed: inout Int) -> (status: Int, produced: UnsafeRawBufferPointer)
    {
      var source = unsafe ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: consumed)
      var target = unsafe ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
      let status = unsafe ZSTD_decompressStream(context, &target, &source)
      consumed = unsafe source.pos
      return unsafe (status, UnsafeRawBufferPointer(rebasing: buffer[..<target.pos]))
    }

    /// Returns libzstd's name of the error that a status stands for, or nil where the status is no error.
    func problem(_ status: Int) -> String? {
      guard ZSTD_isError(status) != 0, let name = unsafe ZSTD_getErrorName(status) else { return nil }
      return unsafe String(cString: name)
    }
  }
}
