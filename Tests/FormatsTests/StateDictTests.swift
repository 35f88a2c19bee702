import Foundation
import NormFoldFormats
import Testing
import TestSupport

private typealias P = PickleWriter

/// An archive of torch.save, and what the reader makes of it.
struct StateDictCase: CustomTestStringConvertible {
  let testDescription: String
  let bytes: @Sendable () throws -> [UInt8]
  let verdict: Verdict

  /// A file that torch wrote (`fixtures/generate/pytorch.py`).
  init(fixture name: String, _ verdict: Verdict) {
    testDescription = name
    bytes = { try Fixtures.bytes("pytorch/" + name) }
    self.verdict = verdict
  }

  init(_ name: String, records: [ZipWriter.Record], _ verdict: Verdict) {
    testDescription = name
    bytes = { ZipWriter(records: records).archive }
    self.verdict = verdict
  }

  init(_ name: String, pickle: [UInt8], _ verdict: Verdict) {
    self.init(name, records: P.records(pickle), verdict)
  }
}

extension StateDictCase {
  private static let tensor = P.tensor([2, 3], strides: [3, 1])
  private static let other = P.tensor([3, 2], strides: [2, 1])
  private static let empty = P.dict([:])
  private static let linear = "weight F32 [2, 3], bias F32 [2]"

  static let wrapped: [StateDictCase] = [
    .init(fixture: "tutorial.pt", .accepted(linear)),
    .init(fixture: "policy.pt", .accepted(linear)),
    .init(fixture: "deepspeed.pt", .accepted(linear)),
    .init("under model", pickle: P.dict(["model": P.dict(["w": tensor])]), .accepted("w F32 [2, 3]")),
    .init("under state_dict", pickle: P.dict(["state_dict": P.dict(["w": tensor])]), .accepted("w F32 [2, 3]")),
    .init(
      "under a key that holds settings in other files",
      pickle: P.dict(["model": P.dict(["name": P.string("gpt2")]), "model_state_dict": P.dict(["w": tensor])]),
      .accepted("w F32 [2, 3]")),
    .init(
      "under a key of no known program",
      pickle: P.dict(["epoch": P.integer(3), "net": P.dict(["w": tensor])]),
      .accepted("w F32 [2, 3]", warnings: ["m.pt (a/data.pkl): reading the state dict under 'net'"])),
    .init(
      "under a key of no known program, beside a scalar tensor",
      pickle: P.dict(["best": P.tensor([], strides: []), "net": P.dict(["w": tensor])]),
      .accepted("w F32 [2, 3]", warnings: ["m.pt (a/data.pkl): reading the state dict under 'net'"])),
    .init(
      "a known key before another",
      pickle: P.dict(["ema": P.dict(["w": other]), "model": P.dict(["w": tensor])]),
      .accepted(
        "w F32 [2, 3]",
        warnings: ["m.pt (a/data.pkl): tensors outside the state dict are ignored (1); the first is 'ema.w'"])),
    .init(
      "not under a key, since the dict itself holds the tensors",
      pickle: P.dict(["w": tensor, "net": P.dict(["v": other])]),
      .accepted(
        "w F32 [2, 3]",
        warnings: ["m.pt (a/data.pkl): tensors outside the state dict are ignored (1); the first is 'net.v'"])),
    .init(
      "the dict itself beside an empty one under a known key", pickle: P.dict(["model": empty, "w": tensor]),
      .accepted("w F32 [2, 3]")),
    .init(
      "one state dict under two keys",
      pickle: P.dict(["model": P.dict(["w": tensor]) + [0x71, 0], "state": [0x68, 0]]),
      .accepted("w F32 [2, 3]")),
    .init(
      "the same tensors under two keys",
      pickle: P.dict(["module": P.dict(["w": tensor]), "state_dict": P.dict(["w": tensor])]),
      .accepted("w F32 [2, 3]")),
    .init(
      "two state dicts under known keys",
      pickle: P.dict(["model": P.dict(["w": tensor]), "state_dict": P.dict(["w": other])]),
      .refused(
        "m.pt (a/data.pkl): expected one state dict, found them under 'model' and 'state_dict'; save the one that is meant alone, with torch.save"
      )),
    .init(
      "two state dicts of other names under known keys",
      pickle: P.dict(["model": P.dict(["w": tensor]), "module": P.dict(["v": tensor])]),
      .refused(
        "m.pt (a/data.pkl): expected one state dict, found them under 'model' and 'module'; save the one that is meant alone, with torch.save"
      )),
    .init(
      "two state dicts whose names differ at their ends",
      pickle: P.dict([
        "model": P.dict([String(repeating: "w", count: 100): tensor]),
        "module": P.dict([String(repeating: "w", count: 101): tensor]),
      ]),
      .refused(
        "m.pt (a/data.pkl): expected one state dict, found them under 'model' and 'module'; save the one that is meant alone, with torch.save"
      )),
    .init(
      "many state dicts under other keys",
      pickle: P.dict([
        "a": P.dict(["w": tensor]), "b": P.dict(["w": other]), "c": P.dict(["w": other]), "d": P.dict(["v": other]),
        "e": P.dict(["w": other]), "f": P.dict(["w": other]),
      ]),
      .refused(
        "m.pt (a/data.pkl): expected one state dict, found them under 'a', 'b', 'c', 'd' and 2 more keys; save the one that is meant alone, with torch.save"
      )),
    .init(
      "an optimizer under another key",
      pickle: P.dict([
        "model": P.dict(["w": tensor]),
        "optim": P.dict([
          "state": P.dict([(P.integer(0), P.dict(["exp_avg": tensor]))]), "param_groups": Array("]".utf8),
        ]),
      ]), .accepted("w F32 [2, 3]")),
    .init(
      fixture: "optimizer.pt",
      .refused(
        "m.pt (optimizer/data.pkl), 'param_groups': this is the state of an optimizer, not of a model; give the file that holds the model's state dict"
      )),
    .init(
      fixture: "deepspeed-zero3.pt",
      .refused(
        "m.pt (deepspeed-zero3/data.pkl), 'weight': expected shape [2, 3], which 'param_shapes' says, found [0]; its numbers are not in this file: if DeepSpeed's ZeRO-3 wrote it, join the parts with DeepSpeed's zero_to_fp32.py and give what that writes"
      )),
    .init(
      "no tensor under a known key", pickle: P.dict(["model": empty]),
      .refused(
        "m.pt (a/data.pkl): the dict holds no tensor, nor does a dict in it; save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
  ]

  static let attributes: [StateDictCase] = [
    .init(
      fixture: "attributes.pt",
      .accepted(
        "weight F32 [2, 3], bias F32 [2], buffer F32 [2], plain F32 [2]",
        warnings: [
          "m.pt (attributes/data.pkl): attributes of tensors are ignored (3); the first is 'tensor_model_parallel' of 'weight'"
        ])),
    .init(
      "a parameter with attributes in slots",
      pickle: P.dict([
        "w": P.call(
          P.global("torch._utils", "_rebuild_parameter_with_state"),
          [tensor, P.no, P.orderedDict, P.tuple([P.none, P.dict(["x": P.none])])])
      ]),
      .accepted(
        "w F32 [2, 3]",
        warnings: ["m.pt (a/data.pkl): attributes of tensors are ignored (1); the first is 'x' of 'w'"])),
    .init(
      "a tensor on an accelerator of its own",
      pickle: P.dict([
        "w": P.call(
          P.global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
          [tensor, P.global("torch", "float32"), P.string("xla:0"), P.no])
      ]), .accepted("w F32 [2, 3]")),
    .init(
      "a tensor on an accelerator of its own, in another type",
      pickle: P.dict([
        "w": P.call(
          P.global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
          [tensor, P.global("torch", "bfloat16"), P.string("xla:0"), P.no])
      ]),
      .refused(
        "m.pt (a/data.pkl) at byte 240: 'torch._utils._rebuild_device_tensor_from_cpu_tensor': expected the type of the tensor, F32, found the global 'torch.bfloat16'; save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    .init(
      "a class that is not PyTorch's own",
      pickle: P.dict(["w": rebuilt(as: P.global("numpy", "ndarray"))]),
      .refused(
        "m.pt (a/data.pkl) at byte 81: the global 'numpy.ndarray' is not allowed; nothing of the file was executed; if you trust it, save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    .init(
      "a class that is none", pickle: P.dict(["w": rebuilt(as: P.global("torch", "Size"))]),
      .refused(
        "m.pt (a/data.pkl) at byte 199: 'torch._tensor._rebuild_from_type_v2': expected torch.Tensor or Parameter, found the global 'torch.Size'; save the model's state_dict() alone, with torch.save of PyTorch 1.6 or later"
      )),
    .init(
      "a function that makes no tensor",
      pickle: P.dict(["w": rebuilt(by: P.global("collections", "OrderedDict"), arguments: P.tuple([]))]),
      .refused(
        "m.pt (a/data.pkl) at byte 91: 'torch._tensor._rebuild_from_type_v2': expected a function that makes a tensor, found the global 'collections.OrderedDict'; torch.save writes no such pickle; download the file again"
      )),
    .init(
      "a function within itself",
      pickle: P.dict(["w": rebuilt(by: P.global("torch._tensor", "_rebuild_from_type_v2"), arguments: P.tuple([]))]),
      .refused(
        "m.pt (a/data.pkl) at byte 103: 'torch._tensor._rebuild_from_type_v2': expected a function that makes a tensor, found the global 'torch._tensor._rebuild_from_type_v2'; torch.save writes no such pickle; download the file again"
      )),
    .init(
      "attributes in a list",
      pickle: P.dict(["w": rebuilt(state: Array("]".utf8))]),
      .refused(
        "m.pt (a/data.pkl) at byte 201: 'torch._tensor._rebuild_from_type_v2': expected attributes in a dict, found a list; torch.save writes no such pickle; download the file again"
      )),
    .init(
      "too few arguments",
      pickle: P.dict(["w": P.call(P.global("torch._tensor", "_rebuild_from_type_v2"), [P.none])]),
      .refused(
        "m.pt (a/data.pkl) at byte 50: 'torch._tensor._rebuild_from_type_v2': expected 4 arguments, found 1; torch.save writes no such pickle; download the file again"
      )),
    .init(
      fixture: "sparse.pt",
      .refused(
        "m.pt (sparse/data.pkl) at byte 18, 'weight': sparse tensors are not read; call to_dense() on the tensor before saving"
      )),
    .init(
      fixture: "meta.pt",
      .refused(
        "m.pt (meta/data.pkl) at byte 18, 'weight': the tensor was on the device 'meta' and has no numbers; load the weights before saving"
      )),
    .init(
      fixture: "quantised.pt",
      .refused(
        "m.pt (quantised/data.pkl) at byte 18, 'weight': quantised tensors are not read; call dequantize() on the tensor before saving"
      )),
    // The first bytes of what torch 2.13 writes for a DTensor.
    .init(
      "a tensor that wraps others",
      pickle: Array("}".utf8) + P.string("w") + P.global("torch._tensor", "_rebuild_from_type_v2") + Array("(".utf8)
        + P.global("torch._utils", "_rebuild_wrapper_subclass"),
      .refused(
        "m.pt (a/data.pkl) at byte 47, 'w': tensors of classes that wrap other tensors are not read; save plain tensors: of a DTensor, what full_tensor() returns"
      )),
    .init(
      "complex numbers of 64 bits",
      pickle: P.dict(["w": P.tensor([3], strides: [1], storage: P.storage("ComplexFloatStorage", count: 3))]),
      .accepted("w C64 [3]")),
  ]

  /// What `_rebuild_from_type_v2` is called with, one argument of it changed.
  private static func rebuilt(
    by function: [UInt8] = P.global("torch._utils", "_rebuild_tensor_v2"),
    as type: [UInt8] = P.global("torch", "Tensor"),
    arguments: [UInt8] = P.tuple([
      P.storage(count: 6), P.integer(0), P.tuple([P.integer(6)]), P.tuple([P.integer(1)]), P.no, P.orderedDict,
    ]), state: [UInt8] = P.none
  ) -> [UInt8] {
    P.call(P.global("torch._tensor", "_rebuild_from_type_v2"), [function, type, arguments, state])
  }

  private static func unchecked(_ indices: [Int], _ change: (inout ZipWriter.Record) -> Void = { _ in })
    -> [ZipWriter.Record]
  {
    var records = P.sound
    for index in indices {
      change(&records[index])
      records[index].crc = 0
    }
    return records
  }

  static let checksums: [StateDictCase] = [
    .init(
      fixture: "no-checksums.pt",
      .accepted(
        linear,
        warnings: [
          "m.pt: 8 of its 8 records have no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to them is not noticed"
        ])),
    .init(
      fixture: "skip-data.pt",
      .accepted(
        linear,
        warnings: [
          "m.pt: 2 of its 8 records have no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to them is not noticed"
        ])),
    .init(
      "deflated without a checksum", records: unchecked([2]) { $0 = $0.deflated },
      .accepted(
        "w F32 [2, 3]",
        warnings: [
          "m.pt: 1 of its 4 records has no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to it is not noticed"
        ])),
    .init(
      "sizes and no checksum in the local header", records: unchecked([2]) { $0.flags = 0 },
      .accepted(
        "w F32 [2, 3]",
        warnings: [
          "m.pt: 1 of its 4 records has no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to it is not noticed"
        ])),
    .init(
      "an empty record, whose checksum is 0",
      records: P.records(P.dict(["w": P.tensor([0], strides: [1], storage: P.storage(count: 0))])).map { record in
        record.name == "a/data/0" ? record.with { $0.bytes = [] } : record
      }, .accepted("w F32 [0]")),
  ]
}

@Suite struct StateDictTests {
  @Test(
    "reads or refuses", arguments: StateDictCase.wrapped + StateDictCase.attributes + StateDictCase.checksums)
  func rows(_ row: StateDictCase) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(try row.bytes(), to: "m.pt")
    let verdict = Verdict(in: directory.path) {
      let checkpoint = try Checkpoint(pytorch: path)
      try checkpoint.checkIntegrity()
      for tensor in checkpoint.tensors where tensor.info.type == .f32 {
        let values = tensor.decoded(as: Float.self)
        #expect(values == [0, 1, 2, 3, 4, 5] || values == [0.5, -0.5] || values.isEmpty, "\(tensor.name)")
      }
      return (checkpoint.summary, checkpoint.warnings)
    }
    #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
  }

  @Test("what stands beside the state dict becomes metadata")
  func metadata() throws {
    #expect(
      try Checkpoint(pytorch: Fixtures.path("pytorch/tutorial.pt")).metadata == [
        "epoch": .integer(5), "loss": .double(Double(Float(3 + 12))),
      ])
    #expect(
      try Checkpoint(pytorch: Fixtures.path("pytorch/policy.pt")).metadata == [
        "step_idx": .integer(7), "metrics.loss": .double(0.25),
      ])
    let deepspeed = try Checkpoint(pytorch: Fixtures.path("pytorch/deepspeed.pt")).metadata
    #expect(deepspeed["global_steps"] == .integer(12))
    #expect(deepspeed["ds_config.zero_optimization.stage"] == .integer(1))
    #expect(deepspeed["sparse_tensor_module_names"] == .array([.string("wte")]))
    #expect(deepspeed["lr_scheduler"] == .null)
  }

  @Test("values that torch.load reads by default are read")
  func values() throws {
    let checkpoint = try Checkpoint(pytorch: Fixtures.path("pytorch/values.pt"))
    #expect(checkpoint.warnings == [])
    #expect(
      checkpoint.metadata == [
        "set": .array([.integer(3)]), "empty_set": .array([]), "counter.a": .integer(2), "counter.b": .integer(1),
        "bytes": .string("(bytes)"), "bytearray": .string("(bytes)"), "complex": .string("(a complex number)"),
      ])
  }

  /// A checksum that is there is still held against the bytes, beside records that have none.
  @Test("a record without a checksum does not excuse the others")
  func checksumsBesideNone() throws {
    let directory = try TemporaryDirectory()
    var bytes = try Fixtures.bytes("pytorch/skip-data.pt")
    let place = try #require(bytes.indices.first { bytes[$0...].starts(with: Array("weightq".utf8)) })
    bytes[place] ^= 1
    let path = try directory.write(bytes, to: "m.pt")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    #expect(refusal?.problem.hasPrefix("CRC-32: expected 0cb59300, found ") == true)
    #expect(try Checkpoint(pytorch: Fixtures.path("pytorch/skip-data.pt")).integrityChecks.isEmpty)
  }

  /// However many keys lead to a large dict, the time stays in proportion to the file.
  @Test("many keys for one large dict", arguments: [false, true])
  func manyKeys(ofTensors: Bool) throws {
    let directory = try TemporaryDirectory()
    let count = 60_000
    var pickle = Array("}".utf8) + P.string("model") + P.dict(["w": P.tensor([6], strides: [1]) + [0x71, 1]])
    pickle += Array("s".utf8) + P.string("large")
    let value = ofTensors ? [0x68, 1] : P.none
    pickle += P.dict((0..<count).map { (P.string("\($0)"), value) }) + [0x71, 0] + Array("s(".utf8)
    for index in 0..<count { pickle += P.string(index.isMultiple(of: 2) ? "module" : "k\(index)") + [0x68, 0] }
    pickle += Array("u".utf8)
    let path = try directory.write(ZipWriter(records: P.records(pickle)).archive, to: "m.pt")
    let start = ContinuousClock.now
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    #expect(refusal != nil)
    #expect(ContinuousClock.now - start < .seconds(20))
  }
}
