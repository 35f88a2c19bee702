import CNormFoldKernels
import NormFoldFormats
import NormFoldNetworks

/// Computes the recipes of an output, each block of rows where it is to lie: never more than a few blocks of numbers in memory,
/// whatever the size of the model.
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

  /// Writes every tensor. The writer is left to be finished.
  ///
  /// - Parameter takesFingerprints: whether anyone is going to ask for them.
  /// - Returns: the fingerprints of each tensor's bytes as they were meant, by name.
  /// - Throws: `.nonFinite` where a weight is NaN or infinite, or too large for its type; `.output`.
  package func write(
    to writer: TensorWriter, takesFingerprints: Bool = true, progress: Progress
  ) throws(Refusal) -> [String: [TensorPiece]] {
    let places = writer.places
    let parameters = places.map { place in
      guard let parameter = byName[place.info.name] else {
        preconditionFailure("the writer asks for \(place.info.name)")
      }
      return parameter
    }
    let batches = Self.batches(
      of: parameters.map(\.value),
      elementCount: max(Self.blocksPerBatch, isInPlace ? Self.blocksPerThread * workers.count : 0)
        * ParameterReader.blockElementCount)
    let readers = parameters.map { _ in Slot<ParameterReader>() }
    var pieces = parameters.map { _ in [TensorPiece]() }
    // In place, pages are taken out of the mapping first, which takes a while.
    var written = Written(runByteCount: isInPlace ? TensorFile.pageByteCount : 8 << 20)
    try prepare(batches.first ?? [], parameters, readers)
    for (number, batch) in batches.enumerated() {
      let fingerprints = batch.map { _ in Slot<TensorPiece>() }
      let next = number + 1 < batches.count ? Self.starts(batches[number + 1]) : []
      let runs = written.takeRuns()
      try workers.forEach(runs.count + batch.count + next.count) { (task) throws(Refusal) in
        if task < runs.count {
          runs[task].file.begin(runs[task].part)
        } else if task < runs.count + batch.count {
          let block = batch[task - runs.count]
          guard let reader = readers[block.tensor].value else { preconditionFailure("a reader is missing") }
          fingerprints[task - runs.count].value = try write(
            block, of: parameters[block.tensor], through: reader, to: places[block.tensor],
            takesFingerprint: takesFingerprints)
        } else {
          let tensor = next[task - runs.count - batch.count]
          readers[tensor].value = ParameterReader(parameters[tensor].value, workers: workers)
        }
      }
      for (block, piece) in zip(batch, fingerprints) {
        if block.isLast { readers[block.tensor].value = nil }
        if let piece = piece.value { pieces[block.tensor].append(piece) }
        written.add(
          places[block.tensor].range(bytes(of: block, in: parameters[block.tensor])), of: places[block.tensor].file)
      }
      progress(written.byteCount)
    }
    return Dictionary(uniqueKeysWithValues: zip(parameters.map(\.info.name), pieces))
  }

  private var isInPlace: Bool { workers.count >= TensorFile.leastThreadCount }

  /// The bytes of its tensor that a block is.
  private func bytes(of block: Block, in parameter: TargetOutput.StoredParameter) -> Range<Int> {
    let rowByteCount = parameter.info.byteCount / parameter.value.rowCount
    return block.rows.lowerBound * rowByteCount..<block.rows.upperBound * rowByteCount
  }

  private func write(
    _ block: Block, of parameter: TargetOutput.StoredParameter, through reader: ParameterReader, to place: TensorPlace,
    takesFingerprint: Bool
  ) throws(Refusal) -> TensorPiece? {
    let part = bytes(of: block, in: parameter)
    return try unsafe place.file.fill(place.range(part), inPlace: isInPlace) {
      (bytes) throws(Refusal) in
      try unsafe encode(block.rows, of: parameter, through: reader, into: bytes)
      guard takesFingerprint else { return nil }
      return unsafe TensorPiece(bytes: part, fingerprint: Fingerprint(of: UnsafeRawBufferPointer(bytes)))
    }
  }

  private func prepare(
    _ batch: [Block], _ parameters: [TargetOutput.StoredParameter], _ readers: [Slot<ParameterReader>]
  ) throws(Refusal) {
    let tensors = Self.starts(batch)
    workers.forEach(tensors.count) {
      readers[tensors[$0]].value = ParameterReader(parameters[tensors[$0]].value, workers: workers)
    }
  }

  /// Blocks of a batch, of about 256 KiB each (``ParameterReader/blockElementCount`` numbers in double precision): enough that
  /// threads seldom wait for each other, few enough that memory does not show it.
  private static let blocksPerBatch = 192
  /// For each thread, where blocks are computed in pages of the file and take no other memory. Each batch ends with a wait for its
  /// longest task, so that fewer batches are better.
  private static let blocksPerThread = 32

  /// All blocks of all tensors, about `elementCount` numbers at a time.
  private static func batches(of parameters: [Parameter], elementCount: Int) -> [[Block]] {
    var batches: [[Block]] = []
    var room = 0
    for (tensor, parameter) in parameters.enumerated() where parameter.elementCount > 0 {
      let step = ParameterReader.rowsPerBlock(of: parameter)
      for start in stride(from: 0, to: parameter.rowCount, by: step) {
        let end = min(start + step, parameter.rowCount)
        if room <= 0 {
          batches.append([])
          room = elementCount
        }
        room -= (end - start) * parameter.columnCount
        batches[batches.count - 1].append(
          Block(tensor: tensor, rows: start..<end, isLast: end == parameter.rowCount))
      }
    }
    return batches
  }

  /// The tensors that begin in a batch.
  private static func starts(_ batch: [Block]) -> [Int] { batch.filter { $0.rows.lowerBound == 0 }.map(\.tensor) }

  /// Computes rows and stores them.
  private func encode(
    _ rows: Range<Int>, of parameter: TargetOutput.StoredParameter, through reader: ParameterReader,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(Refusal) {
    let info = parameter.info
    if let stored = StoredRows(rows, of: parameter) {
      guard stored.areFinite else { throw notFinite(parameter) }
      unsafe stored.copy(to: bytes)
      return
    }
    let values = UnsafeMutableBufferPointer<Double>.allocate(capacity: rows.count * reader.columnCount)
    defer { unsafe values.deallocate() }
    unsafe reader.read(rows: rows, columns: 0..<reader.columnCount, into: values)
    let firstElement = rows.lowerBound * reader.columnCount
    guard unsafe normfold_are_finite_double(values.baseAddress, values.count) else { throw notFinite(parameter) }
    if let index = unsafe info.type.encode(UnsafeBufferPointer(values), into: bytes) {
      throw overflow(of: unsafe values[index], at: firstElement + index, info: info)
    }
  }

  /// `.nonFinite`, naming the stored tensor that the NaN or infinity comes from, where it is in one.
  private func notFinite(_ parameter: TargetOutput.StoredParameter) -> Refusal {
    for tensor in parameter.value.storedTensors {
      if let refusal = tensor.nonFiniteRefusal() { return refusal }
    }
    return Refusal(
      .nonFinite, file: file, subject: parameter.info.name, "its numbers overflow double precision: \(parameter.value)")
  }

  private func overflow(of value: Double, at element: Int, info: TensorInfo) -> Refusal {
    Refusal(
      .nonFinite, file: file, subject: info.name,
      "element \(element) is \(value), too large for \(info.type.displayName)",
      advice: "choose a wider type with \(.type)")
  }
}

/// A slot holds what one thread leaves for the next step: filled before, and read after, all threads have met.
private final class Slot<Value>: @unchecked Sendable {
  var value: Value?
}

/// The parts of files that are written, and that the device was not told to begin with.
private struct Written {
  /// One for each file.
  private var parts: [(file: TensorFile, part: Range<Int>)] = []
  private(set) var byteCount = 0
  /// Long enough for the device, short enough for the threads to share them.
  private let runByteCount: Int

  init(runByteCount: Int) { self.runByteCount = runByteCount }

  mutating func add(_ part: Range<Int>, of file: TensorFile) {
    byteCount += part.count
    if let last = parts.last, last.file === file, last.part.upperBound <= part.lowerBound {
      parts[parts.count - 1].part = last.part.lowerBound..<part.upperBound
    } else {
      parts.append((file, part))
    }
  }

  /// Hands out what the device is to begin with now: of the file that is being written, whole pages.
  mutating func takeRuns() -> [(file: TensorFile, part: Range<Int>)] {
    guard let (file, part) = parts.last else { return [] }
    let end = max(part.lowerBound, part.upperBound / TensorFile.pageByteCount * TensorFile.pageByteCount)
    let whole = parts.dropLast() + [(file, part.lowerBound..<end)]
    parts = [(file, end..<part.upperBound)]
    return whole.flatMap { file, part in
      stride(from: part.lowerBound, to: part.upperBound, by: runByteCount).map {
        (file, $0..<min($0 + runByteCount, part.upperBound))
      }
    }
  }
}

/// Rows that need no computing: numbers of the source in the type that they are written in.
private struct StoredRows {
  private let tensor: Tensor
  private let range: Range<Int>

  /// nil where the rows have to be computed.
  init?(_ rows: Range<Int>, of parameter: TargetOutput.StoredParameter) {
    let type = parameter.info.type
    guard [.f32, .f16, .bf16].contains(type), let view = parameter.value.storedView, !view.isTransposed,
      view.tensor.info.type == type, view.tensor.isContiguous, view.leadingDimension == parameter.value.columnCount
    else { return nil }
    let first = view.elementOffset + rows.lowerBound * view.leadingDimension
    let byteCount = type.bitsPerBlock / 8
    tensor = view.tensor
    range = first * byteCount..<(first + rows.count * view.leadingDimension) * byteCount
  }

  func copy(to bytes: UnsafeMutableRawBufferPointer) {
    tensor.withBytes { stored in
      unsafe stored.extracting(range).withUnsafeBytes { unsafe bytes.copyMemory(from: $0) }
    }
  }

  /// Is true if no number is NaN or infinite.
  var areFinite: Bool {
    tensor.withBytes { bytes in
      unsafe bytes.extracting(range).withUnsafeBytes { bytes in
        switch tensor.info.type {
        case .f16: unsafe normfold_are_finite_16(bytes.baseAddress, bytes.count / 2, 0x7C00)
        case .bf16: unsafe normfold_are_finite_16(bytes.baseAddress, bytes.count / 2, 0x7F80)
        default: unsafe normfold_are_finite_32(bytes.baseAddress, bytes.count / 4, 0x7F80_0000)
        }
      }
    }
  }
}
