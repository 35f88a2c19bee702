import CNormFoldLinux
import Glibc

/// A file being written: buffered, its bytes counted, durable when finished.
///
/// It creates a file that did not exist and follows no link. Where it stands before it is published is its
/// creator's choice (``StagedOutput``).
package final class OutputFile {
  package let path: String
  /// The bytes written so far, those in the buffer included.
  package private(set) var byteCount = 0
  private var storedByteCount = 0
  /// The bytes that the device was told to write.
  private var startedByteCount = 0
  private var descriptor: Int32
  private var buffer: [UInt8] = []

  /// Large enough that the cost of a system call does not show, small enough to stay in cache.
  private static let bufferByteCount = 1 << 20
  /// From here on copying costs more than a call of the system.
  private static let directByteCount = 1 << 16

  private static let writebackByteCount = 8 << 20

  /// - Throws: `.output` where the file exists or its directory cannot be written.
  package init(creating path: String) throws(Refusal) {
    self.path = path
    descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw Refusal(
        .output, file: path, "cannot be created: \(String(errno: errno))", advice: "choose another destination")
    }
    buffer.reserveCapacity(Self.bufferByteCount)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// - Throws: `.output` with the system's reason: a full disk, a limit, an error of the device.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    byteCount += bytes.count
    if bytes.count < Self.directByteCount {
      if buffer.count + bytes.count > Self.bufferByteCount { try flush() }
      unsafe buffer.append(contentsOf: bytes)
    } else {
      try flush()
      try unsafe writeAll(bytes)
    }
  }

  package func write(_ bytes: [UInt8]) throws(Refusal) {
    try unsafe bytes.span.bytes.withUnsafeBytes { (buffer) throws(Refusal) in try unsafe write(buffer) }
  }

  /// Writes zeros up to the next multiple of `alignment`.
  package func pad(to alignment: Int) throws(Refusal) {
    let remainder = byteCount % alignment
    if remainder > 0 { try write([UInt8](repeating: 0, count: alignment - remainder)) }
  }

  /// Replaces the first occurrence of a text in `head`, the bytes that the file begins with, by another of its length.
  package func amend(_ text: String, by other: String, in head: [UInt8]) throws(Refusal) {
    let (old, new) = (Array(text.utf8), Array(other.utf8))
    precondition(old.count == new.count, "the texts are not of one length")
    // The library's search: Swift's own takes a tenth of a second for the two megabytes of a tokenizer.
    let found = unsafe head.withUnsafeBytes { head in
      unsafe old.withUnsafeBytes { old in
        unsafe memmem(head.baseAddress, UInt(head.count), old.baseAddress, UInt(old.count)).map { found in
          unsafe head.baseAddress.map { unsafe UnsafeRawPointer(found) - $0 } ?? 0
        }
      }
    }
    guard let offset = found else { preconditionFailure("\(text) is not in the file") }
    try flush()
    var done = 0
    while done < new.count {
      let count = unsafe new[done...].withUnsafeBytes {
        unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + done))
      }
      if count < 0 {
        if errno == EINTR { continue }
        throw refusal("written", at: offset + done, errno)
      }
      done += count
    }
  }

  /// Flushes, syncs to the device and closes.
  package func finish() throws(Refusal) {
    try flush()
    guard fsync(descriptor) == 0 else { throw refusal("synced to disk", errno) }
    let result = close(descriptor)
    descriptor = -1
    guard result == 0 else { throw refusal("closed", errno) }
  }

  private func flush() throws(Refusal) {
    var full: [UInt8] = []
    swap(&full, &buffer)
    try unsafe full.span.bytes.withUnsafeBytes { (bytes) throws(Refusal) in try unsafe writeAll(bytes) }
    full.removeAll(keepingCapacity: true)
    swap(&full, &buffer)
  }

  private func writeAll(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    var remaining = unsafe bytes
    while unsafe !remaining.isEmpty {
      let count = unsafe Glibc.write(descriptor, remaining.baseAddress, remaining.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw refusal("written", at: storedByteCount, errno)
      }
      storedByteCount += count
      // The device begins while the next bytes are computed, so that little is left to wait for at the end.
      if storedByteCount - startedByteCount >= Self.writebackByteCount {
        _ = sync_file_range(
          descriptor, Int64(startedByteCount), Int64(storedByteCount - startedByteCount), UInt32(START_WRITEBACK))
        startedByteCount = storedByteCount
      }
      unsafe remaining = UnsafeRawBufferPointer(rebasing: remaining[count...])
    }
  }

  private func refusal(_ verb: String, at offset: Int? = nil, _ code: Int32) -> Refusal {
    let advice: Message =
      switch code {
      case ENOSPC, EDQUOT: "free some space and run it again; nothing was replaced"
      case EFBIG: "'ulimit -f' or the file system does not allow a file of this size; nothing was replaced"
      default: ""
      }
    return Refusal(
      .output, file: path, at: offset, "cannot be \(verb): \(String(errno: code))", advice: advice)
  }
}
