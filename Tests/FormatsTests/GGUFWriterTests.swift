import Foundation
import NormFoldFormats
import Testing
import TestSupport

struct GGUFWriterTests {
  /// Every type of value, in an order that is not alphabetical.
  static let metadata: [(key: String, value: GGUFValue)] = [
    ("general.architecture", .string("gpt2")), ("z.u8", .u8(255)), ("z.i8", .i8(-128)), ("z.u16", .u16(65_535)),
    ("z.i16", .i16(-32_768)), ("z.u32", .u32(.max)), ("z.i32", .i32(.min)), ("z.u64", .u64(.max)),
    ("z.i64", .i64(.min)),
    ("z.f32", .f32(0.1)), ("z.f64", .f64(0.1)), ("z.true", .bool(true)), ("z.false", .bool(false)),
    ("a.u8s", .u8s([0, 255])), ("a.i8s", .i8s([-128, 127])), ("a.u16s", .u16s([1])), ("a.i16s", .i16s([-1])),
    ("a.u32s", .u32s([])), ("a.i32s", .i32s([1, 2, 3])), ("a.u64s", .u64s([.max])), ("a.i64s", .i64s([.min])),
    ("a.f32s", .f32s([.pi, -0.0])), ("a.f64s", .f64s([.pi])), ("a.bools", .bools([true, false])),
    ("tokenizer.ggml.tokens", .strings(["<|endoftext|>", "", "Ġthe", "\n", "\0"])),
  ]

  static let tensors = [
    TensorInfo(name: "token_embd.weight", type: .f32, shape: [3, 5]),
    TensorInfo(name: "empty.weight", type: .f16, shape: [0, 4]),
    TensorInfo(name: "blk.0.ffn_up.weight", type: .q8_0, shape: [2, 64]),
    TensorInfo(name: "scalar", type: .f64, shape: []),
    TensorInfo(name: "output_norm.bias", type: .bf16, shape: [7]),
    TensorInfo(name: "four", type: .i8, shape: [2, 3, 4, 5]),
    TensorInfo(name: "last.empty", type: .i8, shape: [0]),
  ]

  static func bytes(of info: TensorInfo) -> [UInt8] {
    (0..<info.byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ info.name.utf8.count) }
  }

  /// Writes the tensors above in pieces of `piece` bytes.
  static func write(
    to path: String, metadata: [(key: String, value: GGUFValue)] = metadata, tensors: [TensorInfo] = tensors,
    alignment: Int = 32, piece: Int = 13
  ) throws {
    let writer = try TensorWriter(gguf: path, metadata: metadata, tensors: tensors, alignment: alignment)
    for info in writer.order {
      let bytes = bytes(of: info)
      for start in stride(from: 0, to: bytes.count, by: piece) {
        try bytes[start..<min(start + piece, bytes.count)].withUnsafeBytes { try writer.append($0) }
      }
    }
    try writer.finish()
  }

  @Test("what is written is read", arguments: [8, 32, 64, 4_096])
  func roundTrip(_ alignment: Int) throws {
    let directory = try TemporaryDirectory()
    let path = directory / "out.gguf"
    try Self.write(to: path, alignment: alignment)
    let header = try GGUFHeader(of: MappedFile(path: path))
    #expect(header.version == 3)
    let added: [(key: String, value: GGUFValue)] =
      alignment == 32 ? [] : [("general.alignment", .u32(UInt32(alignment)))]
    #expect(header.metadata.map(\.key) == (Self.metadata + added).map(\.key))
    #expect(header.metadata.map(\.value) == (Self.metadata + added).map(\.value))
    let checkpoint = try Checkpoint(gguf: path)
    #expect(checkpoint.warnings.isEmpty)
    #expect(checkpoint.tensors.map(\.info) == Self.tensors)
    for tensor in checkpoint.tensors {
      #expect(tensor.byteOffset % alignment == 0)
      #expect(
        tensor.withBytes { bytes in (0..<bytes.byteCount).map { bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) } }
          == Self.bytes(of: tensor.info))
    }
    // ggml wants the last tensor padded, too.
    #expect(checkpoint.files[0].byteCount % alignment == 0)
  }

  /// The bytes of a small file, as the format's description has them.
  @Test func exactBytes() throws {
    let directory = try TemporaryDirectory()
    let path = directory / "out.gguf"
    try Self.write(
      to: path, metadata: [("general.architecture", .string("gpt2")), ("n", .u16s([1, 2]))],
      tensors: [TensorInfo(name: "a", type: .f32, shape: [2, 3]), TensorInfo(name: "b", type: .q4_0, shape: [32])])
    let expected = GGUFBytes(tensors: 2, pairs: 2)
      .pair("general.architecture", type: 8, []).text("gpt2")
      .pair("n", type: 9, []).number(Int32(2)).number(UInt64(2)).number(UInt16(1)).number(UInt16(2))
      .tensor("a", [3, 2]).tensor("b", [32], type: 2, offset: 32)
      .data(0)
      .raw(Self.bytes(of: TensorInfo(name: "a", type: .f32, shape: [2, 3]))).data(0)
      .raw(Self.bytes(of: TensorInfo(name: "b", type: .q4_0, shape: [32]))).data(0)
    #expect(try [UInt8](Data(contentsOf: URL(filePath: path))) == expected.bytes)
  }

  /// stories260K.gguf was written by llama.cpp: reading it and writing it again gives the same bytes.
  @Test func rewritesAFileOfAnotherWriter() throws {
    let directory = try TemporaryDirectory()
    let source = try MappedFile(path: Fixtures.path("found/stories260K/stories260K.gguf"))
    let header = try GGUFHeader(of: source)
    let path = directory / "out.gguf"
    let writer = try TensorWriter(gguf: path, metadata: header.metadata, tensors: header.entries.map(\.info))
    for entry in header.entries {
      let tensor = Tensor(info: entry.info, file: source, byteOffset: entry.byteOffset)
      let result: Result<Void, Refusal> = tensor.withBytes { bytes in
        bytes.withUnsafeBytes { bytes in Result { () throws(Refusal) in try writer.append(bytes) } }
      }
      try result.get()
    }
    try writer.finish()
    #expect(try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: source.path)))
  }

  @Test func withoutTensors() throws {
    let directory = try TemporaryDirectory()
    try Self.write(to: directory / "out.gguf", tensors: [])
    #expect(try Checkpoint(gguf: directory / "out.gguf").tensors.isEmpty)
  }

  struct Case: CustomTestStringConvertible, Sendable {
    let name: String
    var metadata: [(key: String, value: GGUFValue)] = []
    var tensors: [TensorInfo] = []
    let refusal: String
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(
      name: "name of 64 bytes",
      tensors: [TensorInfo(name: String(repeating: "n", count: 64), type: .f32, shape: [1])],
      refusal:
        "out.gguf, '\(String(repeating: "n", count: 64))': GGUF cannot hold this tensor: the name has 64 bytes, expected at most 63"
    ),
    Case(
      name: "empty name", tensors: [TensorInfo(name: "", type: .f32, shape: [1])],
      refusal: "out.gguf, '': GGUF cannot hold this tensor: a tensor has an empty name"),
    Case(
      name: "name with NUL", tensors: [TensorInfo(name: "a\0", type: .f32, shape: [1])],
      refusal: "out.gguf, 'a\\u{0}': GGUF cannot hold this tensor: the name holds a NUL"),
    Case(
      name: "name twice",
      tensors: [TensorInfo(name: "a", type: .f32, shape: [1]), TensorInfo(name: "a", type: .f16, shape: [1])],
      refusal: "out.gguf, 'a': GGUF cannot hold this tensor: the name occurs twice"),
    Case(
      name: "a type of safetensors", tensors: [TensorInfo(name: "a", type: .f8e4m3, shape: [1])],
      refusal: "out.gguf, 'a': GGUF cannot hold this tensor: F8_E4M3 is not a type of ggml"),
    Case(
      name: "five axes", tensors: [TensorInfo(name: "a", type: .f32, shape: [1, 1, 1, 1, 1])],
      refusal: "out.gguf, 'a': GGUF cannot hold this tensor: expected at most 4 axes, found shape [1, 1, 1, 1, 1]"),
    Case(
      name: "part of a block", tensors: [TensorInfo(name: "a", type: .q4_0, shape: [32, 8])],
      refusal:
        "out.gguf, 'a': GGUF cannot hold this tensor: expected a last axis of whole Q4_0 blocks of 32, found [32, 8]"),
    Case(
      name: "empty key", metadata: [("", .u8(1))],
      refusal: "out.gguf, '': GGUF cannot hold this metadata: a key is empty"),
    Case(
      name: "key twice", metadata: [("k", .u8(1)), ("k", .u8(1))],
      refusal: "out.gguf, 'k': GGUF cannot hold this metadata: the key occurs twice"),
    Case(
      name: "key with NUL", metadata: [("k\0", .u8(1))],
      refusal: "out.gguf, 'k\\u{0}': GGUF cannot hold this metadata: the key holds a NUL"),
    Case(
      name: "split.count of another type", metadata: [("split.count", .u32(0))],
      refusal: "out.gguf, 'split.count': GGUF cannot hold this metadata: expected a value of type u16, found u32"),
  ]

  @Test("refuses what GGUF cannot hold, and creates nothing", arguments: cases)
  func refuses(_ test: Case) throws {
    let directory = try TemporaryDirectory()
    let path = directory / "out.gguf"
    let refusal = #expect(throws: Refusal.self) {
      _ = try TensorWriter(gguf: path, metadata: test.metadata, tensors: test.tensors)
    }
    #expect(refusal?.description.replacing(directory.path + "/", with: "") == test.refusal)
    #expect(refusal?.category == .unsupported)
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func refusesToOverwrite() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write([1], to: "out.gguf")
    let refusal = #expect(throws: Refusal.self) { try Self.write(to: path) }
    #expect(refusal?.category == .output)
  }
}
