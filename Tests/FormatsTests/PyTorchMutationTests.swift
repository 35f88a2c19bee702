import NormFoldFormats
import Testing
import TestSupport

/// Damaged archives end in a checkpoint or a refusal, never in a trap, and soon. The seeds are fixed, so that a
/// failure comes back.
@Suite struct PyTorchMutationTests {
  private static let seedCount = 40
  private static let mutationsPerSeed = 100

  /// Everything that the reader knows, in as few bytes as possible.
  private static let pickle: [UInt8] = {
    typealias P = PickleWriter
    let tensor = P.tensor([2, 3], strides: [1, 2])
    let parameter = P.call(P.global("torch._utils", "_rebuild_parameter"), [tensor, P.no, P.orderedDict])
    let state = P.tuple([P.none, P.dict(["note": P.no])])
    let tagged = P.call(
      P.global("torch._utils", "_rebuild_parameter_with_state"), [tensor, P.no, P.orderedDict, state])
    let ofType = P.call(
      P.global("torch._tensor", "_rebuild_from_type_v2"),
      [
        P.global("torch._utils", "_rebuild_tensor_v2"), P.global("torch", "Tensor"),
        P.tuple([P.storage(count: 6), P.integer(0), P.tuple([]), P.tuple([]), P.no, P.orderedDict]), state,
      ])
    let onDevice = P.call(
      P.global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
      [tensor, P.global("torch", "float32"), P.string("xla:0"), P.no])
    return P.dict([
      "model": P.dict([
        "w": P.tensor([2, 3], strides: [3, 1]), "p": parameter, "x": P.integer(3), "t": tagged, "o": ofType,
        "d": onDevice,
      ]),
      "param_shapes": Array("]".utf8) + P.dict(["w": P.tuple([P.integer(2), P.integer(3)])]) + Array("a".utf8),
      "set": P.call(P.global("__builtin__", "set"), [Array("]".utf8) + P.integer(1) + Array("a".utf8)]),
      "counter": P.call(P.global("collections", "Counter"), [P.dict(["a": P.integer(1)])]),
      "bytes": P.call(P.global("_codecs", "encode"), [P.string("b"), P.string("latin1")]),
      "optim": P.dict(["state": P.dict([:]), "param_groups": Array("]".utf8)]),
      "values": P.tuple([P.none, [0x8A, 3, 1, 2, 3], Array("G".utf8) + little(UInt64(0x3F))]),
      "size": P.call(P.global("torch", "Size"), [P.tuple([P.integer(1)])]),
      "best": P.tensor([], strides: [], offset: 2), "list": Array("](NNe".utf8) + [0x71, 0, 0x68, 0, 0x86],
    ])
  }()

  /// The container: no checksum protects its fields.
  @Test("survives damage to the archive", arguments: 0..<seedCount)
  func archive(seed: Int) throws {
    var writer = ZipWriter(records: PickleWriter.records(Self.pickle))
    writer.isZip64 = seed.isMultiple(of: 2)
    if seed.isMultiple(of: 3) { writer.records[2] = writer.records[2].deflated }
    if seed.isMultiple(of: 5) { for index in writer.records.indices { writer.records[index].crc = 0 } }
    let sound = writer.archive
    try run(seed: seed) { random in Self.mutate(sound, &random) }
  }

  /// The pickle, with checksums that fit.
  @Test("reads what is damaged here") func sound() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(ZipWriter(records: PickleWriter.records(Self.pickle)).archive, to: "m.bin")
    #expect(try Checkpoint(pytorch: path).tensors.count == 5)
  }

  @Test("survives damage to the pickle", arguments: 0..<seedCount)
  func program(seed: Int) throws {
    var writer = ZipWriter(records: PickleWriter.records(Self.pickle))
    let sound = writer.records[0].bytes
    try run(seed: seed) { random in
      writer.records[0].bytes = Self.mutate(sound, &random)
      return writer.archive
    }
  }

  private func run(seed: Int, _ next: (inout SplitMix) -> [UInt8]) throws {
    let directory = try TemporaryDirectory()
    var random = SplitMix(state: UInt64(seed))
    var refused = 0
    for _ in 0..<Self.mutationsPerSeed {
      let path = try directory.write(next(&random), to: "m.bin")
      do {
        let checkpoint = try Checkpoint(pytorch: path)
        // Whatever was accepted can also be read.
        for tensor in checkpoint.tensors where tensor.info.type.isDecodable { _ = tensor.decoded(as: Float.self) }
        try checkpoint.checkIntegrity()
      } catch {
        #expect(!error.problem.isEmpty)
        refused += 1
      }
    }
    #expect(refused > 0, "a mutation that is never noticed is none")
  }

  /// Cuts, overwrites, inserts, removes or repeats at one to three places.
  private static func mutate(_ sound: [UInt8], _ random: inout SplitMix) -> [UInt8] {
    var bytes = sound
    let interesting: [UInt8] = [0, 1, 0x28, 0x52, 0x74, 0x7F, 0x80, 0x86, 0xFF]
    for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
      let index = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0: bytes.removeLast(bytes.count - index)
      case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
      case 2: bytes.removeSubrange(index..<min(bytes.count, index + Int.random(in: 1...8, using: &random)))
      case 3:
        let piece = bytes[index..<min(bytes.count, index + Int.random(in: 1...40, using: &random))]
        bytes.insert(contentsOf: Array(piece), at: Int.random(in: 0...bytes.count, using: &random))
      case 4:
        for offset in index..<min(bytes.count, index + 8) { bytes[offset] = 0xFF }
      case 5: bytes[index] = interesting[Int.random(in: 0..<interesting.count, using: &random)]
      case 6: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      default: bytes[index] = UInt8.random(in: 0...255, using: &random)
      }
    }
    return bytes
  }
}
