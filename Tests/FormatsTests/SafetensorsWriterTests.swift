import Foundation
import NormFoldFormats
import Testing
import TestSupport

private func write(
  _ tensors: [TensorInfo], metadata: [String: String] = [:], to path: String, piece: Int = .max,
  bytes: (TensorInfo) -> [UInt8]
) throws -> [UInt8] {
  let writer = try TensorWriter(safetensors: path, tensors: tensors, metadata: metadata)
  for info in writer.order {
    var rest = bytes(info)[...]
    while !rest.isEmpty {
      try writer.append(Array(rest.prefix(piece)))
      rest = rest.dropFirst(piece)
    }
  }
  try writer.finish()
  return try read(path)
}

private func read(_ path: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(filePath: path))) }

// MARK: Against the reference

/// What the reference writes, as stated by its own tests.
struct GoldenWrite: CustomTestStringConvertible {
  let testDescription: String
  var tensors: [TensorInfo] = []
  var metadata: [String: String] = [:]
  let header: String

  static let all: [GoldenWrite] = [
    .init(testDescription: "nothing", header: "{}      "),
    .init(
      testDescription: "no padding needed", tensors: [.init(name: "attn.0", type: .f32, shape: [1, 2, 3])],
      header: #"{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}"#),
    .init(
      testDescription: "7 spaces", tensors: [.init(name: "attn0", type: .f32, shape: [1, 1, 2, 3])],
      header: #"{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       "#),
    .init(
      testDescription: "half a byte per element", tensors: [.init(name: "attn.0", type: .f4e2m1, shape: [1, 2])],
      header: #"{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    "#),
    .init(
      testDescription: "metadata only", metadata: ["framework": "pt"],
      header: #"{"__metadata__":{"framework":"pt"}}     "#),
    // The reference's own order changes from run to run; ours is fixed.
    .init(
      testDescription: "metadata keys ascend", metadata: ["b": "2", "a": "1", "B": "3"],
      header: #"{"__metadata__":{"B":"3","a":"1","b":"2"}}      "#),
  ]
}

@Test("golden writes", arguments: GoldenWrite.all)
func goldenWrite(_ row: GoldenWrite) throws {
  let directory = try TemporaryDirectory()
  let written = try write(row.tensors, metadata: row.metadata, to: directory / "m.safetensors") {
    [UInt8](repeating: 7, count: $0.byteCount)
  }
  let data = row.tensors.reduce(0) { $0 + $1.byteCount }
  let header = Array(row.header.utf8)
  #expect(written == [UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header + [UInt8](repeating: 7, count: data))
}

@Test(
  "writes what the reference writes",
  arguments: [
    "safetensors/element-types.safetensors", "safetensors/names.safetensors", "safetensors/odd-sizes.safetensors",
    "safetensors/metadata-only.safetensors", "tiny-2x32/lnfree/model.safetensors",
    "tiny-2x32/lnfree-bf16/model.safetensors", "tiny-2x32/fakeln-safetensors/model.safetensors",
  ], [Int.max, 5])
func rewrites(_ name: String, piece: Int) throws {
  let reference = try Checkpoint(safetensors: Fixtures.path(name))
  let directory = try TemporaryDirectory()
  let metadata = reference.metadata.compactMapValues(\.string)
  let written = try write(
    // Any order but the file's, so that ours is the writer's own.
    reference.tensors.map(\.info).reversed(), metadata: metadata, to: directory / "m.safetensors", piece: piece
  ) { info in
    reference[info.name]?.withBytes { bytes in bytes.withUnsafeBytes { [UInt8]($0) } } ?? []
  }
  #expect(try written == read(Fixtures.path(name)))
}

@Test("the widest types come first, then names by their bytes") func order() throws {
  let directory = try TemporaryDirectory()
  let types = ElementType.allCases.filter { ElementType.safetensorsNames.contains($0.displayName) }
  #expect(types.count == 22)
  let writer = try TensorWriter(
    safetensors: directory / "m.safetensors",
    tensors: types.flatMap { type in
      ["b", "a", "Z", "é", "a.b"].map { TensorInfo(name: "\($0) \(type)", type: type, shape: [4]) }
    })
  let order = writer.order.map(\.name)
  #expect(order.prefix(5) == ["Z u64", "a u64", "a.b u64", "b u64", "é u64"])
  let ranks = stride(from: 0, to: order.count, by: 5).map { writer.order[$0].type.displayName }
  #expect(ranks.reversed() == ElementType.safetensorsNames)
}

extension ElementType {
  /// The reference's `enum Dtype`, top to bottom.
  fileprivate static let safetensorsNames = [
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
    "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
  ]
}

// MARK: What is not written

/// Tensors that no safetensors file, or none that we would read, can hold.
struct Unwritable: CustomTestStringConvertible {
  let testDescription: String
  let tensors: [TensorInfo]
  var metadata: [String: String] = [:]
  let verdict: Verdict

  init(_ name: String, _ tensors: [TensorInfo], metadata: [String: String] = [:], _ verdict: Verdict) {
    testDescription = name
    self.tensors = tensors
    self.metadata = metadata
    self.verdict = verdict
  }

  static let all: [Unwritable] = [
    .init(
      "block type", [.init(name: "a", type: .q8_0, shape: [32])],
      .refused("m.safetensors, 'a': safetensors has no element type Q8_0; write it as F32, F16 or BF16, or to GGUF")),
    .init(
      "name twice", [.init(name: "a", type: .f32, shape: [1]), .init(name: "a", type: .u8, shape: [1])],
      .refused("m.safetensors, 'a': two tensors have this name")),
    .init(
      "empty name", [.init(name: "", type: .f32, shape: [1])],
      .refused("m.safetensors, '': a tensor has an empty name; rename the tensor")),
    .init(
      "NUL in the name", [.init(name: "a\0", type: .f32, shape: [1])],
      .refused("m.safetensors, 'a\\u{0}': the tensor's name holds a NUL; rename the tensor")),
    .init(
      "name of 1025 bytes", [.init(name: String(repeating: "n", count: 1_025), type: .f32, shape: [1])],
      .refused(
        "m.safetensors, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the tensor's name has 1025 bytes, expected at most 1024; rename the tensor"
      )),
    .init(
      "name of the metadata", [.init(name: "__metadata__", type: .f32, shape: [1])],
      .refused("m.safetensors, '__metadata__': this name is kept for the metadata; rename the tensor")),
    .init(
      "9 axes", [.init(name: "a", type: .f32, shape: [1, 1, 1, 1, 1, 1, 1, 1, 1])],
      .refused("m.safetensors, 'a': shape: expected at most 8 axes, found 9")),
    .init(
      "half a byte", [.init(name: "a", type: .f4e2m1, shape: [1, 3])],
      .refused("m.safetensors, 'a': shape: F4 [1, 3] does not end on a whole byte")),
    .init(
      "overflow", [.init(name: "a", type: .f32, shape: [1 << 40, 1 << 40])],
      .refused("m.safetensors, 'a': shape: the size of F32 [1099511627776, 1099511627776] overflows")),
    .init(
      "overflow of the bits", [.init(name: "a", type: .f64, shape: [1 << 58])],
      .refused("m.safetensors, 'a': shape: the size of F64 [288230376151711744] overflows")),
    .init(
      "negative extent", [.init(name: "a", type: .f32, shape: [-1])],
      .refused("m.safetensors, 'a': shape: the size of F32 [-1] overflows")),
    .init(
      "overflow of the sum", (0..<16).map { .init(name: "\($0)", type: .u8, shape: [1 << 59]) },
      .refused("m.safetensors, '9': the tensors together overflow any file")),
    .init(
      "header of 100 MB", [], metadata: ["a": String(repeating: "a", count: 100_000_000)],
      .refused(
        "m.safetensors: the header needs 100000001 bytes or more, expected at most 100000000; write less metadata or fewer tensors"
      )),
  ]
}

@Test("refuses to write", arguments: Unwritable.all)
func refusesToWrite(_ row: Unwritable) throws {
  let directory = try TemporaryDirectory()
  let verdict = Verdict(in: directory.path) {
    _ = try TensorWriter(safetensors: directory / "m.safetensors", tensors: row.tensors, metadata: row.metadata)
    return ("", [])
  }
  #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
  #expect(verdict.isAccepted == FileManager.default.fileExists(atPath: directory / "m.safetensors"))
}

@Test("creates no file over another, not even through a link") func createsNew() throws {
  let directory = try TemporaryDirectory()
  try directory.write([1], to: "there")
  try FileManager.default.createSymbolicLink(atPath: directory / "link", withDestinationPath: directory / "nowhere")
  for name in ["there", "link"] {
    let verdict = Verdict(in: directory.path) {
      _ = try TensorWriter(safetensors: directory / name, tensors: [])
      return ("", [])
    }
    #expect(verdict == .refused("\(name): cannot be created: File exists; choose another destination"))
  }
  #expect(try read(directory / "there") == [1])
}
