import CNormFoldMappingGuard
import Dispatch
import Glibc

/// A file mapped for reading: the one type that owns the address of input bytes.
///
/// The mapping outlives a rename over the file. Where the file becomes shorter, is written to, or its device fails,
/// reading goes on, with zeros for pages that cannot be had, and ``requireIntact()`` says so: nothing that was computed
/// from a file may be published before it has been asked.
@safe package final class MappedFile: Sendable {
  /// The path as the user gave it, or as it follows from what the user gave.
  package let path: String
  package let byteCount: Int
  /// Identity of the file on its device: two paths with equal identities are one file.
  package let identity: FileIdentity
  private let state: State
  /// The descriptor of the mapped file, to see whether the file is still the same; -1 for memory, and for a file
  /// without a name, which no one else can change.
  private let descriptor: Int32
  private nonisolated(unsafe) let base: UnsafeRawPointer?
  /// In the table of `CNormFoldMappingGuard`; -1 without a mapping.
  private let guardNumber: Int32
  /// Is true if the bytes are memory of our own, and no mapping.
  private let isInMemory: Bool
  /// Keeps memory that is lent; nil where it is freed with this object.
  private let owner: (any AnyObject & Sendable)?

  /// The properties of a file that change when the file is written to.
  private struct State: Equatable {
    let byteCount: Int
    let seconds: Int
    let nanoseconds: Int

    init(byteCount: Int) { (self.byteCount, seconds, nanoseconds) = (byteCount, 0, 0) }

    init(_ status: stat) {
      byteCount = Int(status.st_size)
      seconds = status.st_mtim.tv_sec
      nanoseconds = status.st_mtim.tv_nsec
    }
  }

  /// Copies bytes that have never been a file: what a fuzzer gives to a parser, without the cost of writing one.
  ///
  /// - Parameter path: what messages call them.
  package init(copying bytes: [UInt8], path: String) {
    self.path = path
    byteCount = bytes.count
    state = State(byteCount: bytes.count)
    (descriptor, guardNumber, isInMemory, owner) = (-1, -1, true, nil)
    // Exactly as large as the bytes, so that AddressSanitizer sees whoever reads on.
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 64)
    unsafe copy.copyBytes(from: bytes)
    unsafe base = UnsafeRawPointer(copy.baseAddress)
    identity = unsafe FileIdentity(ofMemoryAt: base)
  }

  /// Lends memory as if it were a file, to be written to by whoever made it: parameters that are being trained.
  ///
  /// - Parameter memory: is freed with this object.
  package init(owning memory: UnsafeMutableRawBufferPointer, path: String) {
    self.path = path
    byteCount = memory.count
    state = State(byteCount: memory.count)
    (descriptor, guardNumber, isInMemory, owner) = (-1, -1, true, nil)
    unsafe base = UnsafeRawPointer(memory.baseAddress)
    identity = unsafe FileIdentity(ofMemoryAt: base)
  }

  /// Lends memory of another object as if it were a file.
  ///
  /// - Parameter owner: frees the memory when nothing uses it any more.
  package init(lending memory: UnsafeRawBufferPointer, of owner: any AnyObject & Sendable, path: String) {
    self.path = path
    byteCount = memory.count
    state = State(byteCount: memory.count)
    (descriptor, guardNumber, isInMemory) = (-1, -1, true)
    self.owner = owner
    unsafe base = memory.baseAddress
    identity = unsafe FileIdentity(ofMemoryAt: base)
  }

  /// - Throws: `.malformed` where there is no such file, or it is not a regular one.
  package init(path: String) throws(Refusal) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      let reason = String(errno: errno)
      throw Refusal(.malformed, file: path, "cannot be opened: \(reason)", advice: "check the path and its permissions")
    }
    do throws(Refusal) {
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
      state = State(status)
      byteCount = state.byteCount
      (isInMemory, owner) = (false, nil)
      unsafe base = try Self.map(descriptor, byteCount: byteCount, path: path)
      guardNumber = try unsafe Self.register(base, byteCount: byteCount, path: path)
      self.descriptor = descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Opens a file that is read once from start to end, as texts are: `-` is standard input, and a pipe is read to its
  /// end.
  ///
  /// - Throws: as ``init(path:)``.
  package static func readable(at path: String) throws(Refusal) -> MappedFile {
    var status = stat()
    if path != "-",
      unsafe stat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG || status.st_mode & S_IFMT == S_IFDIR
    {
      return try MappedFile(path: path)
    }
    let descriptor = path == "-" ? STDIN_FILENO : unsafe open(path, O_RDONLY | O_CLOEXEC)
    defer { if descriptor > STDERR_FILENO { close(descriptor) } }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe piece.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
      if count == 0 { return MappedFile(copying: bytes, path: path) }
      if count > 0 {
        bytes += piece[..<count]
      } else if errno != EINTR {
        throw Refusal(
          .malformed, file: path == "-" ? "standard input" : path, "cannot be read: \(String(errno: errno))",
          advice: "give a text through a pipe, or name a file")
      }
    }
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
    state = State(status)
    byteCount = state.byteCount
    (isInMemory, owner) = (false, nil)
    unsafe base = try Self.map(descriptor, byteCount: byteCount, path: path)
    guardNumber = try unsafe Self.register(base, byteCount: byteCount, path: path)
    self.descriptor = -1
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

  private static func register(_ base: UnsafeRawPointer?, byteCount: Int, path: String) throws(Refusal) -> Int32 {
    guard let base = unsafe base else { return -1 }
    let number = unsafe mapping_guard_add(base, byteCount)
    guard number >= 0 else {
      unsafe munmap(UnsafeMutableRawPointer(mutating: base), byteCount)
      throw Refusal(
        .unsupported, file: path, "\(MAPPING_GUARD_LIMIT) files are open already",
        advice: "join the checkpoint's shards first")
    }
    return number
  }

  deinit {
    if isInMemory {
      if owner == nil { unsafe base?.deallocate() }
    } else if let base = unsafe base {
      mapping_guard_remove(guardNumber)
      unsafe Self.unmap(base, byteCount: byteCount)
    }
    if descriptor >= 0 { close(descriptor) }
  }

  /// A large file is left to another thread: taking its pages away takes some ten milliseconds for 500 MB.
  private static func unmap(_ base: UnsafeRawPointer, byteCount: Int) {
    nonisolated(unsafe) let base = unsafe UnsafeMutableRawPointer(mutating: base)
    guard byteCount >= 64 << 20 else {
      unsafe munmap(base, byteCount)
      return
    }
    DispatchQueue.global().async { unsafe munmap(base, byteCount) }
  }

  /// Lends all bytes of the file.
  package func withBytes<Result, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let bytes = unsafe UnsafeRawBufferPointer(start: base, count: byteCount)
    return try body(unsafe bytes.bytes)
  }

  /// Lends all bytes to a parser, and asks afterwards whether they were the file's: a header that is cut off while it
  /// is read is no malformed header.
  ///
  /// - Throws: what the parser throws, or ``requireIntact()`` does.
  package func parse<Result>(_ body: (RawSpan) throws(Refusal) -> Result) throws(Refusal) -> Result {
    let result: Swift.Result<Result, Refusal>
    do throws(Refusal) { result = .success(try withBytes(body)) } catch { result = .failure(error) }
    try requireIntact()
    return try result.get()
  }

  /// The whole file as text.
  ///
  /// - Throws: `.malformed` where it is not UTF-8.
  package func text() throws(Refusal) -> String {
    guard let text = try parse({ (bytes) throws(Refusal) in bytes.text(in: 0..<bytes.byteCount) }) else {
      throw Refusal(.malformed, file: path, "is not UTF-8", advice: "save it as UTF-8 text")
    }
    return text
  }

  /// Gives back the memory of what was read before `byteOffset`, for those who read once from start to end; reading it
  /// again is possible.
  package func forget(before byteOffset: Int) {
    guard let base = unsafe base, !isInMemory else { return }
    let pageByteCount = Int(getpagesize())
    let count = min(byteOffset, byteCount) / pageByteCount * pageByteCount
    guard count > 0 else { return }
    unsafe madvise(UnsafeMutableRawPointer(mutating: base), count, MADV_DONTNEED)
  }

  /// Requires that everything that was read so far was the file as it was when it was opened.
  ///
  /// - Throws: `.malformed` where the file has become shorter, has been written to, or could not be read.
  package func requireIntact() throws(Refusal) {
    var status = stat()
    var found = state
    if descriptor >= 0 {
      guard unsafe fstat(descriptor, &status) == 0 else {
        throw Refusal(.malformed, file: path, "cannot be examined any more: \(String(errno: errno))")
      }
      found = State(status)
    }
    if found.byteCount < byteCount {
      throw Refusal(
        .malformed, file: path, "shrank from \(byteCount.bytes) to \(found.byteCount) while it was read",
        advice: "wait until whoever writes it is done, and run it again")
    }
    if found != state {
      throw Refusal(
        .malformed, file: path, "was changed while it was read",
        advice: "wait until whoever writes it is done, and run it again")
    }
    let damage = guardNumber >= 0 ? mapping_guard_damage(guardNumber) : -1
    if damage >= 0 {
      throw Refusal(
        .malformed, file: path, at: damage, "cannot be read: the device failed, or the file shrank for a moment",
        advice: "copy it to another disk")
    }
  }
}

/// Device and inode of a file.
package struct FileIdentity: Hashable, Sendable {
  private let device: UInt64
  private let inode: UInt64

  /// Creates the identity of bytes that are no file. No device has the number that such an identity has for its device.
  fileprivate init(ofMemoryAt address: UnsafeRawPointer?) {
    device = .max
    inode = UInt64(UInt(bitPattern: address))
  }

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
