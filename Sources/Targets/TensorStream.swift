import Formats
import Networks

/// Computes the recipes of an output one block of rows at a time and writes them: never more than a few blocks of
/// numbers in memory, whatever the size of the model.
package struct TensorStream {
  /// Called with the bytes written so far.
  package typealias Progress = (_ byteCount: Int) -> Void

  private let byName: [String: TargetOutput.StoredParameter]
  private let file: String

  package init(_ output: TargetOutput, file: String) {
    byName = Dictionary(uniqueKeysWithValues: output.parameters.map { ($0.info.name, $0) })
    self.file = file
  }

  /// Writes every tensor in the writer's order and completes the file.
  ///
  /// - Returns: the SHA-256 of each tensor's bytes as they were meant, by name.
  /// - Throws: `.nonFinite` where a weight is NaN or infinite, or too large for its type; `.output`.
  package func write(to writer: any TensorWriter, progress: Progress) throws(Refusal) -> [String: Digest] {
    var digests: [String: Digest] = [:]
    var done = 0
    for info in writer.order {
      guard let parameter = byName[info.name] else { preconditionFailure("the writer asks for \(info.name)") }
      let digest = DigestContext()
      let reader = ParameterReader(parameter.value)
      let rowByteCount = info.byteCount / max(1, reader.rowCount)
      let bytes = UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(1, reader.rowsPerBlock * rowByteCount), alignment: 64)
      defer { unsafe bytes.deallocate() }
      try unsafe reader.forEachBlock { (rows, values) throws(Refusal) in
        let encoded = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[..<(rows.count * rowByteCount)])
        try unsafe requireFinite(
          UnsafeBufferPointer(values), of: parameter, firstElement: rows.lowerBound * reader.columnCount)
        if let index = unsafe info.type.encode(UnsafeBufferPointer(values), into: encoded) {
          throw overflow(of: unsafe values[index], at: rows.lowerBound * reader.columnCount + index, info: info)
        }
        unsafe digest.update(UnsafeRawBufferPointer(encoded))
        try unsafe writer.append(UnsafeRawBufferPointer(encoded))
        done += encoded.count
        progress(done)
      }
      digests[info.name] = digest.finish()
    }
    try writer.finish()
    return digests
  }

  /// - Throws: `.nonFinite` naming the stored tensor that the NaN or infinity comes from, where it is in one.
  private func requireFinite(
    _ values: UnsafeBufferPointer<Double>, of parameter: TargetOutput.StoredParameter, firstElement: Int
  ) throws(Refusal) {
    // One multiplication by zero finds every NaN and infinity without a branch in the loop.
    var sum = 0.0
    for index in 0..<values.count { unsafe sum += values[index] * 0 }
    guard sum != 0 || sum.isNaN else { return }
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
