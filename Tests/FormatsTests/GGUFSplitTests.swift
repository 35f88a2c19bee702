import NormFoldFormats
import Testing
import TestSupport

/// A model of two or three shards, and each way in which they can fail to be one model.
struct GGUFSplitTests {
  /// A shard with one F32 tensor [4].
  static func shard(
    _ number: UInt16?, of count: UInt16? = 3, tensors: Int32? = 3, name: String, extra: String? = nil
  ) -> [UInt8] {
    let pairCount = [number != nil, count != nil, tensors != nil, extra != nil].count { $0 }
    var file = GGUFBytes(tensors: 1, pairs: Int64(pairCount))
    if let extra { file = file.pair(extra, type: 4, UInt32(7)) }
    if let number { file = file.pair("split.no", type: 2, number) }
    if let count { file = file.pair("split.count", type: 2, count) }
    if let tensors { file = file.pair("split.tensors.count", type: 5, tensors) }
    return file.tensor(name, [4]).data(32).bytes
  }

  static let names = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]

  static func good() -> [String: [UInt8]] {
    [
      names[0]: shard(0, name: "a", extra: "general.file_type"), names[1]: shard(1, name: "b"),
      names[2]: shard(2, name: "c"),
    ]
  }

  private func write(_ files: [String: [UInt8]]) throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    for (name, bytes) in files { try directory.write(bytes, to: name) }
    return directory
  }

  @Test func findsTheOtherShards() throws {
    let directory = try write(Self.good())
    let checkpoint = try Checkpoint(gguf: directory / Self.names[0])
    #expect(checkpoint.tensors.map(\.name) == ["a", "b", "c"])
    #expect(checkpoint.files.map(\.path) == Self.names.map { directory / $0 })
    #expect(checkpoint.tensors.map(\.file.path) == Self.names.map { directory / $0 })
    #expect(checkpoint.metadata["general.file_type"] == .integer(7))
    #expect(checkpoint.warnings.isEmpty)
    #expect(checkpoint["c"]?.decoded(as: Float.self) == checkpoint["a"]?.decoded(as: Float.self))
  }

  @Test func laterShardsMayOmitTheCounts() throws {
    var files = Self.good()
    files[Self.names[1]] = Self.shard(1, of: nil, tensors: nil, name: "b")
    let directory = try write(files)
    #expect(try Checkpoint(gguf: directory / Self.names[0]).tensors.count == 3)
  }

  @Test func metadataOfLaterShardsIsIgnoredAloud() throws {
    var files = Self.good()
    files[Self.names[1]] = Self.shard(1, name: "b", extra: "llama.block_count")
    let directory = try write(files)
    let checkpoint = try Checkpoint(gguf: directory / Self.names[0])
    #expect(checkpoint.metadata["llama.block_count"] == nil)
    #expect(
      checkpoint.warnings.map { $0.replacing(directory.path + "/", with: "") } == [
        "m-00002-of-00003.gguf: metadata counts in the first shard only; ignored here: 'llama.block_count'"
      ])
  }

  @Test("a count of 0 or 1 is a whole model", arguments: [0, 1] as [UInt16])
  func wholeModel(_ count: UInt16) throws {
    let directory = try write(["m.gguf": Self.shard(0, of: count, tensors: 1, name: "a")])
    #expect(try Checkpoint(gguf: directory / "m.gguf").tensors.count == 1)
  }

  struct Case: CustomTestStringConvertible, Sendable {
    let name: String
    var opened = GGUFSplitTests.names[0]
    /// Files that differ from the good ones; nil where they are missing.
    let changed: [String: [UInt8]?]
    var category = Refusal.Category.malformed
    let refusal: String
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(
      name: "the second shard is opened", opened: names[1], changed: [:], category: .usage,
      refusal: "m-00002-of-00003.gguf: is shard 2 of 3; open the first one, 'm-00001-of-00003.gguf'"),
    Case(
      name: "a renamed shard", opened: "model.gguf", changed: ["model.gguf": shard(0, name: "a")],
      refusal: "model.gguf, 'split.no': is shard 1 of 3, so its name should end in '-00001-of-00003.gguf'"
        + "; give all shards their original names, in one directory"),
    Case(
      name: "a shard under the name of another", changed: [names[0]: shard(1, name: "a")],
      refusal: "m-00001-of-00003.gguf, 'split.no': is shard 2 of 3, so its name should end in '-00002-of-00003.gguf'"
        + "; give all shards their original names, in one directory"),
    Case(
      name: "a shard is missing", changed: [names[1]: nil],
      refusal: "m-00001-of-00003.gguf: 1 of 3 shards are missing: 'm-00002-of-00003.gguf'"
        + "; download them into the directory of the first one"),
    Case(
      name: "both others are missing", changed: [names[1]: nil, names[2]: nil],
      refusal:
        "m-00001-of-00003.gguf: 2 of 3 shards are missing: 'm-00002-of-00003.gguf', 'm-00003-of-00003.gguf'"
        + "; download them into the directory of the first one"),
    Case(
      name: "two shards swapped", changed: [names[1]: shard(2, name: "b"), names[2]: shard(1, name: "c")],
      refusal: "m-00002-of-00003.gguf, 'split.no': expected 1, as the first shard has it, found 2"
        + "; download all shards of one model again"),
    Case(
      name: "a shard without a number", changed: [names[2]: shard(nil, name: "c")],
      refusal: "m-00003-of-00003.gguf, 'split.no': expected 2, as the first shard has it, found none"
        + "; download all shards of one model again"),
    Case(
      name: "a shard of another split", changed: [names[2]: shard(2, of: 4, name: "c")],
      refusal: "m-00003-of-00003.gguf, 'split.count': expected 3, as the first shard has it, found 4"
        + "; download all shards of one model again"),
    Case(
      name: "a shard of another model", changed: [names[2]: shard(2, tensors: 9, name: "c")],
      refusal: "m-00003-of-00003.gguf, 'split.tensors.count': expected 3, as the first shard has it, found 9"
        + "; download all shards of one model again"),
    Case(
      name: "no tensor count", changed: [names[0]: shard(0, tensors: nil, name: "a")],
      refusal: "m-00001-of-00003.gguf, 'split.tensors.count': expected in the first of 3 shards, found none"
        + "; split the model again with llama-gguf-split"),
    Case(
      name: "a tensor too few",
      changed: [
        names[0]: shard(0, tensors: 4, name: "a"), names[1]: shard(1, tensors: 4, name: "b"),
        names[2]: shard(2, tensors: 4, name: "c"),
      ],
      refusal: "m-00001-of-00003.gguf, 'split.tensors.count': expected 4 tensors in 3 shards, found 3"
        + "; download all shards of one model again"),
    Case(
      name: "a tensor in two shards", changed: [names[2]: shard(2, name: "b")],
      refusal: "m-00003-of-00003.gguf, 'b': the tensor is also in m-00002-of-00003.gguf"
        + "; a name must mean one tensor; write the checkpoint again"),
    Case(
      name: "a number in a model of one file", opened: "m.gguf", changed: ["m.gguf": shard(2, of: nil, name: "a")],
      refusal: "m.gguf, 'split.no': expected 0 in a model of one file, found 2; download all shards again"),
    Case(
      name: "a shard that is damaged", changed: [names[1]: Array("GGUG".utf8)],
      refusal: "m-00002-of-00003.gguf at byte 0: magic: expected the bytes 47 47 55 46 (\"GGUF\"), found 47 47 55 47"
        + "; this is not a GGUF file, or its start is damaged"),
  ]

  @Test("refuses", arguments: cases)
  func refuses(_ test: Case) throws {
    var files = Self.good()
    for (name, bytes) in test.changed { files[name] = bytes }
    let directory = try write(files)
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(gguf: directory / test.opened) }
    #expect(refusal?.description.replacing(directory.path + "/", with: "") == test.refusal)
    #expect(refusal?.category == test.category)
  }
}
