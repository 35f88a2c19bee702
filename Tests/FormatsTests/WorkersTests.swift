import Formats
import Synchronization
import TestSupport
import Testing

@Suite struct WorkersTests {
  @Test("Every task runs once, on one thread as on several", arguments: [1, 2, 7])
  func everyTask(count: Int) {
    let done = Mutex([Int](repeating: 0, count: 100))
    Workers(count: count).forEach(100) { task in done.withLock { $0[task] += 1 } }
    #expect(done.withLock { $0 } == [Int](repeating: 1, count: 100))
  }

  @Test("Of several errors the one of the lowest task is thrown", arguments: [1, 2, 7])
  func errors(count: Int) {
    let refusal = #expect(throws: Refusal.self) {
      try Workers(count: count).forEach(50) { (task) throws(Refusal) in
        if task % 10 == 7 { throw Refusal(.usage, "task \(task)") }
      }
    }
    #expect(refusal?.problem == "task 7")
  }

  @Test("There is always one worker")
  func atLeastOne() { #expect(Workers(count: 0).count == 1) }
}

@Suite struct FingerprintTests {
  private static func fingerprint(of parts: [[UInt8]]) -> Fingerprint {
    let context = FingerprintContext()
    for part in parts { part.withUnsafeBytes { context.update($0) } }
    return context.finish()
  }

  @Test("The same bytes have the same fingerprint, in whatever pieces they come")
  func pieces() {
    let bytes = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
    #expect(Self.fingerprint(of: [bytes]) == Self.fingerprint(of: [Array(bytes[..<17]), [], Array(bytes[17...])]))
  }

  @Test("One bit, one byte more or two bytes exchanged make another")
  func differences() {
    let bytes = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
    var all = Set([Self.fingerprint(of: [bytes]), Self.fingerprint(of: [bytes + [0]]), Self.fingerprint(of: [])])
    for bit in 0..<8 {
      var changed = bytes
      changed[500] ^= 1 << UInt8(bit)
      all.insert(Self.fingerprint(of: [changed]))
    }
    var exchanged = bytes
    exchanged.swapAt(3, 4)
    all.insert(Self.fingerprint(of: [exchanged]))
    #expect(all.count == 12)
  }
}

@Suite struct AmendingTests {
  @Test("A text of the header is replaced by another of its length, behind what was written meanwhile")
  func amended() throws {
    let place = try TemporaryDirectory()
    let path = place / "model.safetensors"
    let text = String(repeating: "0", count: 64)
    let other = String(repeating: "5e", count: 32)
    let writer = try SafetensorsWriter(
      creating: path, tensors: [TensorInfo(name: "a", type: .u8, shape: [3])], metadata: ["sum": text, "other": "x"])
    try writer.append([7, 8, 9])
    try writer.amend(text, by: other)
    try writer.finish()
    let checkpoint = try CheckpointLocation(path: path).open()
    #expect(checkpoint.metadata["sum"] == .string(other))
    #expect(checkpoint.tensors[0].decoded(as: Float.self) == [7, 8, 9])
  }
}
