import Glibc
import NormFoldFormats
import Testing
import TestSupport

/// Whether the file system of the tests has files without names (`O_TMPFILE`).
private let hasUnnamedFiles: Bool = {
  guard let directory = try? TemporaryDirectory() else { return false }
  let descriptor = open(directory.path, O_RDWR | O_DIRECTORY | 0x400000, 0o600)
  guard descriptor >= 0 else { return false }
  close(descriptor)
  return true
}()

/// A name that exists for a moment is what a killed process leaves behind.
@Test("a temporary file never has a name", .enabled(if: hasUnnamedFiles, "the file system cannot do without names"))
func temporaryFile() throws {
  let directory = try TemporaryDirectory()
  let watch = inotify_init1(Int32(IN_NONBLOCK))
  defer { close(watch) }
  try #require(inotify_add_watch(watch, directory.path, UInt32(IN_CREATE | IN_MOVED_TO)) >= 0)
  do {
    let file = try TemporaryFile(in: directory.path)
    #expect(file.byteCount == 0)
  }
  var event = [UInt8](repeating: 0, count: 4_096)
  #expect(read(watch, &event, event.count) == -1 && errno == EAGAIN, "a name appeared")
  // The watch sees names.
  close(open(directory / "name", O_WRONLY | O_CREAT, 0o600))
  #expect(read(watch, &event, event.count) > 0)
}
