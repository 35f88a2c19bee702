import Foundation
import NormFoldFormats
import Testing
import TestSupport

private typealias P = PickleWriter

@Suite struct PyTorchTests {
  /// The same tensors, as the safetensors library wrote them.
  @Test(
    "equals the safetensors form",
    arguments: [
      ("tiny-2x32/fakeln/pytorch_model.bin", "tiny-2x32/fakeln-safetensors/model.safetensors"),
      ("tiny-2x32/fakeln-partial/pytorch_model.bin", "tiny-2x32/fakeln-partial-safetensors/model.safetensors"),
      ("shakespeare-4x128/fakeln/pytorch_model.bin", "shakespeare-4x128/fakeln-safetensors/model.safetensors"),
      ("pytorch/types.pt", "pytorch/types.safetensors"),
      ("pytorch/types-deflated.pt", "pytorch/types.safetensors"),
    ])
  func equalsSafetensors(_ archive: String, _ reference: String) throws {
    let found = try Checkpoint(pytorch: Fixtures.path(archive))
    let expected = try Checkpoint(safetensors: Fixtures.path(reference))
    try found.checkIntegrity()
    #expect(found.container == .pytorch)
    #expect(found.warnings == [])
    var compared = 0
    for tensor in found.tensors {
      // safetensors stores shared tensors once, under one of their names.
      let name = tensor.name == "lm_head.weight" ? "transformer.wte.weight" : tensor.name
      let other = try #require(expected[tensor.name] ?? expected[name], "\(tensor.name)")
      #expect(tensor.info.type == other.info.type && tensor.shape == other.shape, "\(tensor.name)")
      if tensor.isContiguous { #expect(tensor.storedBytes == other.storedBytes, "\(tensor.name)") }
      if tensor.info.type.isDecodable {
        #expect(tensor.decoded(as: Double.self) == other.decoded(as: Double.self), "\(tensor.name)")
      }
      compared += 1
    }
    #expect(compared >= expected.tensors.count)
  }

  @Test func readsViewsAndSharedStorage() throws {
    let checkpoint = try Checkpoint(pytorch: Fixtures.path("pytorch/types.pt"))
    let strides = Dictionary(
      uniqueKeysWithValues: checkpoint.tensors.compactMap { tensor in tensor.elementStrides.map { (tensor.name, $0) } })
    #expect(
      strides == [
        "transposed": [1, 4], "permuted": [1, 12, 4], "columns": [10, 1], "rows": [20, 1], "column": [4, 1],
        "bfloat16.transposed": [1, 2],
      ])
    let a = try #require(checkpoint["tied.a"])
    let b = try #require(checkpoint["tied.b"])
    #expect(a.file === b.file && a.byteOffset == b.byteOffset)
    // One check for each storage, not for each tensor.
    #expect(checkpoint.integrityChecks.count == checkpoint.tensors.count - 3)
  }

  @Test func inflatesIntoOneTemporaryFile() throws {
    let path = Fixtures.path("pytorch/types-deflated.pt")
    let checkpoint = try Checkpoint(pytorch: path)
    #expect(checkpoint.files.count == 2)
    #expect(checkpoint.files.allSatisfy { $0.path == path })
    #expect(checkpoint.files[0].identity == FileIdentity(ofItemAt: path))
    #expect(checkpoint.files[0].identity != checkpoint.files[1].identity)
    #expect(checkpoint.integrityChecks.isEmpty, "inflating has verified them")
  }

  @Test func readsNanoGPT() throws {
    let checkpoint = try Checkpoint(pytorch: Fixtures.path("tiny-2x32/nanogpt/ckpt.pt"))
    try checkpoint.checkIntegrity()
    #expect(checkpoint.warnings == [])
    #expect(
      checkpoint.metadata == [
        "model_args.n_layer": .integer(2), "model_args.n_head": .integer(2), "model_args.n_embd": .integer(32),
        "model_args.block_size": .integer(64), "model_args.bias": .bool(true), "model_args.vocab_size": .integer(512),
        "model_args.dropout": .double(0), "iter_num": .integer(1200), "best_val_loss": .double(4),
        "config.dataset": .string("shakespeare"), "config.out_dir": .string("out"),
      ])
    #expect(checkpoint.tensors.count == 29)
    let embedding = try #require(checkpoint["_orig_mod.transformer.wte.weight"])
    let head = try #require(checkpoint["_orig_mod.lm_head.weight"])
    #expect(embedding.shape == [512, 32] && head.shape == [512, 32])
    #expect(embedding.file === head.file && embedding.byteOffset == head.byteOffset)
  }

  @Test func readsPlainValues() throws {
    let path = Fixtures.path("pytorch/wrapped.pt")
    let checkpoint = try Checkpoint(pytorch: path)
    #expect(checkpoint.tensors.map(\.info) == [TensorInfo(name: "w", type: .f32, shape: [2])])
    #expect(
      checkpoint.metadata == [
        "epoch": .integer(3), "best": .double(0.5),
        "flags": .array([.bool(true), .null, .array([.double(1.5), .string("a")])]), "dtype": .string("torch.bfloat16"),
        "size": .array([.integer(2), .integer(3)]), "device": .string("cpu"), "big": .string("(an integer of 9 bytes)"),
      ])
    #expect(
      checkpoint.warnings == [
        "\(path) (wrapped/data.pkl): keys that are not names are ignored (1); the first is 7 of 'history'"
      ])
  }

  @Test func readsShards() throws {
    let path = Fixtures.path("pytorch/sharded/pytorch_model.bin.index.json")
    let checkpoint = try Checkpoint(pytorchIndex: path)
    try checkpoint.checkIntegrity()
    #expect(checkpoint.path == path)
    #expect(checkpoint.warnings == [])
    #expect(checkpoint["a"]?.decoded(as: Double.self) == [0, 1, 2, 3, 4, 5])
    #expect(checkpoint["b"]?.decoded(as: Double.self) == [0, 1, 2, 3, 4, 5])
    #expect(checkpoint.files.count == 2 && checkpoint.integrityChecks.count == 2)
  }

  @Test("accepts either way of counting shared bytes", arguments: [(24, true), (48, true), (25, false)])
  func countsSharedBytes(totalByteCount: Int, isFine: Bool) throws {
    let directory = try TemporaryDirectory()
    let pickle = P.dict(["a": P.tensor([6], strides: [1]), "b": P.tensor([6], strides: [1])])
    try directory.write(ZipWriter(records: P.records(pickle)).archive, to: "s.bin")
    let index = #"{"metadata": {"total_size": \#(totalByteCount)}, "weight_map": {"a": "s.bin", "b": "s.bin"}}"#
    let path = try directory.write(Array(index.utf8), to: "pytorch_model.bin.index.json")
    let expected = isFine ? [] : ["\(path): total_size says 25 bytes, the shards hold 48"]
    #expect(try Checkpoint(pytorchIndex: path).warnings == expected)
  }

  @Test(
    "refuses what torch wrote for another purpose",
    arguments: [
      (
        "legacy.pt",
        " at byte 0: this is the format that PyTorch wrote before 1.6;"
          + " load it with torch.load(path, weights_only=True) and save the state dict with torch.save"
      ),
      ("torchscript.pt", " at byte 649, 'torchscript/code/__torch__/torch/nn/modules/linear.py':"),
      ("module.pt", " (module/data.pkl) at byte 2: the global 'torch.nn.modules.linear.Linear' is not allowed;"),
    ])
  func refusesOthers(_ name: String, _ message: String) throws {
    let path = Fixtures.path("pytorch/\(name)")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    #expect(refusal?.description.hasPrefix(path + message) == true, "\(refusal?.description ?? "")")
  }

  /// torch.load takes such a file without a word.
  @Test func findsCorruptedNumbers() throws {
    let directory = try TemporaryDirectory()
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: Fixtures.path("tiny-2x32/fakeln/pytorch_model.bin"))))
    bytes[40_000] ^= 1
    let path = try directory.write(bytes, to: "m.bin")
    let checkpoint = try Checkpoint(pytorch: path)
    let refusal = #expect(throws: Refusal.self) { try checkpoint.checkIntegrity() }
    #expect(
      refusal?.description == "\(path) at byte 9472, 'pytorch_model/data/0': CRC-32: expected eb3bf2eb, found 28bfbcd5;"
        + " the bytes have changed since they were written; download the file again")
  }

  @Test("reads archives that other programs have written again", arguments: [false, true])
  func readsRewritten(isZip64: Bool) throws {
    let directory = try TemporaryDirectory()
    var writer = ZipWriter(records: PickleWriter.sound)
    writer.isZip64 = isZip64
    // Folders, a comment, sizes in the local headers, deflate: as zip(1) does it. byteorder is missing in old files.
    writer.records.insert(.init("a/", []), at: 0)
    writer.records.remove(at: 2)
    for index in writer.records.indices { writer.records[index].flags = 0 }
    for index in 2...3 { writer.records[index] = writer.records[index].deflated }
    writer.comment = Array("PK made by hand".utf8)
    let checkpoint = try Checkpoint(pytorch: try directory.write(writer.archive, to: "m.bin"))
    #expect(checkpoint["w"]?.decoded(as: Double.self) == [0, 1, 2, 3, 4, 5])
  }

  @Test(
    "lays out views",
    arguments: [
      ([2, 3], [3, 1], 0, nil, [0, 1, 2, 3, 4, 5]), ([3, 2], [1, 3], 0, [1, 3], [0, 3, 1, 4, 2, 5]),
      ([2], [2], 1, [2], [1, 3]), ([1, 2], [0, 1], 4, nil, [4, 5]), ([], [], 5, nil, [5]), ([0], [0], 6, nil, []),
      ([2, 0], [.max, 5], .max, nil, []),
      ([2, 1, 3], [3, 77, 1], 0, nil, [0, 1, 2, 3, 4, 5]),
    ] as [([Int], [Int], Int, [Int]?, [Double])])
  func laysOut(_ shape: [Int], _ strides: [Int], _ offset: Int, _ expected: [Int]?, _ values: [Double]) throws {
    let directory = try TemporaryDirectory()
    let pickle = P.dict(["w": P.tensor(shape, strides: strides, offset: offset)])
    let path = try directory.write(ZipWriter(records: P.records(pickle)).archive, to: "m.bin")
    let tensor = try #require(try Checkpoint(pytorch: path)["w"])
    #expect(tensor.elementStrides == expected)
    #expect(tensor.decoded(as: Double.self) == values)
  }

  @Test func readsIntegersOfAnyLength() throws {
    let directory = try TemporaryDirectory()
    let pickle = P.dict([
      "w": P.tensor([6], strides: [1]), "a": [0x8A, 0], "b": [0x8A, 1, 0xFF], "c": [0x8A, 2, 0xFF, 0],
      "d": [0x8A, 8] + little(Int64.min), "e": P.integer(-7), "big": [0x8A, 9] + little(UInt64.max) + [0],
      "f": [0x4D, 0xFF, 0xFF], "g": [0x4B, 0xFF],
    ])
    let path = try directory.write(ZipWriter(records: P.records(pickle)).archive, to: "m.bin")
    #expect(
      try Checkpoint(pytorch: path).metadata == [
        "a": .integer(0), "b": .integer(-1), "c": .integer(255), "d": .integer(.min), "e": .integer(-7),
        "big": .large(.max), "f": .integer(65_535), "g": .integer(255),
      ])
  }
}

extension Tensor {
  var storedBytes: [UInt8] { withBytes { bytes in bytes.withUnsafeBytes { Array($0) } } }
}
