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
  private var descriptor: Int32
  private var buffer: [UInt8] = []

  /// Large enough that the cost of a system call does not show, small enough to stay in cache.
  private static let bufferByteCount = 1 << 20
  /// From here on copying costs more than a call of the system.
  private static let directByteCount = 1 << 16

  /// - Throws: `.output` where the file exists or its directory cannot be written.
  package init(creating path: String) throws(Refusal) {
    self.path = path
    descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw Refusal(creating: path, errno) }
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

  /// Flushes, syncs to the device and closes.
  package func finish() throws(Refusal) {
    try flush()
    guard fsync(descriptor) == 0 else { throw Refusal(path, cannotBe: "synced to disk", errno) }
    let result = close(descriptor)
    descriptor = -1
    guard result == 0 else { throw Refusal(path, cannotBe: "closed", errno) }
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
        throw Refusal(path, cannotBe: "written", at: storedByteCount, errno)
      }
      storedByteCount += count
      unsafe remaining = UnsafeRawBufferPointer(rebasing: remaining[count...])
    }
  }
}

extension Refusal {
  /// `.output`: a file that cannot be created.
  init(creating path: String, _ code: Int32) {
    self.init(.output, file: path, "cannot be created: \(String(errno: code))", advice: "choose another destination")
  }

  /// `.output`, with the system's reason.
  init(_ path: String, cannotBe verb: Message, at offset: Int? = nil, _ code: Int32) {
    let advice: Message =
      switch code {
      case ENOSPC, EDQUOT: "free some space and run it again; nothing was replaced"
      case EFBIG: "'ulimit -f' or the file system does not allow a file of this size; nothing was replaced"
      default: ""
      }
    self.init(.output, file: path, at: offset, "cannot be \(verb): \(String(errno: code))", advice: advice)
  }
}
