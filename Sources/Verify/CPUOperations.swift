import Formats
import Networks

/// The forward pass on the CPU, in Float or Double. All probes go through each weight together, so that a weight is
/// read once per pass; attention keeps them apart. One pass at a time: copies share the room that weights are computed in.
///
/// Legend: T tokens of all probes, D dModel, H heads, V vocabulary.
package struct CPUOperations<Scalar: ArithmeticScalar>: ForwardOperations {
  package let probes: [Probe]
  /// Rounds every matrix and embedding as coarsely as a storage does before use: what storing a network so costs it.
  package private(set) var rounding: Storage?

  /// Tokens that have other norms than the network.
  private let otherNorms: [NormsOfRows]
  let tokenCount: Int
  private let scratch = Scratch<Scalar>()

  /// - Parameter otherNorms: in the order of their rows.
  package init(probes: [Probe], rounding: Storage? = nil, otherNorms: [NormsOfRows] = []) {
    _ = arithmeticIsReady
    self.probes = probes
    self.rounding = rounding
    self.otherNorms = otherNorms
    tokenCount = probes.reduce(0) { $0 + $1.tokens.count }
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func embed(tokens: Parameter, positions: Parameter?) -> Matrix<Scalar> {
    let tokenRows = ParameterReader(tokens)
    let positionRows = positions.map(ParameterReader.init)
    let width = tokens.columnCount
    let result = Matrix<Scalar>(rows: tokenCount, columns: width)
    let line = UnsafeMutableBufferPointer<Double>.allocate(capacity: width)
    let offsets = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: width)
    defer {
      line.deallocate()
      offsets.deallocate()
    }
    var index = 0
    for probe in probes {
      for (token, position) in zip(probe.tokens, probe.positions) {
        let row = result.row(index)
        tokenRows.read(rows: token..<token + 1, columns: 0..<width, into: line)
        for column in 0..<width { row[column] = Scalar(line[column]) }
        if let rounding { row.round(to: rounding.tokenEmbedding, unit: rounding.unit, columnCount: width) }
        if let positionRows {
          positionRows.read(rows: position..<position + 1, columns: 0..<width, into: line)
          for column in 0..<width { offsets[column] = Scalar(line[column]) }
          if let rounding { offsets.round(to: rounding.positionEmbedding, unit: rounding.unit, columnCount: width) }
          for column in 0..<width { row[column] += offsets[column] }
        }
        index += 1
      }
    }
    return result
  }

  package func normalise(_ x: Matrix<Scalar>, by norm: Norm) throws(Refusal) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    var end = 0
    for part in otherNorms {
      try normalise(x, rows: end..<part.rows.lowerBound, by: norm, into: result)
      try normalise(x, rows: part.rows, by: part.norms[norm] ?? norm, into: result)
      end = part.rows.upperBound
    }
    try normalise(x, rows: end..<x.rowCount, by: norm, into: result)
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func normalise(
    _ x: Matrix<Scalar>, rows: Range<Int>, by norm: Norm, into result: Matrix<Scalar>
  ) throws(Refusal) {
    guard !rows.isEmpty else { return }
    let gain = ParameterReader(norm.gain).values().map { Scalar($0) }
    let bias = norm.bias.map { ParameterReader($0).values().map { Scalar($0) } }
    let isCentred = norm.kind == .layer
    switch norm.deviation {
    case .computed(let epsilon) where norm.kind == .crms:
      for row in rows {
        Kernels.normaliseCompressed(
          x.row(row), epsilon: Scalar(epsilon), gain: gain, bias: bias, into: result.row(row))
      }
    case .computed(let epsilon):
      for row in rows {
        Kernels.normalise(
          x.row(row), epsilon: Scalar(epsilon), isCentred: isCentred, gain: gain, bias: bias, into: result.row(row))
      }
    case .fixed(let deviation):
      let factors = ParameterReader(deviation).values().map { Scalar($0) }
      for row in rows {
        Kernels.divide(x.row(row), by: factors, isCentred: isCentred, gain: gain, bias: bias, into: result.row(row))
      }
    case .perPosition, .perToken:
      throw Refusal(
        .notFoldable, subject: norm.name, "a deviation that depends on the position or the token is not evaluated")
    }
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func apply(_ map: LinearMap, to x: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: map.weight.columnCount)
    let isBiased = map.bias != nil
    if let bias = map.bias {
      let values = ParameterReader(bias).values().map { Scalar($0) }
      values.withUnsafeBufferPointer { values in
        guard let start = values.baseAddress else { return }
        for row in 0..<result.rowCount {
          (result.start + row * result.columnCount).update(from: start, count: values.count)
        }
      }
    }
    forEachPart(of: map.weight) { part in
      Scalar.multiply(
        rows: x.rowCount, columns: part.outputs.count, inner: part.inputs.count, x.start + part.inputs.lowerBound,
        strideA: x.columnCount, part.start, strideB: part.stride, isTransposed: part.isTransposed, factor: 1,
        beta: isBiased || part.inputs.lowerBound > 0 ? 1 : 0, into: result.start + part.outputs.lowerBound,
        strideC: result.columnCount)
    }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func attend(
    query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>, block: Int, headCount: Int,
    keyValueHeadCount: Int, rotary: Rotary?, scale: Double
  ) -> Matrix<Scalar> {
    let width = query.columnCount
    let dHead = width / headCount
    let keyWidth = key.columnCount
    let query = rotary.map { rotated(query, dHead: dHead, by: $0) } ?? query
    let key = rotary.map { rotated(key, dHead: dHead, by: $0) } ?? key
    let result = Matrix<Scalar>(rows: query.rowCount, columns: width)
    let longest = probes.map(\.tokens.count).max() ?? 0
    let scores = UnsafeMutablePointer<Scalar>.allocate(capacity: min(Self.attentionRows, longest) * longest)
    let totals = UnsafeMutablePointer<Scalar>.allocate(capacity: Self.attentionRows)
    defer {
      scores.deallocate()
      totals.deallocate()
    }
    var start = 0
    for probe in probes {
      for head in 0..<headCount {
        let corner = start * width + head * dHead
        let keyFeature = head * keyValueHeadCount / headCount * dHead
        let keyCorner = start * keyWidth + keyFeature
        // 0 · ∞ is NaN: where a value is not finite, no row may even see those that come after it.
        let isFinite = (start..<start + probe.tokens.count).allSatisfy { token in
          value.row(token)[keyFeature..<keyFeature + dHead].allSatisfy(\.isFinite)
        }
        let step = isFinite ? Self.attentionRows : 1
        for first in stride(from: 0, to: probe.tokens.count, by: step) {
          let rows = first..<min(first + step, probe.tokens.count)
          // Of what comes after the last of these rows nothing is computed.
          let length = rows.upperBound
          Scalar.multiply(
            rows: rows.count, columns: length, inner: dHead, query.start + corner + rows.lowerBound * width,
            strideA: width, key.start + keyCorner, strideB: keyWidth, isTransposed: true, factor: Scalar(scale),
            beta: 0,
            into: scores, strideC: length)
          for row in rows {
            let line = UnsafeMutableBufferPointer(start: scores + (row - rows.lowerBound) * length, count: length)
            totals[row - rows.lowerBound] = Kernels.powers(UnsafeMutableBufferPointer(rebasing: line[...row]))
            for future in row + 1..<max(row + 1, length) { line[future] = 0 }
          }
          Scalar.multiply(
            rows: rows.count, columns: dHead, inner: length, scores, strideA: length, value.start + keyCorner,
            strideB: keyWidth, isTransposed: false, factor: 1, beta: 0,
            into: result.start + corner + rows.lowerBound * width, strideC: width)
          // The shares of the softmax are taken here, where there are fewer numbers.
          for row in rows {
            let factor = 1 / totals[row - rows.lowerBound]
            let mixed = result.start + corner + row * width
            for feature in 0..<dHead { mixed[feature] *= factor }
          }
        }
      }
      start += probe.tokens.count
    }
    return result
  }

  /// Rows of attention that are computed together: enough for BLAS to be fast, few enough that little is computed of
  /// what no row may see.
  private static var attentionRows: Int { 64 }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func activate(_ x: Matrix<Scalar>, by activation: Activation) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    Kernels.activate(x.values, by: activation, into: result.values)
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func add(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    for index in 0..<a.values.count { result.values[index] = a.values[index] + b.values[index] }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func multiply(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    for index in 0..<a.values.count { result.values[index] = a.values[index] * b.values[index] }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func scale(_ x: Matrix<Scalar>, by factor: Double) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let factor = Scalar(factor)
    for index in 0..<x.values.count { result.values[index] = x.values[index] * factor }
    return result
  }

  package func unembed(_ x: Matrix<Scalar>, by map: LinearMap) -> PendingLogits<Scalar> {
    var operations = self
    operations.rounding = rounding?.ofUnembedding
    return PendingLogits(residual: x, map: map, operations: operations)
  }

  /// Some rows or columns of a weight [in, out] as BLAS reads them.
  private struct WeightPart {
    let inputs: Range<Int>
    let outputs: Range<Int>
    let start: UnsafePointer<Scalar>
    let stride: Int
    /// Stored [out, in].
    let isTransposed: Bool
  }

  /// Lends the numbers of a matrix: in place and whole where the file holds them in this precision, else computed, a
  /// block of stored rows at a time, which is multiplied while it is in the cache.
  private func forEachPart(of parameter: Parameter, _ body: (WeightPart) -> Void) {
    if rounding == nil, let view = parameter.storedView, view.tensor.isContiguous,
      view.tensor.info.type == Scalar.storedType
    {
      let isLent = view.tensor.withBytes { bytes in
        bytes.withUnsafeBytes { raw in
          guard let base = raw.baseAddress, Int(bitPattern: base) % MemoryLayout<Scalar>.alignment == 0 else {
            return false
          }
          body(
            WeightPart(
              inputs: 0..<parameter.rowCount, outputs: 0..<parameter.columnCount,
              start: base.assumingMemoryBound(to: Scalar.self) + view.elementOffset, stride: view.leadingDimension,
              isTransposed: view.isTransposed))
          return true
        }
      }
      if isLent { return }
    }
    // In the orientation in which it is stored, so that rows are read as they lie.
    let isTransposed = parameter.storedView?.isTransposed ?? parameter.readsAcrossStoredRows
    let reader = ParameterReader(isTransposed ? parameter.transposed() : parameter)
    // Blocks of inputs are sums, each over all tokens' results: the more tokens, the fewer of them. What is rounded is
    // rounded whole, since its own blocks may run either way.
    let rowCount =
      rounding != nil ? reader.rowCount : max(reader.rowsPerBlock, isTransposed ? 0 : tokenCount / 4)
    for first in stride(from: 0, to: reader.rowCount, by: rowCount) {
      let rows = first..<min(first + rowCount, reader.rowCount)
      let start = scratch.room(for: rowCount * reader.columnCount)
      let numbers = UnsafeMutableBufferPointer(start: start, count: rows.count * reader.columnCount)
      reader.read(rows: rows, into: numbers)
      if let rounding {
        // Stored matrices are [out, in] wherever a type has blocks, so these run along the input.
        let type = rounding.matrix(inputWidth: parameter.rowCount)
        if isTransposed {
          numbers.round(to: type, unit: rounding.unit, columnCount: reader.columnCount)
        } else {
          numbers.roundAcross(to: type, unit: rounding.unit, columnCount: reader.columnCount)
        }
      }
      body(
        WeightPart(
          inputs: isTransposed ? 0..<reader.columnCount : rows, outputs: isTransposed ? rows : 0..<reader.columnCount,
          start: start, stride: reader.columnCount, isTransposed: isTransposed))
    }
  }
}

/// Logits that are computed when asked for, a range of the vocabulary at a time: all of them at once would be the
/// largest thing in memory.
package struct PendingLogits<Scalar: ArithmeticScalar>: Sendable {
  /// [T, D]
  package let residual: Matrix<Scalar>
  let map: LinearMap
  let operations: CPUOperations<Scalar>

  package var vocabularySize: Int { map.weight.columnCount }

  /// The logits of a range of the vocabulary: [T, range].
  package func logits(of range: Range<Int>) -> Matrix<Scalar> {
    operations.apply(
      LinearMap(
        weight: map.weight.sliced(axis: 1, range), bias: map.bias.map { $0.sliced(axis: 0, range) }), to: residual)
  }

  /// All logits: [T, V].
  package func all() -> Matrix<Scalar> { logits(of: 0..<vocabularySize) }
}

extension ArithmeticScalar {
  /// The element type that is this scalar in a file.
  static var storedType: ElementType { Self.self == Double.self ? .f64 : .f32 }
}

extension ParameterReader {
  /// Reads rows, in blocks that stay in cache between the steps of the recipe, rounding to `Scalar` where that is
  /// narrower.
  fileprivate func read<Scalar: ArithmeticScalar>(
    rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    if let doubles = destination as? UnsafeMutableBufferPointer<Double> {
      for first in stride(from: rows.lowerBound, to: rows.upperBound, by: rowsPerBlock) {
        let block = first..<min(first + rowsPerBlock, rows.upperBound)
        let start = (first - rows.lowerBound) * columnCount
        read(
          rows: block, columns: 0..<columnCount,
          into: UnsafeMutableBufferPointer(rebasing: doubles[start..<start + block.count * columnCount]))
      }
    } else if let floats = destination as? UnsafeMutableBufferPointer<Float> {
      forEachBlock(of: rows) { block, values in
        let start = (block.lowerBound - rows.lowerBound) * columnCount
        for index in 0..<values.count { floats[start + index] = Float(values[index]) }
      }
    }
  }
}
