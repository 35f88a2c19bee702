import NormFoldFormats
import NormFoldNetworks

extension Network {
  /// The same network, with every parameter that arithmetic cannot read in place computed once, into a file without a
  /// name: for passes that are run many times, over few tokens each.
  ///
  /// - Parameters:
  ///   - scalar: the precision of that arithmetic, to which the numbers are rounded.
  ///   - directory: where the file is kept; nil for the system's temporary directory.
  /// - Throws: `.output` where there is no room for it.
  package func materialised<Scalar: ArithmeticScalar>(
    for scalar: Scalar.Type, in directory: String? = nil
  ) throws(Refusal) -> Network {
    var computed = ComputedParameters<Scalar>(file: try TemporaryFile(in: directory))
    var parameters: [Parameter] = []
    _ = mappingParameters {
      parameters.append($0)
      return $0
    }
    for parameter in parameters { try computed.add(parameter) }
    let places = try computed.mapped()
    return mappingParameters { places[$0] ?? $0 }
  }
}

/// Parameters on their way into one file.
private struct ComputedParameters<Scalar: ArithmeticScalar> {
  let file: TemporaryFile
  /// By the parameter that was asked for: where its numbers start, and whether they lie [out, in].
  private var places: [Parameter: (byteOffset: Int, isTransposed: Bool)] = [:]

  init(file: TemporaryFile) { self.file = file }

  mutating func add(_ parameter: Parameter) throws(Refusal) {
    guard places[parameter] == nil, !parameter.isReadInPlace(by: Scalar.self) else { return }
    // As it is stored, so that rows are read as they lie, and a tie stays one.
    let isTransposed =
      parameter.shape.count == 2 && (parameter.storedView?.isTransposed ?? parameter.readsAcrossStoredRows)
    places[parameter] = (file.byteCount, isTransposed)
    let reader = ParameterReader(isTransposed ? parameter.transposed() : parameter)
    var line = [Scalar](repeating: 0, count: reader.rowsPerBlock * reader.columnCount)
    unsafe try reader.forEachBlock { (_, values) throws(Refusal) in
      for index in 0..<values.count { line[index] = unsafe Scalar(values[index]) }
      let result: Result<Void, Refusal> = unsafe line.withUnsafeBytes { bytes in
        do throws(Refusal) {
          return unsafe .success(
            try file.write(UnsafeRawBufferPointer(rebasing: bytes[..<(values.count * MemoryLayout<Scalar>.stride)])))
        } catch {
          return .failure(error)
        }
      }
      try result.get()
    }
    try file.pad(to: 64)
  }

  func mapped() throws(Refusal) -> [Parameter: Parameter] {
    guard !places.isEmpty else { return [:] }
    let mapping = try file.mapped(as: "computed weights")
    var result: [Parameter: Parameter] = [:]
    for (parameter, place) in places {
      let shape = place.isTransposed ? [parameter.shape[1], parameter.shape[0]] : parameter.shape
      let stored = Parameter.stored(
        Tensor(
          info: TensorInfo(name: parameter.description, type: Scalar.storedType, shape: shape), file: mapping,
          byteOffset: place.byteOffset))
      result[parameter] = place.isTransposed ? stored.transposed() : stored
    }
    return result
  }
}

extension Parameter {
  /// Returns whether reading costs no arithmetic: true for a matrix of this type as it lies, and for a vector of any
  /// type.
  fileprivate func isReadInPlace<Scalar: ArithmeticScalar>(by scalar: Scalar.Type) -> Bool {
    if shape.count < 2, constantValue != nil { return true }
    guard let view = storedView else { return false }
    return shape.count < 2
      || view.tensor.isContiguous && view.tensor.info.type == Scalar.storedType
        && view.tensor.byteOffset.isMultiple(of: MemoryLayout<Scalar>.alignment)
  }
}
