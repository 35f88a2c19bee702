import Glibc

/// A file mapped for reading: the one type that owns the address of input bytes.
///
/// The mapping outlives a rename over the file. It does not outlive a truncation by another process: see
/// <doc:Safety>.
@safe package final class MappedFile: Sendable {
  /// The path as the user gave it, or as it follows from what the user gave.
  package let path: String
  package let byteCount: Int
  /// Identity of the file on its device: two paths with equal identities are one file.
  package let identity: FileIdentity
  private nonisolated(unsafe) let base: UnsafeRawPointer?

  /// - Throws: `.malformed` where there is no such file, it is not a regular one, or it is empty.
  package init(path: String) throws(Refusal) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let reason = String(errno: errno)
      throw Refusal(.malformed, file: path, "cannot be opened: \(reason)", advice: "check the path and its permissions")
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw Refusal(.malformed, file: path, "cannot be examined: \(String(errno: errno))")
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR: throw Refusal(.malformed, file: path, "expected a file, found a directory")
    default:
      throw Refusal(
        .malformed, file: path, "expected a regular file, found a pipe, socket or device",
        advice: "save its content to a file first")
    }
    self.path = path
    identity = FileIdentity(status)
    byteCount = Int(status.st_size)
    unsafe base = try Self.map(descriptor, byteCount: byteCount, path: path)
  }

  /// Maps an open file that has no name of its own: what was expanded out of the file at `path`.
  /// - Parameter identity: nil for that of the open file.
  init(descriptor: Int32, path: String, identity: FileIdentity? = nil) throws(Refusal) {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw Refusal(.malformed, file: path, "cannot be examined: \(String(errno: errno))")
    }
    self.path = path
    self.identity = identity ?? FileIdentity(status)
    byteCount = Int(status.st_size)
    unsafe base = try Self.map(descriptor, byteCount: byteCount, path: path)
  }

  /// - Returns: nil for a file without bytes, which the system does not map.
  private static func map(_ descriptor: Int32, byteCount: Int, path: String) throws(Refusal) -> UnsafeRawPointer? {
    guard byteCount > 0 else { return nil }
    let address = unsafe mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw Refusal(.malformed, file: path, "cannot be mapped: \(String(errno: errno))")
    }
    return UnsafeRawPointer(address)
  }

  deinit {
    if let base = unsafe base { unsafe munmap(UnsafeMutableRawPointer(mutating: base), byteCount) }
  }

  /// Lends all bytes of the file.
  package func withBytes<Result, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let bytes = unsafe UnsafeRawBufferPointer(start: base, count: byteCount)
    return try body(unsafe bytes.bytes)
  }
}

/// Device and inode of a file.
package struct FileIdentity: Hashable, Sendable {
  private let device: UInt64
  private let inode: UInt64

  init(_ status: stat) {
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
  }

  /// The identity of what `path` leads to, links followed; nil where there is nothing.
  package init?(ofItemAt path: String) {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    self.init(status)
  }
}

extension String {
  /// The system's words for an error number.
  package init(errno code: Int32) {
    self = unsafe String(cString: strerror(code))
  }
}
