import Foundation
import NormFoldFormats
import Testing
import TestSupport

/// An index beside shards, `x-1.safetensors` with a and b and `x-2.safetensors` with c, each F32 [2].
struct IndexCase: CustomTestStringConvertible {
  let testDescription: String
  let index: String
  /// What else to do in the directory.
  var arrange: @Sendable (TemporaryDirectory) throws -> Void = { _ in }
  let verdict: Verdict

  init(
    _ name: String, _ index: String, arrange: @escaping @Sendable (TemporaryDirectory) throws -> Void = { _ in },
    _ verdict: Verdict
  ) {
    testDescription = name
    self.index = index
    self.arrange = arrange
    self.verdict = verdict
  }
}

private let one = "x-1.safetensors"
private let two = "x-2.safetensors"
private let maps = "\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\",\"c\":\"x-2.safetensors\""

private func link(_ name: String, to target: String, in directory: TemporaryDirectory) throws {
  try? FileManager.default.removeItem(atPath: directory / name)
  try FileManager.default.createSymbolicLink(atPath: directory / name, withDestinationPath: target)
}

private func write(_ names: [String], to name: String, in directory: TemporaryDirectory) throws {
  try? FileManager.default.removeItem(atPath: directory / name)
  let writer = try TensorWriter(
    safetensors: directory / name, tensors: names.map { .init(name: $0, type: .f32, shape: [2]) })
  for _ in writer.order { try writer.append([0, 0, 0x80, 0x3F, 0, 0, 0, 0x40]) }
  try writer.finish()
}

extension IndexCase {
  static let all: [IndexCase] = [
    .init(
      "valid", "{\"metadata\":{\"total_size\":24},\"weight_map\":{\(maps)}}",
      .accepted("a F32 [2], b F32 [2], c F32 [2]")),
    .init("no metadata", "{\"weight_map\":{\(maps)}}", .accepted("a F32 [2], b F32 [2], c F32 [2]")),
    .init(
      "wrong total_size", "{\"metadata\":{\"total_size\":25},\"weight_map\":{\(maps)}}",
      .accepted(
        "a F32 [2], b F32 [2], c F32 [2]",
        warnings: ["x.safetensors.index.json: total_size says 25 bytes, the shards hold 24"])),
    .init(
      "total_size as the float that old tools wrote", "{\"metadata\":{\"total_size\":24.0},\"weight_map\":{\(maps)}}",
      .accepted("a F32 [2], b F32 [2], c F32 [2]")),
    .init(
      "empty file", "",
      .refused("x.safetensors.index.json at byte 0: not valid JSON: expected a value, found the end of the text")),
    .init(
      "not JSON", "weight_map",
      .refused("x.safetensors.index.json at byte 0: not valid JSON: expected a value, found 'w'")),
    .init(
      "array", "[]", .refused("x.safetensors.index.json, 'weight_map': expected an object of file names, found nothing")
    ),
    .init(
      "no weight_map", "{}",
      .refused("x.safetensors.index.json, 'weight_map': expected an object of file names, found nothing")),
    .init(
      "weight_map an array", "{\"weight_map\":[\"\(one)\"]}",
      .refused("x.safetensors.index.json, 'weight_map': expected an object of file names, found an array")),
    .init(
      "weight_map empty", "{\"weight_map\":{}}", .refused("x.safetensors.index.json, 'weight_map': names no tensor")),
    .init(
      "file name a number", "{\"weight_map\":{\"a\":1}}",
      .refused("x.safetensors.index.json at byte 15, 'a': expected a file name, found 1")),
    .init(
      "tensor named twice", "{\"weight_map\":{\(maps),\"a\":\"\(two)\"}}",
      .refused(
        "x.safetensors.index.json at byte 81: the key 'a' occurs twice; a name must mean one thing; write the file again"
      )),
    .init(
      "up and away", "{\"weight_map\":{\"a\":\"../x-1.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, '../x-1.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "up in the middle", "{\"weight_map\":{\"a\":\"y/../x-1.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, 'y/../x-1.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "absolute path", "{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, '/etc/x.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "drive path", "{\"weight_map\":{\"a\":\"C:\\\\x.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, 'C:\\x.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "drive without slash", "{\"weight_map\":{\"a\":\"C:x.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, 'C:x.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "NUL in the file name", "{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, 'x\\u{0}.safetensors': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "empty file name", "{\"weight_map\":{\"a\":\"\"}}",
      .refused(
        "x.safetensors.index.json, '': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "another kind of file", "{\"weight_map\":{\"a\":\"config.json\"}}",
      .refused(
        "x.safetensors.index.json, 'config.json': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "suffix in capitals", "{\"weight_map\":{\"a\":\"x-1.SAFETENSORS\"}}",
      .refused(
        "x.safetensors.index.json, 'x-1.SAFETENSORS': a shard must be a plain file name that ends in '.safetensors'; an index may not lead out of its directory"
      )),
    .init(
      "missing shard", "{\"weight_map\":{\(maps),\"d\":\"x-3.safetensors\"}}",
      .refused(
        "x.safetensors.index.json, 'x-3.safetensors': this shard is missing; download it into the directory of the index"
      )),
    .init(
      "wrong shard", "{\"weight_map\":{\"a\":\"\(two)\",\"b\":\"\(one)\",\"c\":\"\(two)\"}}",
      .refused(
        "x.safetensors.index.json, 'a': expected in x-2.safetensors, found in x-1.safetensors; the index and the shards are of different checkpoints; download them again"
      )),
    .init(
      "tensor in no shard", "{\"weight_map\":{\(maps),\"d\":\"\(one)\"}}",
      .accepted(
        "a F32 [2], b F32 [2], c F32 [2]",
        warnings: ["x.safetensors.index.json: names 1 tensor that no shard holds: d"])),
    .init(
      "tensors in no shard",
      "{\"metadata\":{\"total_size\":24},\"weight_map\":{\(maps),\"h\":\"\(one)\",\"d\":\"\(one)\",\"f\":\"\(two)\",\"e\":\"\(two)\",\"g\":\"\(two)\"}}",
      .accepted(
        "a F32 [2], b F32 [2], c F32 [2]",
        warnings: ["x.safetensors.index.json: names 5 tensors that no shard holds: d, e, f and 2 more"])),
    .init(
      "a tensor in no shard, another in the wrong one",
      "{\"weight_map\":{\"a\":\"\(one)\",\"b\":\"\(two)\",\"c\":\"\(two)\",\"d\":\"\(one)\"}}",
      .refused(
        "x.safetensors.index.json, 'b': expected in x-2.safetensors, found in x-1.safetensors; the index and the shards are of different checkpoints; download them again"
      )),
    .init(
      "tensor in a shard only", "{\"weight_map\":{\"a\":\"\(one)\",\"c\":\"\(two)\"}}",
      .refused(
        "x-1.safetensors, 'b': this tensor is not in x.safetensors.index.json; the index and the shards are of different checkpoints; download them again"
      )),
    .init(
      "tensor in two shards", "{\"weight_map\":{\(maps)}}", arrange: { try write(["a", "c"], to: two, in: $0) },
      .refused(
        "x.safetensors.index.json, 'a': expected in x-1.safetensors, found in x-2.safetensors; the index and the shards are of different checkpoints; download them again"
      )),
    .init(
      "shard is a directory", "{\"weight_map\":{\(maps)}}",
      arrange: {
        try FileManager.default.removeItem(atPath: $0 / two)
        try FileManager.default.createDirectory(atPath: $0 / two, withIntermediateDirectories: false)
      }, .refused("x-2.safetensors: expected a file, found a directory")),
    .init(
      "shard damaged", "{\"weight_map\":{\(maps)}}", arrange: { try $0.write([1, 2], to: two) },
      .refused(
        "x-2.safetensors: a safetensors file starts with 8 bytes of header length, found 2; download the file again; it is incomplete"
      )),
    .init(
      "link to nothing", "{\"weight_map\":{\(maps)}}", arrange: { try link(two, to: "nowhere", in: $0) },
      .refused(
        "x.safetensors.index.json, 'x-2.safetensors': this shard is missing; download it into the directory of the index"
      )),
    .init(
      "link in the directory", "{\"weight_map\":{\(maps)}}",
      arrange: {
        try write(["c"], to: "other", in: $0)
        try link(two, to: "other", in: $0)
      }, .accepted("a F32 [2], b F32 [2], c F32 [2]")),
    .init(
      "link out of the directory", "{\"weight_map\":{\(maps)}}", arrange: { try link(two, to: "/dev/null", in: $0) },
      .refused(
        "x.safetensors.index.json, 'x-2.safetensors': this shard is a link that leaves the directory; copy the file itself there"
      )),
    .init(
      "larger than 10 MiB", "{\"weight_map\":{\(maps)}" + String(repeating: " ", count: 10 << 20) + "}",
      .refused("x.safetensors.index.json: an index has at most 10485760 bytes, found 10485842")),
    .init(
      "git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 16\n",
      .refused(
        "x.safetensors.index.json: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it came from")),
  ]
}

@Test("shard index", arguments: IndexCase.all)
func shardIndex(_ row: IndexCase) throws {
  let directory = try TemporaryDirectory()
  try write(["a", "b"], to: one, in: directory)
  try write(["c"], to: two, in: directory)
  let path = try directory.write(Array(row.index.utf8), to: "x.safetensors.index.json")
  try row.arrange(directory)
  let verdict = Verdict(in: directory.path) {
    let checkpoint = try Checkpoint(safetensorsIndex: path)
    #expect(checkpoint["c"]?.decoded(as: Float.self) == [1, 2])
    return (checkpoint.summary, checkpoint.warnings)
  }
  #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
}

@Test("the cache of huggingface_hub: index and shards are links into one folder") func hubCache() throws {
  let directory = try TemporaryDirectory()
  try FileManager.default.createDirectory(atPath: directory / "blobs", withIntermediateDirectories: false)
  try FileManager.default.createDirectory(atPath: directory / "snapshots/main", withIntermediateDirectories: true)
  try write(["a", "b"], to: "blobs/11", in: directory)
  try write(["c"], to: "blobs/22", in: directory)
  try directory.write(Array("{\"weight_map\":{\(maps)}}".utf8), to: "blobs/00")
  try link("snapshots/main/\(one)", to: "../../blobs/11", in: directory)
  try link("snapshots/main/\(two)", to: "../../blobs/22", in: directory)
  try link("snapshots/main/x.json", to: "../../blobs/00", in: directory)
  let checkpoint = try Checkpoint(safetensorsIndex: directory / "snapshots/main/x.json")
  #expect(checkpoint.tensors.map(\.name) == ["a", "b", "c"])

  // The exception is the folder that the index is in, and no other.
  try write(["c"], to: "elsewhere", in: directory)
  try link("snapshots/main/\(two)", to: "../../elsewhere", in: directory)
  #expect(throws: Refusal.self) { try Checkpoint(safetensorsIndex: directory / "snapshots/main/x.json") }
}

@Test("a model in three shards is the model in one") func shards() throws {
  let whole = try Checkpoint(safetensors: Fixtures.path("tiny-2x32/lnfree/model.safetensors"))
  let parts = try Checkpoint(
    safetensorsIndex: Fixtures.path("tiny-2x32/lnfree-sharded/model.safetensors.index.json"))
  #expect(parts.files.count == 3)
  #expect(parts.warnings.isEmpty)
  #expect(Set(parts.tensors.map(\.name)) == Set(whole.tensors.map(\.name)))
  for tensor in whole.tensors {
    let part = try #require(parts[tensor.name])
    #expect(part.info == tensor.info)
    #expect(part.decoded(as: Double.self) == tensor.decoded(as: Double.self))
  }
  #expect(whole.tensors.count == 28)
}
