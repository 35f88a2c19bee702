import CNormFoldLinux
import FoundationEssentials
import Glibc

/// A file without a name, for bytes that must be expanded before they can be mapped: it vanishes with its last
/// user, whatever becomes of the process.
package final class TemporaryFile {
  package private(set) var byteCount = 0
  private let directory: String
  private let descriptor: Int32

  /// - Parameter directory: where the bytes are kept; nil for the system's temporary directory (`TMPDIR`).
  /// - Throws: `.output` where it cannot be created there.
  package init(in directory: String?) throws(Refusal) {
    let directory = directory ?? FileManager.default.temporaryDirectory.path(percentEncoded: false)
    self.directory = directory
    let descriptor = Self.open(in: directory)
    guard descriptor >= 0 else {
      throw Refusal(
        .output, file: directory, "a temporary file cannot be created here: \(String(errno: errno))",
        advice: "name a directory that can be written in TMPDIR")
    }
    self.descriptor = descriptor
  }

  /// - Returns: a descriptor, or -1 with the reason in `errno`.
  private static func open(in directory: String) -> Int32 {
    // With `O_EXCL` it cannot be given a name later either.
    let unnamed = unsafe Glibc.open(directory, O_RDWR | O_DIRECTORY | WITHOUT_NAME | O_EXCL | O_CLOEXEC, 0o600)
    // The file system, or a kernel that takes it for a directory, has no files without names.
    guard unnamed < 0, errno == EOPNOTSUPP || errno == EISDIR else { return unnamed }
    var template = Array("\(directory)/.normfold-XXXXXX".utf8CString)
    let descriptor = unsafe mkostemp(&template, O_CLOEXEC)
    // A process that is killed between the two leaves an empty file.
    if descriptor >= 0 { unsafe unlink(template) }
    return descriptor
  }

  deinit { close(descriptor) }

  /// - Throws: `.output` with the system's reason.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    var remaining = unsafe bytes
    while unsafe !remaining.isEmpty {
      let written = unsafe Glibc.write(descriptor, remaining.baseAddress, remaining.count)
      if written < 0 {
        if errno == EINTR { continue }
        throw Refusal(
          .output, file: directory, "a temporary file cannot grow beyond \(byteCount) bytes: \(String(errno: errno))",
          advice: "free some space there, or name another directory in TMPDIR")
      }
      byteCount += written
      unsafe remaining = UnsafeRawBufferPointer(rebasing: remaining[written...])
    }
  }

  /// Writes zeros up to the next multiple of `alignment`.
  package func pad(to alignment: Int) throws(Refusal) {
    let remainder = byteCount % alignment
    guard remainder > 0 else { return }
    let zeros = [UInt8](repeating: 0, count: alignment - remainder)
    let result: Result<Void, Refusal> = unsafe zeros.withUnsafeBytes { zeros in
      do throws(Refusal) { return .success(try unsafe write(zeros)) } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Maps what has been written. The mapping outlives this object.
  /// - Parameters:
  ///   - path: what messages call the content: the file that it was expanded from.
  ///   - identity: nil for the temporary file's own.
  package func mapped(as path: String, identity: FileIdentity? = nil) throws(Refusal) -> MappedFile {
    try MappedFile(descriptor: descriptor, path: path, identity: identity)
  }
}

/// The size to which a compressed file may expand before it counts as hostile. Trained weights shrink by a few percent
/// and masks to nothing, so 16 times the compressed size leaves room for any real checkpoint, and another 1 GiB for
/// small ones made of zeros.
enum ExpansionLimit {
  static func byteCount(forCompressed compressed: Int) -> Int {
    let (product, overflow) = compressed.multipliedReportingOverflow(by: 16)
    return overflow ? .max : product.addingReportingOverflow(1 << 30).overflow ? .max : product + 1 << 30
  }
}
