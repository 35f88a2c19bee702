import CNormFoldLinux
import CNormFoldMappingGuard
import Dispatch
import Glibc
import Synchronization

/// A file of tensors being written, whose size is known before its first byte: any thread may write any part of it.
///
/// The kernel takes what a program hands over with `write` from one thread of a file at a time, but gives pages of the file
/// to all of them: many threads compute their parts where these are going to lie. Few threads seldom wait for each other, and
/// handing over costs less then, since pages are zeroed before they are given. Where a file system or a kernel gives no pages, and
/// where the device is full, parts are handed over, too, and the refusal has the system's reason.
@safe package final class TensorFile: Sendable {
  package let path: String
  package let byteCount: Int
  private let head: [UInt8]
  /// Is true if the file begins with something else than tensors.
  var hasHead: Bool { !head.isEmpty }
  /// -1 once it is finished.
  private let descriptor: Atomic<Int32>
  /// The file in memory; nil where the system does not map it, or it is too small to be worth it.
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer?
  /// In the table of `CNormFoldMappingGuard`.
  private let guardNumber: Int32

  /// Smaller files are handed over.
  private static let leastMappedByteCount = 1 << 20

  /// Creates a file that did not exist, follows no link, and writes what the file begins with. What is never written is
  /// zeros.
  ///
  /// - Throws: `.output` where the file exists, its directory cannot be written, or a file may not be that large.
  package init(creating path: String, head: [UInt8], byteCount: Int) throws(Refusal) {
    precondition(head.count <= byteCount)
    self.path = path
    self.head = head
    self.byteCount = byteCount
    let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o666)
    self.descriptor = Atomic(descriptor)
    guard descriptor >= 0 else { throw Refusal(creating: path, errno) }
    let isLong = ftruncate(descriptor, off_t(byteCount)) == 0
    let code = errno
    var mapping: (base: UnsafeMutableRawPointer, number: Int32)?
    if isLong, byteCount >= Self.leastMappedByteCount {
      unsafe mapping = Self.map(descriptor, byteCount: byteCount)
    }
    unsafe base = mapping?.base
    unsafe guardNumber = mapping?.number ?? -1
    guard isLong else { throw Refusal(path, cannotBe: "made \(byteCount.bytes) long", code) }
    try write(head, at: 0)
  }

  private static func map(_ descriptor: Int32, byteCount: Int) -> (base: UnsafeMutableRawPointer, number: Int32)? {
    let address = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else { return nil }
    // Whoever asks for a page first has the kernel prepare as much of the file as it reads ahead, and the others wait. Where that is
    // 8 MB, the longest wait for 500 MB was 1.4 to 15 ms with large pages, 2.5 to 25 ms without (five runs each).
    _ = unsafe madvise(address, byteCount, MADV_HUGEPAGE)
    let number = unsafe mapping_guard_add(address, byteCount)
    guard number >= 0 else {
      unsafe munmap(address, byteCount)
      return nil
    }
    return unsafe (address, number)
  }

  deinit {
    unmap()
    let descriptor = descriptor.load(ordering: .relaxed)
    if descriptor >= 0 { close(descriptor) }
  }

  private func unmap() {
    guard let base = unsafe base, !isUnmapped.exchange(true, ordering: .relaxed) else { return }
    mapping_guard_remove(guardNumber)
    unsafe munmap(base, byteCount)
  }

  private let isUnmapped = Atomic(false)
  private let handed = Mutex(HandedParts())

  /// The number of threads from which on parts are computed in pages of the file. Handing over takes about a sixth of a
  /// conversion's time.
  package static let leastThreadCount = 5

  /// Gives a part of the file to be filled.
  ///
  /// - Parameters:
  ///   - isInPlace: whether many threads do this at a time.
  ///   - body: writes every byte of what it is given.
  /// - Throws: what `body` throws; `.output` with the system's reason: a full disk, a limit, an error of the device.
  package func fill<Result>(
    _ part: Range<Int>, inPlace isInPlace: Bool, _ body: (UnsafeMutableRawBufferPointer) throws(Refusal) -> Result
  ) throws(Refusal) -> Result {
    precondition(part.lowerBound >= 0 && part.upperBound <= byteCount, "the part is not in the file")
    if isInPlace, let base = unsafe base, unsafe Self.populate(base, part) {
      return try unsafe body(UnsafeMutableRawBufferPointer(start: base + part.lowerBound, count: part.count))
    }
    let bytes = HandedBytes(count: part.count, offset: part.lowerBound)
    let result = try unsafe body(bytes.buffer)
    guard let first = handed.withLock({ $0.put(bytes) }) else { return result }
    // Whoever comes meanwhile leaves its bytes here and goes on.
    var next: HandedBytes? = first
    while let bytes = next {
      try unsafe write(UnsafeRawBufferPointer(bytes.buffer), at: bytes.offset)
      next = handed.withLock { $0.take() }
    }
    return result
  }

  /// Has the pages of a part ready to be written to.
  ///
  /// - Returns: false where the device has no room for them, or the kernel (before 5.14) does not do it: writing to a page
  ///   that cannot be had would be a signal instead of an error.
  private static func populate(_ base: UnsafeMutableRawPointer, _ part: Range<Int>) -> Bool {
    let pages = pages(of: part)
    return unsafe madvise(base + pages.lowerBound, pages.count, MADV_POPULATE_WRITE) == 0
  }

  /// Writes a part of the file.
  ///
  /// - Throws: `.output` with the system's reason.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Refusal) {
    precondition(offset >= 0 && offset + bytes.count <= byteCount, "the bytes are not in the file")
    let descriptor = descriptor.load(ordering: .relaxed)
    var done = 0
    while done < bytes.count {
      let count = unsafe pwrite(
        descriptor, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw Refusal(path, cannotBe: "written", at: offset + done, errno)
      }
      done += count
    }
  }

  private func write(_ bytes: [UInt8], at offset: Int) throws(Refusal) {
    try unsafe bytes.span.bytes.withUnsafeBytes { (bytes) throws(Refusal) in try unsafe write(bytes, at: offset) }
  }

  /// The size of a large page, which goes to the device as a whole.
  package static let pageByteCount = 2 << 20

  /// Waits for the device in the place of the threads that compute.
  private let writeback = DispatchQueue(label: "writeback")

  /// Has the device begin with a part while others are computed, so that little is left to wait for at the end.
  package func begin(_ part: Range<Int>) {
    if let base = unsafe base {
      // The pages of a mapping that are being written to the device are taken away from all cores, one by one; these at once.
      let pages = Self.pages(of: part)
      unsafe madvise(base + pages.lowerBound, pages.count, MADV_DONTNEED)
    }
    // It waits where the device has enough to do.
    writeback.async {
      _ = sync_file_range(
        self.descriptor.load(ordering: .relaxed), Int64(part.lowerBound), Int64(part.count), UInt32(START_WRITEBACK))
    }
  }

  private static func pages(of part: Range<Int>) -> Range<Int> {
    let pageByteCount = Int(getpagesize())
    return part.lowerBound / pageByteCount * pageByteCount..<part.upperBound
  }

  /// Replaces the first occurrence of a text in what the file begins with by another of its length.
  ///
  /// - Throws: `.output`.
  package func amend(_ text: String, by other: String) throws(Refusal) {
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
    try write(new, at: offset)
  }

  /// Ends the writing: the file can be read.
  ///
  /// - Throws: `.output`.
  func complete() throws(Refusal) {
    let damage = guardNumber >= 0 ? mapping_guard_damage(guardNumber) : -1
    guard damage < 0 else {
      throw Refusal(
        .output, file: path, at: damage,
        "cannot be written: the device failed, or another program made the file shorter",
        advice: "nothing was replaced")
    }
  }

  /// Syncs the file to the device and closes it. Taking its pages out of the mapping takes a while, too.
  ///
  /// - Throws: `.output`.
  func sync() throws(Refusal) {
    unmap()
    // Nothing is begun on a number that may be another file's by now.
    writeback.sync {}
    let descriptor = descriptor.exchange(-1, ordering: .relaxed)
    let isSynced = fsync(descriptor) == 0
    let code = errno
    let isClosed = close(descriptor) == 0
    guard isSynced else { throw Refusal(path, cannotBe: "synced to disk", code) }
    guard isClosed else { throw Refusal(path, cannotBe: "closed", errno) }
  }
}

/// Bytes that are to be written to a file.
@safe private final class HandedBytes: @unchecked Sendable {
  let buffer: UnsafeMutableRawBufferPointer
  let offset: Int

  /// With a larger alignment glibc asks for more than it keeps, so that what is freed never fits the next one of the same size:
  /// between fingerprints, which stay, half a gigabyte of holes was left behind a network of 1.1 billion parameters.
  init(count: Int, offset: Int) {
    unsafe buffer = .allocate(byteCount: count, alignment: 16)
    self.offset = offset
  }

  deinit { unsafe buffer.deallocate() }
}

/// The parts of a file that wait for the one thread that writes.
private struct HandedParts {
  private var waiting: [HandedBytes] = []
  private var isBeingWritten = false

  /// More than these do not wait, so that memory does not show it.
  private static let limit = 64

  /// - Returns: what the caller has to write; nil where another thread does.
  mutating func put(_ bytes: HandedBytes) -> HandedBytes? {
    guard isBeingWritten, waiting.count < Self.limit else {
      isBeingWritten = true
      return bytes
    }
    waiting.append(bytes)
    return nil
  }

  mutating func take() -> HandedBytes? {
    let last = waiting.popLast()
    if last == nil { isBeingWritten = false }
    return last
  }
}
