import Foundation
import Glibc
import NormFoldFormats
import Testing
import TestSupport

/// A file system of two megabytes, which only root may mount.
private let canMount: Bool = {
  guard geteuid() == 0, let directory = try? TemporaryDirectory() else { return false }
  guard mount("tmpfs", directory.path, "tmpfs", 0, "size=2m") == 0 else { return false }
  return umount(directory.path) == 0
}()

struct TensorFileTests {
  private static let head: [UInt8] = Array("head ????".utf8)

  private static func byte(_ offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: offset &* 31 ^ offset >> 9) }

  /// Fills a file by many threads, in parts of which each begins at any place of a page.
  private static func fill(_ file: TensorFile, from start: Int, partByteCount: Int, inPlace: Bool) throws(Refusal) {
    try Workers.all.forEachPart(of: file.byteCount - start, size: partByteCount) { (part) throws(Refusal) in
      try file.fill(start + part.lowerBound..<start + part.upperBound, inPlace: inPlace) { bytes in
        for index in bytes.indices { bytes[index] = byte(start + part.lowerBound + index) }
      }
    }
  }

  @Test("parts that any thread fills, in pages of the file or not", arguments: [true, false], [5_000, 3 << 20])
  func parts(inPlace: Bool, byteCount: Int) throws {
    let directory = try TemporaryDirectory()
    let path = directory / "tensors"
    let file = try TensorFile(creating: path, head: Self.head, byteCount: byteCount)
    // Some bytes between the head and the first part are never written.
    try Self.fill(file, from: 20, partByteCount: 12_345, inPlace: inPlace)
    try file.amend("????", by: "done")
    file.begin(20..<byteCount)
    try TensorWriter([], in: [file]).finish()
    var expected = Array("head done".utf8) + [UInt8](repeating: 0, count: 11)
    expected += (20..<byteCount).map(Self.byte)
    #expect(try [UInt8](Data(contentsOf: URL(filePath: path))) == expected)
  }

  @Test("a file that exists is not written over")
  func existing() throws {
    let directory = try TemporaryDirectory()
    _ = try directory.write(Array("old".utf8), to: "tensors")
    #expect(
      Verdict(in: directory.path) {
        _ = try TensorFile(creating: directory / "tensors", head: [], byteCount: 3)
        return ("", [])
      } == .refused("tensors: cannot be created: File exists; choose another destination"))
  }

  @Test(
    "a device that is full is an error, not a signal",
    .enabled(if: canMount, "only root can mount a small file system"),
    arguments: [true, false])
  func full(inPlace: Bool) throws {
    let directory = try TemporaryDirectory()
    try #require(mount("tmpfs", directory.path, "tmpfs", 0, "size=2m") == 0)
    defer { umount(directory.path) }
    let verdict = Verdict(in: directory.path) {
      let file = try TensorFile(creating: directory / "tensors", head: Self.head, byteCount: 4 << 20)
      try Self.fill(file, from: 20, partByteCount: 1 << 16, inPlace: inPlace)
      return ("", [])
    }
    guard case .refused(let sentence) = verdict else {
      Issue.record("\(verdict)")
      return
    }
    #expect(sentence.hasPrefix("tensors at byte "))
    #expect(
      sentence.hasSuffix(
        ": cannot be written: No space left on device; free some space and run it again; nothing was replaced"))
  }

  @Test("a file that another program cuts off while its pages are written to is refused")
  func cutOff() throws {
    let directory = try TemporaryDirectory()
    let path = directory / "tensors"
    let file = try TensorFile(creating: path, head: [], byteCount: 4 << 20)
    let verdict = Verdict(in: directory.path) {
      try file.fill(2 << 20..<4 << 20, inPlace: true) { bytes in
        #expect(truncate(path, 1 << 20) == 0)
        for index in bytes.indices { bytes[index] = 1 }
      }
      try TensorWriter([], in: [file]).finish()
      return ("", [])
    }
    #expect(
      verdict
        == .refused(
          "tensors at byte 2097152: cannot be written: the device failed, or another program made the file shorter; "
            + "nothing was replaced"))
  }
}
