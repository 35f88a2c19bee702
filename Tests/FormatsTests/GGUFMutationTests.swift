import Foundation
import NormFoldFormats
import Testing
import TestSupport

/// Thousands of damaged copies of a small file: each one is read or refused; none traps, hangs or reads beyond the end.
struct GGUFMutationTests {
  static let original: [UInt8] = {
    GGUFBytes(tensors: 4, pairs: 6)
      .pair("general.architecture", type: 8, []).text("gpt2")
      .pair("general.alignment", type: 4, UInt32(16))
      .pair("tokens", type: 9, []).number(Int32(8)).number(UInt64(3)).text("a").text("Ġthe").text("")
      .pair("scores", type: 9, []).number(Int32(6)).number(UInt64(2)).number(UInt64(0))
      .pair("flag", type: 7, UInt8(1))
      .pair("split.count", type: 2, UInt16(1))
      .tensor("x", [8]).tensor("q", [64, 2], type: 8, offset: 32).tensor("empty", [0, 3], offset: 176)
      .tensor("k", [256], type: 12, offset: 176)
      .data(320, alignment: 16).bytes
  }()

  /// One file that is written over in place: creating, truncating and deleting thousands of files is slow on some file
  /// systems.
  struct Scratch {
    let directory: TemporaryDirectory
    let path: String
    private let handle: FileHandle

    init() throws {
      directory = try TemporaryDirectory()
      path = try directory.write([0], to: "x.gguf")
      handle = try FileHandle(forUpdating: URL(filePath: path))
    }

    func open(_ bytes: [UInt8]) throws -> Checkpoint {
      try handle.seek(toOffset: 0)
      try handle.write(contentsOf: Data(bytes))
      try handle.truncate(atOffset: UInt64(bytes.count))
      return try Checkpoint(gguf: path)
    }
  }

  static let interesting: [UInt64] = [
    0, 1, 2, 4, 5, 9, 13, 31, 32, 64, 255, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40, 1 << 62, 1 << 63, (1 << 63) - 1,
    .max, .max - 31,
  ]

  @Test("any damage is survived", arguments: 0..<8)
  func mutations(_ seed: UInt64) throws {
    let scratch = try Scratch()
    var random = SeededGenerator(seed: seed)
    var readCount = 0
    var refusedCount = 0
    for _ in 0..<2_500 {
      var bytes = Self.original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let position = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[position] = .random(in: 0...255, using: &random)
        case 2:
          bytes.removeSubrange(position...)
          if bytes.isEmpty { bytes = [0] }
        case 3: bytes.remove(at: position)
        case 4: bytes.insert(.random(in: 0...255, using: &random), at: position)
        default:
          // A number of 4 or 8 bytes, of the kinds that overflow something.
          let value = Self.interesting.randomElement(using: &random) ?? 0
          for index in 0..<(Bool.random(using: &random) ? 8 : 4) where position + index < bytes.count {
            bytes[position + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))
          }
        }
        if bytes.isEmpty { break }
      }
      do {
        let checkpoint = try scratch.open(bytes)
        readCount += 1
        for tensor in checkpoint.tensors where tensor.info.type.isDecodable {
          _ = tensor.decoded(as: Float.self)
        }
      } catch let refusal as Refusal {
        refusedCount += 1
        if refusal.problem.isEmpty || refusal.byteOffset ?? 0 > bytes.count { Issue.record(refusal) }
      }
    }
    // Otherwise the test would be about something else.
    #expect(readCount > 50)
    #expect(refusedCount > 200)
  }

  @Test func everyTruncation() throws {
    let scratch = try Scratch()
    for count in 0..<Self.original.count {
      #expect(throws: Refusal.self) { _ = try scratch.open(Array(Self.original[..<count])) }
    }
    let whole = try scratch.open(Self.original)
    #expect(whole.tensors.count == 4)
    #expect(whole.warnings.isEmpty)
  }
}
