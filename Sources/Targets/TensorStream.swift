import Formats
import Networks

/// Computes the recipes of an output a few blocks of rows at a time and writes them: never more than a few blocks of
/// numbers in memory, whatever the size of the model. While one batch of blocks is written the next one is computed.
package struct TensorStream: Sendable {
  /// Called with the bytes written so far.
  package typealias Progress = @Sendable (_ byteCount: Int) -> Void

  private let byName: [String: TargetOutput.StoredParameter]
  private let file: String
  private let workers: Workers

  package init(_ output: TargetOutput, file: String, workers: Workers = .all) {
    byName = Dictionary(uniqueKeysWithValues: output.parameters.map { ($0.info.name, $0) })
    self.file = file
    self.workers = workers
  }

  /// Rows of one tensor.
  fileprivate struct Block {
    /// In the writer's order.
    let tensor: Int
    let rows: Range<Int>
    let isLast: Bool
  }

  /// Writes every tensor in the writer's order. The writer is left to be finished.
  ///
  /// - Returns: the fingerprint of each tensor's bytes as they were meant, by name.
  /// - Throws: `.nonFinite` where a weight is NaN or infinite, or too large for its type; `.output`.
  package func write(to writer: any TensorWriter, progress: Progress) throws(Refusal) -> [String: Fingerprint] {
    let parameters = writer.order.map { info in
      guard let parameter = byName[info.name] else { preconditionFailure("the writer asks for \(info.name)") }
      return parameter
    }
    let batches = Self.batches(of: parameters.map(\.value), count: 4 * workers.count)
    let readers = parameters.map { _ in Slot<ParameterReader>() }
    let sink = Sink(writer: writer, names: parameters.map(\.info.name))
    var computed: [(block: Block, bytes: Slot<EncodedRows>)] = []
    try prepare(batches.first ?? [], parameters, readers)
    for (number, batch) in batches.enumerated() {
      let slots = batch.map { _ in Slot<EncodedRows>() }
      let previous = computed
      let next = number + 1 < batches.count ? Self.starts(batches[number + 1]) : []
      try workers.forEach(1 + batch.count + next.count) { (task) throws(Refusal) in
        if task == 0 {
          try sink.take(previous)
          progress(sink.byteCount)
        } else if task <= batch.count {
          let block = batch[task - 1]
          guard let reader = readers[block.tensor].value else { preconditionFailure("a reader is missing") }
          slots[task - 1].value = try encode(block.rows, of: parameters[block.tensor], through: reader)
        } else {
          let tensor = next[task - batch.count - 1]
          readers[tensor].value = ParameterReader(parameters[tensor].value)
        }
      }
      for block in batch where block.isLast { readers[block.tensor].value = nil }
      computed = Array(zip(batch, slots))
    }
    try sink.take(computed)
    progress(sink.byteCount)
    return sink.fingerprints
  }

  private func prepare(
    _ batch: [Block], _ parameters: [TargetOutput.StoredParameter], _ readers: [Slot<ParameterReader>]
  ) throws(Refusal) {
    let tensors = Self.starts(batch)
    workers.forEach(tensors.count) { readers[tensors[$0]].value = ParameterReader(parameters[tensors[$0]].value) }
  }

  /// All blocks of all tensors, `count` at a time.
  private static func batches(of parameters: [Parameter], count: Int) -> [[Block]] {
    var batches: [[Block]] = []
    for (tensor, parameter) in parameters.enumerated() where parameter.elementCount > 0 {
      let step = ParameterReader.rowsPerBlock(of: parameter)
      for start in stride(from: 0, to: parameter.rowCount, by: step) {
        let end = min(start + step, parameter.rowCount)
        if batches.last?.count ?? count == count { batches.append([]) }
        batches[batches.count - 1].append(
          Block(tensor: tensor, rows: start..<end, isLast: end == parameter.rowCount))
      }
    }
    return batches
  }

  /// The tensors that begin in a batch.
  private static func starts(_ batch: [Block]) -> [Int] { batch.filter { $0.rows.lowerBound == 0 }.map(\.tensor) }

  private func encode(
    _ rows: Range<Int>, of parameter: TargetOutput.StoredParameter, through reader: ParameterReader
  ) throws(Refusal) -> EncodedRows {
    let info = parameter.info
    let values = UnsafeMutableBufferPointer<Double>.allocate(capacity: rows.count * reader.columnCount)
    defer { unsafe values.deallocate() }
    unsafe reader.read(rows: rows, columns: 0..<reader.columnCount, into: values)
    let firstElement = rows.lowerBound * reader.columnCount
    try unsafe requireFinite(UnsafeBufferPointer(values), of: parameter)
    let result = EncodedRows(byteCount: info.byteCount / reader.rowCount * rows.count)
    if let index = unsafe info.type.encode(UnsafeBufferPointer(values), into: result.bytes) {
      throw overflow(of: unsafe values[index], at: firstElement + index, info: info)
    }
    return result
  }

  /// - Throws: `.nonFinite` naming the stored tensor that the NaN or infinity comes from, where it is in one.
  private func requireFinite(
    _ values: UnsafeBufferPointer<Double>, of parameter: TargetOutput.StoredParameter
  ) throws(Refusal) {
    guard unsafe !values.areFinite else { return }
    for tensor in parameter.value.storedTensors {
      for (index, value) in tensor.decoded(as: Double.self).enumerated() where !value.isFinite {
        throw Refusal(
          .nonFinite, file: tensor.file.path, subject: tensor.name, "element \(index) is \(value)",
          advice: "the training run that wrote it diverged")
      }
    }
    throw Refusal(
      .nonFinite, file: file, subject: parameter.info.name, "its numbers overflow double precision: \(parameter.value)")
  }

  private func overflow(of value: Double, at element: Int, info: TensorInfo) -> Refusal {
    Refusal(
      .nonFinite, file: file, subject: info.name,
      "element \(element) is \(value), too large for \(info.type.displayName)",
      advice: "choose a wider type with --type")
  }
}

/// What one thread leaves for the next step: filled before, and read after, all threads have met.
private final class Slot<Value>: @unchecked Sendable {
  var value: Value?
}

/// The bytes of some rows, as they are to be stored.
@safe private final class EncodedRows {
  let bytes: UnsafeMutableRawBufferPointer

  init(byteCount: Int) { unsafe bytes = .allocate(byteCount: byteCount, alignment: 64) }

  deinit { unsafe bytes.deallocate() }
}

/// Where the blocks go, in their order. Used by one thread at a time.
private final class Sink: @unchecked Sendable {
  private let writer: any TensorWriter
  private let names: [String]
  private var context = FingerprintContext()
  private(set) var byteCount = 0
  private(set) var fingerprints: [String: Fingerprint]

  init(writer: any TensorWriter, names: [String]) {
    self.writer = writer
    self.names = names
    // Those of tensors without elements, of which no block comes.
    fingerprints = Dictionary(uniqueKeysWithValues: names.map { ($0, FingerprintContext().finish()) })
  }

  func take(_ blocks: [(block: TensorStream.Block, bytes: Slot<EncodedRows>)]) throws(Refusal) {
    for (block, slot) in blocks {
      guard let rows = slot.value else { preconditionFailure("a block was not computed") }
      unsafe context.update(UnsafeRawBufferPointer(rows.bytes))
      try unsafe writer.append(UnsafeRawBufferPointer(rows.bytes))
      byteCount += unsafe rows.bytes.count
      slot.value = nil
      if block.isLast {
        fingerprints[names[block.tensor]] = context.finish()
        context = FingerprintContext()
      }
    }
  }
}

extension UnsafeBufferPointer<Double> {
  /// One multiplication by zero finds every NaN and infinity without a branch in the loop.
  fileprivate var areFinite: Bool {
    var sums = SIMD4<Double>()
    let whole = count / 4 * 4
    for index in stride(from: 0, to: whole, by: 4) {
      unsafe sums += SIMD4(self[index], self[index + 1], self[index + 2], self[index + 3]) * 0
    }
    var sum = sums.sum()
    for index in whole..<count { unsafe sum += self[index] * 0 }
    return sum == 0
  }
}
