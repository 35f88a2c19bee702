import Foundation
import NormFoldFormats
import Testing
import TestSupport

private typealias Z = ZstdWriter

@Suite struct ZstdTests {
  private static func bytes(of name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(filePath: Fixtures.path(name))))
  }

  @Test func expandsWhatTheProgramCompressed() throws {
    let path = Fixtures.path("pytorch/types.safetensors.zst")
    let file = try ZstdFile(decompressing: path)
    #expect(file.warnings == [])
    #expect(file.content.path == path)
    #expect(file.content.identity == FileIdentity(ofItemAt: path))
    #expect(file.content.allBytes == (try Self.bytes(of: "pytorch/types.safetensors")))
    let checkpoint = try Checkpoint(safetensors: file.content)
    #expect(checkpoint.path == path && checkpoint["scalar"]?.decoded(as: Double.self) == [-2.5])
  }

  @Test func expandsAnArchive() throws {
    let directory = try TemporaryDirectory()
    let archive = ZipWriter(records: PickleWriter.sound).archive
    let path = try directory.write(Z.frame([.raw(archive)]), to: "m.bin.zst")
    let file = try ZstdFile(decompressing: path, temporaryDirectory: directory.path)
    #expect(try Checkpoint(pytorch: file.content)["w"]?.decoded(as: Double.self) == [0, 1, 2, 3, 4, 5])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["m.bin.zst"], "nothing is left behind")
  }

  @Test func joinsFramesAndSkipsOthers() throws {
    let directory = try TemporaryDirectory()
    let frames =
      Z.skippable([1, 2, 3]) + Z.frame([.raw([10, 11]), .repeated(12, 3)]) + Z.skippable([])
      + Z.frame([.raw([13])], contentByteCount: 1) + Z.frame([.raw([])])
    let path = try directory.write(frames, to: "x.zst")
    let file = try ZstdFile(decompressing: path)
    #expect(file.content.allBytes == [10, 11, 12, 12, 12, 13])
    #expect(
      file.warnings
        == [11, 34, 51].map {
          "\(path): the frame at byte \($0) has no checksum, so damage to it may go unnoticed; compress with zstd --check"
        })
  }

  struct Defect: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let bytes: [UInt8]
    var maximumByteCount: Int?
    let message: String

    init(_ name: String, _ message: String, _ bytes: [UInt8], maximumByteCount: Int? = nil) {
      testDescription = name
      self.bytes = bytes
      self.message = message
      self.maximumByteCount = maximumByteCount
    }
  }

  private static let bomb = [Z.Block](repeating: .repeated(0, 1 << 17), count: 40)

  static let defects: [Defect] = [
    Defect(
      "empty",
      "malformed: x.zst: the file holds no compressed data;"
        + " download the file again", []),
    Defect(
      "another format",
      "malformed: x.zst at byte 0: expected a zstd file, which starts with the bytes 28 b5 2f fd;"
        + " check what the file is; its name ends in '.zst'", [0x50, 0x4B, 3, 4]),
    Defect(
      "git-lfs pointer",
      "malformed: x.zst: is a git-lfs pointer, not the file itself;"
        + " run 'git lfs pull' where it came from", Array("version https://git-lfs.github.com/spec/v1\n".utf8)),
    Defect(
      "skippable frames only",
      "malformed: x.zst: the file holds no compressed data;"
        + " download the file again", Z.skippable([1])),
    Defect(
      "skippable frame cut",
      "malformed: x.zst at byte 0: the file ends inside a skippable frame;"
        + " download the file again; it is incomplete", Array(Z.skippable([1, 2]).dropLast())),
    Defect(
      "header cut",
      "malformed: x.zst at byte 0: the file ends inside a frame header;"
        + " download the file again; it is incomplete", [0x28, 0xB5, 0x2F, 0xFD, 0xE0, 1]),
    Defect(
      "block cut",
      "malformed: x.zst at byte 11: the file ends inside the frame that starts at byte 0;"
        + " download the file again; it is incomplete", Array(Z.frame([.raw([1, 2, 3])]).dropLast())),
    Defect(
      "last block missing",
      "malformed: x.zst at byte 12: the file ends inside the frame that starts at byte 0;"
        + " download the file again; it is incomplete", Array(Z.frame([.raw([1, 2, 3]), .raw([])]).dropLast(3))),
    Defect(
      "reserved bit",
      "malformed: x.zst at byte 0: frame header: a reserved bit is set;"
        + " the file is damaged; download it again", Z.frame([.raw([1])], descriptor: 8)),
    Defect(
      "reserved block type",
      "malformed: x.zst at byte 0: the frame at byte 0 cannot be expanded: Data corruption detected;"
        + " the file is damaged; download it again", [0x28, 0xB5, 0x2F, 0xFD, 0, 0x38, 7, 0, 0]),
    Defect(
      "dictionary",
      "unsupported: x.zst at byte 0: the frame needs the dictionary 77;"
        + " compress the file again without a dictionary", [0x28, 0xB5, 0x2F, 0xFD, 1, 0x38, 77, 9, 0, 0, 1]),
    Defect(
      "window of 2 GiB",
      "malformed: x.zst at byte 0: window: expected at most 134217728 bytes, found 2147483648;"
        + " compress the file again with --long=27 or without --long", Z.frame([.raw([1])], window: 21 << 3)),
    Defect(
      "window of 144 MiB",
      "malformed: x.zst at byte 0: window: expected at most 134217728 bytes, found 150994944;"
        + " compress the file again with --long=27 or without --long", Z.frame([.raw([1])], window: 17 << 3 | 1)),
    Defect(
      "single segment of 2 GiB",
      "malformed: x.zst at byte 0: window: expected at most 134217728 bytes, found 2147483648;"
        + " compress the file again with --long=27 or without --long", Z.frame([.raw([1])], contentByteCount: 1 << 31),
      maximumByteCount: 1 << 40),
    Defect(
      "content of 2^63",
      "malformed: x.zst at byte 0: window: expected at most 134217728 bytes, found 9223372036854775808;"
        + " compress the file again with --long=27 or without --long", Z.frame([.raw([1])], contentByteCount: 1 << 63)),
    Defect(
      "more than stated",
      "malformed: x.zst at byte 0: the frame at byte 0 cannot be expanded: Data corruption detected;"
        + " the file is damaged; download it again", Z.frame([.raw([1, 2, 3])], contentByteCount: 2)),
    Defect(
      "less than stated",
      "malformed: x.zst at byte 0: the frame at byte 0 cannot be expanded: Data corruption detected;"
        + " the file is damaged; download it again", Z.frame([.raw([1, 2, 3])], contentByteCount: 4)),
    Defect(
      "trailing bytes",
      "malformed: x.zst at byte 12: 2 bytes follow the last frame;"
        + " cut the file at byte 12 if you know where they come from", Z.frame([.raw([1, 2, 3])]) + [0, 0]),
    Defect(
      "trailing start of a frame",
      "malformed: x.zst at byte 12: 3 bytes follow the last frame;"
        + " cut the file at byte 12 if you know where they come from", Z.frame([.raw([1, 2, 3])]) + [0x28, 0xB5, 0x2F]),
    Defect(
      "bomb",
      "malformed: x.zst at byte 0: the file expands to more than 1048576 bytes;"
        + " that is the limit for 166 compressed bytes; if you trust the file, expand it with zstd -d", Z.frame(bomb),
      maximumByteCount: 1 << 20),
    Defect(
      "bomb in many frames",
      "malformed: x.zst at byte 166: the file expands to more than 6291456 bytes;"
        + " that is the limit for 332 compressed bytes; if you trust the file, expand it with zstd -d",
      Z.frame(bomb) + Z.frame(bomb), maximumByteCount: 6 << 20),
    Defect(
      "stated too large",
      "malformed: x.zst at byte 0: the file expands to more than 99 bytes: a frame of 100 after 0;"
        + " that is the limit for 17 compressed bytes; if you trust the file, expand it with zstd -d",
      Z.frame([.raw([1])], contentByteCount: 100), maximumByteCount: 99),
  ]

  @Test("refuses", arguments: defects)
  func refuses(_ defect: Defect) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(defect.bytes, to: "x.zst")
    let refusal = #expect(throws: Refusal.self) {
      _ = try ZstdFile(decompressing: path, maximumByteCount: defect.maximumByteCount)
    }
    let message = refusal.map { "\($0.category): \($0.description.replacing(directory.path + "/", with: ""))" }
    #expect(message == defect.message)
  }

  @Test func verifiesTheChecksum() throws {
    let directory = try TemporaryDirectory()
    var bytes = try Self.bytes(of: "pytorch/types.safetensors.zst")
    bytes[bytes.count - 1] ^= 1
    let path = try directory.write(bytes, to: "x.zst")
    let refusal = #expect(throws: Refusal.self) { _ = try ZstdFile(decompressing: path) }
    #expect(
      refusal?.description == "\(path) at byte 0: the frame at byte 0 cannot be expanded:"
        + " Restored data doesn't match checksum; the file is damaged; download it again")
  }

  @Test func namesADirectoryThatCannotBeWritten() throws {
    let path = Fixtures.path("pytorch/types.safetensors.zst")
    let refusal = #expect(throws: Refusal.self) {
      _ = try ZstdFile(decompressing: path, temporaryDirectory: "/nonexistent")
    }
    #expect(
      refusal?.description == "/nonexistent: a temporary file cannot be created here: No such file or directory;"
        + " name a directory that can be written in TMPDIR")
  }

  @Test("survives damage", arguments: 0..<20)
  func survivesDamage(seed: Int) throws {
    let directory = try TemporaryDirectory()
    let sound = try Self.bytes(of: "pytorch/types.safetensors.zst")
    var random = SplitMix(state: UInt64(seed))
    for _ in 0..<100 {
      var bytes = sound
      // The header decides most.
      let limit = Bool.random(using: &random) ? bytes.count : 20
      bytes[Int.random(in: 0..<limit, using: &random)] = UInt8.random(in: 0...255, using: &random)
      if Int.random(in: 0..<4, using: &random) == 0 {
        bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
      }
      let path = try directory.write(bytes, to: "x.zst")
      do {
        let file = try ZstdFile(decompressing: path, maximumByteCount: 1 << 20)
        #expect(file.content.byteCount <= 1 << 20)
      } catch {
        #expect(!error.problem.isEmpty)
      }
    }
  }
}

extension MappedFile {
  fileprivate var allBytes: [UInt8] { withBytes { bytes in bytes.withUnsafeBytes { Array($0) } } }
}
