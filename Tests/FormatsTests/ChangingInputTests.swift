import Foundation
import Glibc
import NormFoldFormats
import Testing
import TestSupport

/// What happens to a file between its opening and the last look at it.
struct InputChange: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let refusal: String?
  let change: @Sendable (String) throws -> Void

  init(_ name: String, _ refusal: String?, _ change: @escaping @Sendable (String) throws -> Void) {
    testDescription = name
    self.refusal = refusal
    self.change = change
  }

  static let waiting = "; wait until whoever writes it is done, and run it again"

  static let all: [InputChange] = [
    .init("nothing", nil) { _ in },
    .init("cut to nothing", "x: shrank from 40000 bytes to 0 while it was read\(waiting)") {
      #expect(truncate($0, 0) == 0)
    },
    .init("cut inside a page", "x: shrank from 40000 bytes to 39999 while it was read\(waiting)") {
      #expect(truncate($0, 39_999) == 0)
    },
    .init("cut, and filled with zeros", "x: was changed while it was read\(waiting)") {
      #expect(truncate($0, 0) == 0)
      #expect(truncate($0, 40_000) == 0)
    },
    .init("grown", "x: was changed while it was read\(waiting)") { #expect(truncate($0, 40_001) == 0) },
    .init("one byte written", "x: was changed while it was read\(waiting)") {
      let handle = try FileHandle(forWritingTo: URL(filePath: $0))
      try handle.write(contentsOf: [7])
      try handle.close()
    },
    .init("touched", "x: was changed while it was read\(waiting)") { #expect(utimes($0, nil) == 0) },
    // These leave the mapping and its bytes alone.
    .init("renamed over", nil) {
      try Data([1]).write(to: URL(filePath: $0 + "2"))
      #expect(rename($0 + "2", $0) == 0)
    },
    .init("removed", nil) { #expect(unlink($0) == 0) },
    .init("linked, and its mode changed", nil) {
      #expect(link($0, $0 + "2") == 0)
      #expect(chmod($0, 0o400) == 0)
    },
  ]
}

@Suite struct ChangingInputTests {
  private let bytes = (0..<40_000).map { UInt8(truncatingIfNeeded: $0) }

  @Test("A file that changes while it is mapped is refused, and never a bus error", arguments: InputChange.all)
  func changes(_ row: InputChange) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(bytes, to: "x")
    let file = try MappedFile(path: path)
    // Times of files advance in steps of a few milliseconds.
    usleep(20_000)
    try row.change(path)
    let sum = file.withBytes { $0.withUnsafeBytes { $0.reduce(0) { $0 &+ Int($1) } } }
    if row.refusal == nil { #expect(sum == bytes.reduce(0) { $0 + Int($1) }) }
    let verdict = Verdict(in: directory.path) {
      try file.requireIntact()
      return ("", [])
    }
    #expect(verdict == row.refusal.map { .refused($0) } ?? .accepted(""))
  }

  @Test("A header that is cut off while it is parsed is not called malformed") func cutWhileParsing() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(bytes, to: "x")
    let file = try MappedFile(path: path)
    let verdict = Verdict(in: directory.path) {
      try file.parse { (bytes) throws(Refusal) in
        #expect(truncate(path, 4_096) == 0)
        #expect(bytes.unsafeLoad(fromByteOffset: 8_192, as: UInt8.self) == 0)
        throw Refusal(.malformed, file: path, "there are zeros where none should be")
      }
      return ("", [])
    }
    #expect(
      verdict == .refused("x: shrank from 40000 bytes to 4096 while it was read\(InputChange.waiting)"))
  }

  @Test("Many threads may read many damaged files at once") func manyThreads() throws {
    let directory = try TemporaryDirectory()
    let files = try (0..<16).map { try MappedFile(path: directory.write(bytes, to: "\($0)")) }
    for index in files.indices { #expect(truncate(directory / "\(index)", 0) == 0) }
    DispatchQueue.concurrentPerform(iterations: 256) { index in
      let sum = files[index % 16].withBytes { $0.withUnsafeBytes { $0.reduce(0) { $0 + Int($1) } } }
      #expect(sum == 0)
    }
    for file in files { #expect(throws: Refusal.self) { try file.requireIntact() } }
  }

  /// As after an input/output error of the device: a page cannot be had, and the file looks the same.
  @Test("A page that could not be read is noticed even where the file says nothing") func unreadablePage() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(bytes, to: "x")
    let file = try MappedFile(path: path)
    var status = stat()
    #expect(stat(path, &status) == 0)
    #expect(truncate(path, 100) == 0)
    file.withBytes { #expect($0.unsafeLoad(fromByteOffset: 9_000, as: UInt8.self) == 0) }
    #expect(truncate(path, 40_000) == 0)
    let times = [status.st_atim, status.st_mtim]
    #expect(utimensat(AT_FDCWD, path, times, 0) == 0)
    let verdict = Verdict(in: directory.path) {
      try file.requireIntact()
      return ("", [])
    }
    #expect(
      verdict
        == .refused(
          "x at byte 8192: cannot be read: the device failed, or the file shrank for a moment; copy it to another disk"
        ))
  }
}
