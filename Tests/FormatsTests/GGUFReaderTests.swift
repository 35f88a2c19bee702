import NormFoldFormats
import Testing
import TestSupport

/// A file that a reader must refuse, with the whole sentence that it must say.
struct Defect: CustomTestStringConvertible, Sendable {
  let name: String
  let bytes: [UInt8]
  let category: Refusal.Category
  let refusal: String

  /// - Parameter refusal: in pieces.
  init(_ name: String, _ bytes: GGUFBytes, _ refusal: String...) {
    self.init(name, bytes, .malformed, refusal.joined())
  }

  init(_ name: String, _ bytes: GGUFBytes, _ category: Refusal.Category, _ refusal: String...) {
    self.name = name
    self.bytes = bytes.bytes
    self.category = category
    self.refusal = refusal.joined()
  }

  var testDescription: String { name }
}

struct GGUFReaderTests {
  typealias File = GGUFBytes

  static let damaged = "; the file is incomplete or damaged; download it again"

  static let headers: [Defect] = [
    Defect("empty file", File(), "x.gguf at byte 0: magic: expected 4 bytes, found 0", damaged),
    Defect(
      "three bytes", File().raw([0x47, 0x47, 0x55]), "x.gguf at byte 0: magic: expected 4 bytes, found 3", damaged),
    Defect(
      "magic FUGG", File(magic: "FUGG"),
      "x.gguf at byte 0: magic: expected the bytes 47 47 55 46 (\"GGUF\"), found 46 55 47 47",
      "; this is not a GGUF file, or its start is damaged"),
    Defect(
      "the format before GGUF", File(magic: "tjgg", version: 3), .unsupported,
      "x.gguf at byte 0: magic: expected the bytes 47 47 55 46 (\"GGUF\"), found 74 6a 67 67",
      "; this is a ggml file from before August 2023; convert the original model again"),
    Defect(
      "git-lfs pointer", File().raw(Array("version https://git-lfs.github.com/spec/v1\noid sha256:00\n".utf8)),
      "x.gguf: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from"),
    Defect(
      "version 0", File(version: 0),
      "x.gguf at byte 4: version: expected 2 or 3, found 0; the file is damaged; download it again"),
    Defect(
      "version 1", File(version: 1), .unsupported,
      "x.gguf at byte 4: version: expected 2 or 3, found 1, whose counts are 32 bits wide",
      "; convert the original model again; llama.cpp dropped this version, too"),
    Defect(
      "version 4", File(version: 4), .unsupported,
      "x.gguf at byte 4: version: expected 2 or 3, found 4; use a newer version of this tool"),
    Defect(
      "big-endian version 3", File(version: UInt32(3).byteSwapped), .unsupported,
      "x.gguf at byte 4: version: expected 2 or 3, found 3 in big-endian order: the file is for a",
      " big-endian host; convert it with gguf-py's gguf_convert_endian.py"),
    Defect(
      "no counts", File().raw(Array("GGUF".utf8)).number(UInt32(3)),
      "x.gguf at byte 8: tensor count: expected 8 bytes, found 0", damaged),
    Defect(
      "tensor count −1", File(tensors: -1), "x.gguf at byte 8: tensor count: expected 0 or more, found -1", damaged),
    Defect(
      "tensor count 2^63 − 1", File(tensors: .max),
      "x.gguf at byte 8: tensor count: expected at most 0 in what is left of the file, found", " 9223372036854775807",
      damaged),
    Defect(
      "one tensor, no bytes", File(tensors: 1),
      "x.gguf at byte 8: tensor count: expected at most 0 in what is left of the file, found 1", damaged),
    Defect("pair count −1", File(pairs: -1), "x.gguf at byte 16: pair count: expected 0 or more, found -1", damaged),
    Defect(
      "pair count 2^63 − 1", File(pairs: .max),
      "x.gguf at byte 16: pair count: expected at most 0 in what is left of the file, found", " 9223372036854775807",
      damaged),
    Defect(
      "one pair, no bytes", File(pairs: 1),
      "x.gguf at byte 16: pair count: expected at most 0 in what is left of the file, found 1", damaged),
  ]

  static let pairs: [Defect] = [
    Defect(
      "key length −1", File(pairs: 1).number(Int64(-1)).raw([UInt8](repeating: 97, count: 40)),
      "x.gguf at byte 24: length of key 0: expected at most 40 bytes, found 18446744073709551615", damaged),
    Defect(
      "key longer than the file", File(pairs: 1).number(UInt64(40)).raw([UInt8](repeating: 97, count: 30)),
      "x.gguf at byte 24: length of key 0: expected at most 30 bytes, found 40", damaged),
    Defect(
      "empty key", File(pairs: 1).pair("", type: 4, UInt32(1)),
      "x.gguf at byte 24: key 0 is empty; write the file again"),
    Defect(
      "key with NUL", File(pairs: 1).pair("a\0b", type: 4, UInt32(1)),
      "x.gguf at byte 24, 'a\\u{0}b': the key holds a NUL, where other readers would end it", "; write the file again"),
    Defect(
      "key not UTF-8", File(pairs: 1).number(UInt64(2)).raw([0xC3, 0x28]).number(Int32(4)).number(UInt32(1)),
      "x.gguf at byte 32: key 0: the bytes are not UTF-8; write the file again with UTF-8 text"),
    Defect(
      "key of 65,536 bytes", File(pairs: 1).pair(String(repeating: "k", count: 65_536), type: 4, UInt32(1)),
      "x.gguf at byte 24: length of key 0: expected at most 65535 bytes, found 65536"),
    Defect(
      "key twice", File(pairs: 2).pair("k", type: 4, UInt32(1)).pair("k", type: 4, UInt32(1)),
      "x.gguf at byte 41, 'k': the key occurs twice; a key must have one value; write the file again"),
    Defect(
      "value type 13", File(pairs: 1).pair("key", type: 13, UInt32(1)),
      "x.gguf at byte 35, 'key': value type: expected 0 to 12, found 13", damaged),
    Defect(
      "value type −1", File(pairs: 1).pair("key", type: -1, UInt32(1)),
      "x.gguf at byte 35, 'key': value type: expected 0 to 12, found -1", damaged),
    Defect(
      "value cut off", File(pairs: 1).pair("key", type: 12, UInt32(1)),
      "x.gguf at byte 39, 'key': value: expected 8 bytes, found 4", damaged),
    Defect(
      "string longer than the file", File(pairs: 1).pair("key", type: 8, UInt64(1) << 62),
      "x.gguf at byte 39, 'key': length of value: expected at most 0 bytes, found 4611686018427387904", damaged),
    Defect(
      "string not UTF-8", File(pairs: 1).pair("key", type: 8, [1, 0, 0, 0, 0, 0, 0, 0, 0xFF]),
      "x.gguf at byte 47, 'key': value: the bytes are not UTF-8; write the file again with UTF-8 text"),
    Defect(
      "bool 2", File(pairs: 1).pair("key", type: 7, UInt8(2)),
      "x.gguf at byte 39, 'key': value: expected a bool, 0 or 1, found 2; write the file again"),
    Defect(
      "array of arrays", File(pairs: 1).pair("key", type: 9, []).number(Int32(9)).number(UInt64(0)),
      "x.gguf at byte 39, 'key': element type: arrays of arrays are not allowed",
      "; flatten it and write the file again"),
    Defect(
      "array of type 13, empty", File(pairs: 1).pair("key", type: 9, []).number(Int32(13)).number(UInt64(0)),
      "x.gguf at byte 39, 'key': element type: expected 0 to 12, found 13", damaged),
    Defect(
      "array of 2^62", File(pairs: 1).pair("key", type: 9, []).number(Int32(4)).number(UInt64(1) << 62),
      "x.gguf at byte 43, 'key': element count: expected at most 0 in what is left of the file, found",
      " 4611686018427387904", damaged),
    Defect(
      "array of −1", File(pairs: 1).pair("key", type: 9, []).number(Int32(0)).number(Int64(-1)),
      "x.gguf at byte 43, 'key': element count: expected at most 0 in what is left of the file, found",
      " 18446744073709551615", damaged),
    Defect(
      "array longer than the file",
      File(pairs: 1).pair("key", type: 9, []).number(Int32(4)).number(UInt64(3)).raw([UInt8](repeating: 0, count: 11)),
      "x.gguf at byte 43, 'key': element count: expected at most 2 in what is left of the file, found 3", damaged),
    Defect(
      "array of strings longer than the file",
      File(pairs: 1).pair("key", type: 9, []).number(Int32(8)).number(UInt64(2)).text("a"),
      "x.gguf at byte 43, 'key': element count: expected at most 1 in what is left of the file, found 2", damaged),
    Defect(
      "array of strings whose second is too long",
      File(pairs: 1).pair("key", type: 9, []).number(Int32(8)).number(UInt64(2)).text("abcd").number(UInt64(9)),
      "x.gguf at byte 63, 'key': length of element 1: expected at most 0 bytes, found 9", damaged),
    Defect(
      "array of bools with a 2",
      File(pairs: 1).pair("key", type: 9, []).number(Int32(7)).number(UInt64(3)).raw([1, 0, 2]),
      "x.gguf at byte 53, 'key': element 2: expected a bool, 0 or 1, found 2; write the file again"),
    Defect(
      "array without a count", File(pairs: 1).pair("key", type: 9, []).number(Int32(7)),
      "x.gguf at byte 43, 'key': element count: expected 8 bytes, found 0", damaged),
    Defect(
      "alignment 0", File(pairs: 1).pair("general.alignment", type: 4, UInt32(0)),
      "x.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 0",
      "; write the file again, aligned to 32"),
    Defect(
      "alignment 13", File(pairs: 1).pair("general.alignment", type: 4, UInt32(13)),
      "x.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 13",
      "; write the file again, aligned to 32"),
    Defect(
      "alignment 2^31", File(pairs: 1).pair("general.alignment", type: 4, UInt32(1) << 31),
      "x.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found",
      " 2147483648; write the file again, aligned to 32"),
    Defect(
      "alignment 2^21", File(pairs: 1).pair("general.alignment", type: 4, UInt32(1) << 21),
      "x.gguf at byte 53, 'general.alignment': expected a power of two from 1 to 1048576, found 2097152",
      "; write the file again, aligned to 32"),
    Defect(
      "alignment as i32", File(pairs: 1).pair("general.alignment", type: 5, UInt32(32)),
      "x.gguf at byte 49, 'general.alignment': value type: expected u32, found i32; write the file again"),
    Defect(
      "split.count as u32", File(pairs: 1).pair("split.count", type: 4, UInt32(2)),
      "x.gguf at byte 43, 'split.count': value type: expected u16, found u32; write the file again"),
  ]

  /// A file of one tensor.
  static func one(
    _ ne: [Int64], type: Int32 = 0, offset: UInt64 = 0, rank: UInt32? = nil, data: Int = 0
  ) -> GGUFBytes {
    File(tensors: 1).tensor("x", ne, type: type, offset: offset, rank: rank).data(data)
  }

  /// A file of two F32 tensors of 8 and 4 elements, the second one where it is told.
  static func two(_ second: String = "y", at offset: UInt64, data: Int = 96) -> GGUFBytes {
    File(tensors: 2).tensor("x", [8]).tensor(second, [4], offset: offset).data(data)
  }

  static let tensors: [Defect] = [
    Defect(
      "name length −1", File(tensors: 1).number(Int64(-1)).raw([UInt8](repeating: 97, count: 40)),
      "x.gguf at byte 24: length of name of tensor 0: expected at most 40 bytes, found 18446744073709551615", damaged),
    Defect(
      "empty name", File(tensors: 1).tensor("", [4]).data(32),
      "x.gguf at byte 24: the name of tensor 0 is empty; name the tensor and write the file again"),
    Defect(
      "name of 64 bytes", File(tensors: 1).tensor(String(repeating: "n", count: 64), [4]).data(32),
      "x.gguf at byte 24, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the tensor's",
      " name has 64 bytes, expected at most 63; rename the tensor and write the file again"),
    Defect(
      "name with NUL", File(tensors: 1).tensor("a\0b", [4]).data(32),
      "x.gguf at byte 24, 'a\\u{0}b': the tensor's name holds a NUL, where other readers would end it",
      "; rename the tensor and write the file again"),
    Defect(
      "name not UTF-8", File(tensors: 1).number(UInt64(1)).raw([0xFF]).number(UInt32(0)).data(64),
      "x.gguf at byte 32: name of tensor 0: the bytes are not UTF-8; write the file again with UTF-8 text"),
    Defect(
      "name twice", two("x", at: 32),
      "x.gguf at byte 57, 'x': the name occurs twice; a name must mean one tensor; write the file again"),
    Defect(
      "rank 5", one([1, 1, 1, 1, 1], data: 32), "x.gguf at byte 33, 'x': rank: expected at most 4, found 5", damaged),
    Defect(
      "rank 2^32 − 1", one([1], rank: .max, data: 32),
      "x.gguf at byte 33, 'x': rank: expected at most 4, found 4294967295", damaged),
    Defect(
      "extent −1", one([4, -1], data: 32), "x.gguf at byte 45, 'x': ne[1]: expected 0 or more, found -1", damaged),
    Defect(
      "extents cut off", File(tensors: 1).text("x").number(UInt32(4)).raw([UInt8](repeating: 1, count: 20)),
      "x.gguf at byte 53, 'x': ne[2]: expected 8 bytes, found 4", damaged),
    Defect(
      "too many elements", one([4 * 0x7FFF_FFFF, 4 * 0x7FFF_FFFF]),
      "x.gguf at byte 37, 'x': shape: [8589934588, 8589934588] has more elements than 63 bits can count"),
    Defect(
      "too many elements but for a zero", one([1 << 40, 1 << 40, 0]),
      "x.gguf at byte 37, 'x': shape: [0, 1099511627776, 1099511627776] has more elements than 63 bits can", " count"),
    Defect(
      "too many bytes", one([1 << 61], type: 27),
      "x.gguf at byte 37, 'x': shape: the size of I64 [2305843009213693952] overflows"),
    Defect(
      "padding wraps", one([4, (1 << 30) - 1, (1 << 30) + 1]),
      "x.gguf at byte 37, 'x': shape: the size of F32 [1073741825, 1073741823, 4] overflows"),
    Defect(
      "sum of sizes wraps",
      File(tensors: 2).tensor("x", [0x7FFF_FFFF_FFFF_FFC0 / 8], type: 24).tensor(
        "y", [0x7FFF_FFFF_FFFF_FFC0 / 8], type: 24, offset: 0x7FFF_FFFF_FFFF_FFC0),
      "x.gguf at byte 90, 'x': expected 1152921504606846968 bytes of data, found 0",
      "; download the file again; it is incomplete"),
    Defect(
      "sum of sizes wraps, as upstream has it",
      File(tensors: 2).tensor("x", [0x7FFF_FFFF_FFFF_FFC0], type: 24).tensor(
        "y", [0x7FFF_FFFF_FFFF_FFC0], type: 24, offset: 0x7FFF_FFFF_FFFF_FFC0),
      "x.gguf at byte 37, 'x': shape: the size of I8 [9223372036854775744] overflows"),
    Defect(
      "type −1", one([4], type: -1, data: 32), "x.gguf at byte 45, 'x': type: expected 0 to 42, found -1", damaged),
    Defect(
      "removed type 4", one([32], type: 4, data: 32), .unsupported,
      "x.gguf at byte 45, 'x': type 4 was removed from ggml (Q4_2)",
      "; quantise the original model again, to Q4_0 for example"),
    Defect(
      "removed type 31", one([32], type: 31, data: 32), .unsupported,
      "x.gguf at byte 45, 'x': type 31 was removed from ggml (Q4_0_4_4)",
      "; quantise the original model again, to Q4_0 for example"),
    Defect(
      "newer type 43", one([32], type: 43, data: 32), .unsupported,
      "x.gguf at byte 45, 'x': type 43 is newer than this tool, which knows 0 to 42",
      "; quantise the original model to a type such as Q8_0, or convert it to F16"),
    Defect(
      "part of a block", one([48, 2], type: 8, data: 128),
      "x.gguf at byte 37, 'x': shape: expected a last axis of whole Q8_0 blocks of 32, found [2, 48]"),
    Defect(
      "scalar of a block type", one([], type: 2, data: 32),
      "x.gguf at byte 37, 'x': shape: expected a last axis of whole Q4_0 blocks of 32, found []"),
    Defect(
      "offset 2^64 − 1", one([4], offset: .max, data: 32),
      "x.gguf at byte 49, 'x': offset: expected 0, as the first tensor, found 18446744073709551615, which",
      " leaves a gap; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "gap before the first", one([4], offset: 32, data: 64),
      "x.gguf at byte 49, 'x': offset: expected 0, as the first tensor, found 32, which leaves a gap",
      "; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "gap", two(at: 64, data: 96),
      "x.gguf at byte 82, 'y': offset: expected 32, after 'x', found 64, which leaves a gap",
      "; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "overlap", two(at: 16),
      "x.gguf at byte 82, 'y': offset: expected 32, after 'x', found 16, which overlaps an earlier tensor",
      " or is out of order; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "two tensors at one offset", two(at: 0),
      "x.gguf at byte 82, 'y': offset: expected 32, after 'x', found 0, which overlaps an earlier tensor",
      " or is out of order; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "out of order",
      File(tensors: 2).tensor("x", [8], offset: 32).tensor("y", [8], offset: 0).data(64),
      "x.gguf at byte 49, 'x': offset: expected 0, as the first tensor, found 32, which leaves a gap",
      "; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "packed with alignment 1, said to be 32",
      File(tensors: 2).tensor("x", [3]).tensor("y", [4], offset: 12).data(64),
      "x.gguf at byte 82, 'y': offset: expected 32, after 'x', found 12, which overlaps an earlier tensor",
      " or is out of order; write the file again; its tensors must follow each other, aligned to 32 bytes"),
    Defect(
      "no data", one([4]), "x.gguf at byte 64, 'x': expected 16 bytes of data, found 0; download the file again",
      "; it is incomplete"),
    Defect(
      "no data, header not padded", File(tensors: 1).tensor("x", [4]),
      "x.gguf at byte 57, 'x': expected 16 bytes of data, found 0; download the file again", "; it is incomplete"),
    Defect(
      "one byte short", two(at: 32, data: 47),
      "x.gguf at byte 128, 'y': expected 16 bytes of data, found 15; download the file again",
      "; it is incomplete (the last whole tensor is 'x')"),
    Defect(
      "offset cut off", File(tensors: 1).text("abcdefgh").number(UInt32(0)).number(Int32(0)).number(UInt32(0)),
      "x.gguf at byte 48, 'abcdefgh': offset: expected 8 bytes, found 4", damaged),
  ]

  @Test("refuses", arguments: headers + pairs + tensors)
  func refuses(_ defect: Defect) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(defect.bytes, to: "x.gguf")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(gguf: path) }
    #expect(refusal?.description.replacing(directory.path + "/", with: "") == defect.refusal)
    #expect(refusal?.category == defect.category)
  }

  /// A file that a reader must accept; what it then holds.
  struct Valid: CustomTestStringConvertible, Sendable {
    let name: String
    let bytes: [UInt8]
    let shapes: [String: [Int]]
    let warnings: [String]

    init(_ name: String, _ bytes: GGUFBytes, _ shapes: [String: [Int]], _ warnings: String...) {
      self.name = name
      self.bytes = bytes.bytes
      self.shapes = shapes
      self.warnings = warnings
    }

    var testDescription: String { name }
  }

  static let valid: [Valid] = [
    Valid("nothing", File(version: 3), [:]),
    Valid("nothing, version 2", File(version: 2), [:]),
    Valid("a pair", File(pairs: 1).pair("key", type: 4, UInt32(1)), [:]),
    Valid("a pair, padded", File(pairs: 1).pair("key", type: 4, UInt32(1)).data(0), [:]),
    Valid(
      "a pair and 256 bytes", File(pairs: 1).pair("key", type: 4, UInt32(1)).data(256), [:],
      "x.gguf: trailing bytes are ignored: 256 after the header of a file without tensors"),
    Valid("a zero extent", one([4, 0]), ["x": [0, 4]]),
    Valid("a zero extent behind the end of the file", File(tensors: 1).tensor("x", [0]), ["x": [0]]),
    Valid("a zero extent of blocks", one([0], type: 2), ["x": [0]]),
    Valid("a scalar", one([], data: 32), ["x": []]),
    Valid("four axes, innermost first", one([5, 4, 3, 2], data: 480), ["x": [2, 3, 4, 5]]),
    Valid("two tensors", two(at: 32, data: 64), ["x": [8], "y": [4]]),
    Valid("the last tensor not padded", two(at: 32, data: 48), ["x": [8], "y": [4]]),
    Valid(
      "trailing bytes", two(at: 32, data: 65), ["x": [8], "y": [4]],
      "x.gguf: trailing bytes are ignored: 1 after the last tensor, 'y'"),
    Valid(
      "alignment 1",
      File(tensors: 2, pairs: 1).pair("general.alignment", type: 4, UInt32(1)).tensor("x", [3])
        .tensor("y", [1], offset: 12).data(16, alignment: 1), ["x": [3], "y": [1]]),
    Valid(
      "alignment 64",
      File(tensors: 2, pairs: 1).pair("general.alignment", type: 4, UInt32(64)).tensor("x", [3])
        .tensor("y", [1], offset: 64).data(128, alignment: 64), ["x": [3], "y": [1]]),
    Valid("a block type", one([64, 2], type: 8, data: 160), ["x": [2, 64]]),
    Valid("a type that is not decodable", one([256], type: 16, data: 96), ["x": [256]]),
    Valid("a name of 63 bytes", File(tensors: 1).tensor(longName, [8]).data(32), [longName: [8]]),
  ]

  static let longName = String(repeating: "n", count: 63)

  @Test("accepts", arguments: valid)
  func accepts(_ valid: Valid) throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint(gguf: directory.write(valid.bytes, to: "x.gguf"))
    #expect(checkpoint.container == .gguf)
    #expect(Dictionary(uniqueKeysWithValues: checkpoint.tensors.map { ($0.name, $0.shape) }) == valid.shapes)
    #expect(checkpoint.warnings.map { $0.replacing(directory.path + "/", with: "") } == valid.warnings)
    for tensor in checkpoint.tensors {
      #expect(tensor.withBytes { $0.byteCount } == tensor.info.byteCount)
      if tensor.info.type.isDecodable { #expect(tensor.decoded(as: Float.self).count == tensor.info.elementCount) }
    }
  }

  @Test func dataIsWhereTheOffsetsSay() throws {
    let directory = try TemporaryDirectory()
    let file = Self.File(tensors: 2).tensor("x", [3], type: 24).tensor("y", [2, 2], type: 24, offset: 32).data(64)
    let checkpoint = try Checkpoint(gguf: directory.write(file.bytes, to: "x.gguf"))
    #expect(checkpoint["x"]?.decoded(as: Float.self) == [0, 1, 2])
    #expect(checkpoint["y"]?.decoded(as: Float.self) == [32, 33, 34, 35])
  }

  @Test func metadataOfEveryType() throws {
    let directory = try TemporaryDirectory()
    let file = Self.File(pairs: 14)
      .pair("u8", type: 0, UInt8(200)).pair("i8", type: 1, Int8(-100)).pair("u16", type: 2, UInt16(60_000))
      .pair("i16", type: 3, Int16(-30_000)).pair("u32", type: 4, UInt32.max).pair("i32", type: 5, Int32.min)
      .pair("f32", type: 6, Float(0.1).bitPattern).pair("true", type: 7, UInt8(1)).pair("false", type: 7, UInt8(0))
      .pair("string", type: 8, []).text("Grüße\0!").pair("u64", type: 10, UInt64.max).pair("i64", type: 11, Int64.min)
      .pair("f64", type: 12, Double(0.1).bitPattern).pair("u64 as Int", type: 10, UInt64(Int.max))
    let metadata = try Checkpoint(gguf: directory.write(file.bytes, to: "x.gguf")).metadata
    #expect(
      metadata == [
        "u8": .integer(200), "i8": .integer(-100), "u16": .integer(60_000), "i16": .integer(-30_000),
        "u32": .integer(4_294_967_295), "i32": .integer(-2_147_483_648), "f32": .double(Double(Float(0.1))),
        "true": .bool(true), "false": .bool(false), "string": .string("Grüße\0!"), "u64": .large(.max),
        "i64": .integer(.min), "f64": .double(0.1), "u64 as Int": .integer(.max),
      ])
  }

  @Test func arraysKeepTheirTypes() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(
      Self.File(pairs: 4)
        .pair("u16", type: 9, []).number(Int32(2)).number(UInt64(2)).number(UInt16(1)).number(UInt16(65_535))
        .pair("bool", type: 9, []).number(Int32(7)).number(UInt64(3)).raw([1, 0, 1])
        .pair("string", type: 9, []).number(Int32(8)).number(UInt64(2)).text("").text("Ġthe")
        .pair("empty", type: 9, []).number(Int32(12)).number(UInt64(0)).bytes, to: "x.gguf")
    let header = try GGUFHeader(of: MappedFile(path: path))
    #expect(header.metadata.map(\.key) == ["u16", "bool", "string", "empty"])
    #expect(
      header.metadata.map(\.value) == [
        .u16s([1, 65_535]), .bools([true, false, true]), .strings(["", "Ġthe"]), .f64s([]),
      ])
    #expect(try Checkpoint(gguf: path).metadata["string"] == .array([.string(""), .string("Ġthe")]))
  }

  @Test func arraysHaveALimitOverTheWholeFile() throws {
    let directory = try TemporaryDirectory()
    let half = [UInt8](repeating: 0, count: (1 << 23) + 1)
    var file = Self.File(pairs: 2)
    for key in ["a", "b"] {
      file = file.pair(key, type: 9, []).number(Int32(0)).number(UInt64(half.count)).raw(half)
    }
    let path = try directory.write(file.bytes, to: "x.gguf")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(gguf: path) }
    #expect(refusal?.category == .unsupported)
    #expect(
      refusal?.problem == "element count: expected at most 16777216 elements in all arrays together, found 16777218")
  }

  /// A LLaMA that other people trained, quantised and published.
  @Test func stories260K() throws {
    let checkpoint = try Checkpoint(gguf: Fixtures.path("found/stories260K/stories260K.gguf"))
    #expect(checkpoint.tensors.count == 48)
    #expect(checkpoint.metadata.count == 19)
    #expect(checkpoint.warnings.isEmpty)
    #expect(checkpoint.metadata["general.architecture"] == .string("llama"))
    #expect(checkpoint.metadata["llama.context_length"] == .integer(2_048))
    #expect(checkpoint.metadata["llama.attention.layer_norm_rms_epsilon"]?.double == Double(Float(1e-5)))
    #expect(checkpoint.metadata["tokenizer.ggml.tokens"]?.array?.count == 512)
    #expect(checkpoint.metadata["tokenizer.ggml.tokens"]?.array?.first == .string("<unk>"))
    #expect(checkpoint.metadata["tokenizer.ggml.padding_token_id"] == .integer(4_294_967_295))
    #expect(checkpoint["token_embd.weight"]?.shape == [512, 64])
    #expect(checkpoint["blk.0.attn_k.weight"]?.shape == [32, 64])
    #expect(checkpoint["blk.0.attn_k.weight"]?.info.type == .f32)
  }
}
