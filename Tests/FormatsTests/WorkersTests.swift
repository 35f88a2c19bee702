import Glibc
import NormFoldFormats
import Synchronization
import Testing
import TestSupport

@Suite struct WorkersTests {
  @Test("Every task runs once, on one thread as on several", arguments: [1, 2, 7])
  func everyTask(count: Int) {
    let done = Mutex([Int](repeating: 0, count: 100))
    Workers(count: count).forEach(100) { task in done.withLock { $0[task] += 1 } }
    #expect(done.withLock { $0 } == [Int](repeating: 1, count: 100))
  }

  @Test(
    "Work that follows work at once, or when the threads have fallen asleep, is all done, from several threads at a time"
  )
  func oneBehindTheOther() {
    let workers = Workers(count: 3)
    let sums = Mutex([Int](repeating: 0, count: 4))
    Workers(count: 4).forEach(4) { caller in
      for round in 0..<300 {
        let sum = Atomic(0)
        workers.forEach(1 + round % 5) { sum.add($0 + 1, ordering: .relaxed) }
        sums.withLock { $0[caller] += sum.load(ordering: .relaxed) }
        if round % 50 == 49 { usleep(500) }
      }
    }
    // 1, 3, 6, 10 and 15, sixty times.
    #expect(sums.withLock { $0 } == [Int](repeating: 60 * 35, count: 4))
  }

  @Test("Threads may be given work that is cut for others")
  func cut() {
    let workers = Workers(count: 2)
    #expect(workers.cut == 2 && workers.cut(for: 64).cut == 64 && workers.cut(for: 64).count == 2)
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

  @Test("Tasks share their own work, and no more threads are busy than there are workers", arguments: [1, 2, 7])
  func nested(count: Int) {
    let workers = Workers(count: count)
    let busy = Atomic(0)
    let most = Mutex(0)
    let sums = Mutex([Int](repeating: 0, count: 20))
    workers.forEach(20) { outer in
      workers.forEachPart(of: 100, size: 7) { part in
        let now = busy.add(1, ordering: .relaxed).newValue
        most.withLock { $0 = max($0, now) }
        workers.forEach(part.count) { index in sums.withLock { $0[outer] += part.lowerBound + index } }
        busy.subtract(1, ordering: .relaxed)
      }
    }
    #expect(sums.withLock { $0 } == [Int](repeating: 4_950, count: 20))
    // One that waits for others counts as idle, and may have begun a part.
    #expect(most.withLock { $0 } <= 2 * count)
  }

  @Test("An error in shared work of a task is the task's", arguments: [1, 2, 7])
  func nestedErrors(count: Int) {
    let workers = Workers(count: count)
    let refusal = #expect(throws: Refusal.self) {
      try workers.forEach(10) { (outer) throws(Refusal) in
        try workers.forEach(10) { (inner) throws(Refusal) in
          if outer >= 4, inner >= 3 { throw Refusal(.usage, "task \(outer).\(inner)") }
        }
      }
    }
    #expect(refusal?.problem == "task 4.3")
  }

  @Test("A recorder runs every task in order and keeps what could have been done at the same time")
  func recorded() throws {
    let recorder = TaskRecorder()
    let workers = Workers(count: 8, recordedBy: recorder)
    let order = Mutex<[Int]>([])
    workers.forEach(3) { outer in
      order.withLock { $0.append(outer) }
      workers.forEach(outer) { inner in order.withLock { $0.append(10 * outer + inner) } }
    }
    #expect(order.withLock { $0 } == [0, 1, 10, 2, 20, 21])
    func shape(_ steps: [TaskRecorder.Step]) -> [Int] {
      steps.flatMap { step in
        switch step {
        case .work(let seconds):
          #expect(seconds >= 0)
          return [0]
        case .tasks(let tasks): return [tasks.count] + tasks.flatMap(shape)
        }
      }
    }
    // Work, three tasks, of which the last has two, and work behind them.
    #expect(shape(recorder.finish()) == [0, 3, 0, 0, 0, 2, 0, 0, 0, 0])
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
    let writer = try TensorWriter(
      safetensors: path, tensors: [TensorInfo(name: "a", type: .u8, shape: [3])], metadata: ["sum": text, "other": "x"])
    try writer.append([7, 8, 9])
    try writer.amend(text, by: other)
    try writer.finish()
    let checkpoint = try CheckpointLocation(path: path).open()
    #expect(checkpoint.metadata["sum"] == .string(other))
    #expect(checkpoint.tensors[0].decoded(as: Float.self) == [7, 8, 9])
  }
}
