import Formats
import Networks
import Numerics

/// The forward pass on the CPU, in Float or Double. All probes go through each weight together, so that a weight is
/// read once per pass; attention keeps them apart. One pass at a time: copies share the memory that weights are computed in.
///
/// Legend: T tokens of all probes, D features, H heads of the queries, G heads of keys and values, d width of a head,
/// V vocabulary.
package struct FastBackend<Scalar: ArithmeticScalar>: Backend {
  package let probes: [Probe]
  /// Rounds every matrix and embedding as coarsely as a storage does before use: what storing a network so costs it.
  package private(set) var rounding: Storage?
  /// Tokens that have other norms than the network, in the order of their rows.
  private let otherNorms: [NormsOfRows]
  /// Keys and values of the tokens before those of the one probe.
  private let cache: KeyValueCache<Scalar>?
  let tokenCount: Int
  private let workspace = Workspace<Scalar>()

  package init(probes: [Probe], rounding: Storage? = nil, otherNorms: [NormsOfRows] = []) {
    self.init(probes: probes, rounding: rounding, otherNorms: otherNorms, cache: nil)
  }

  /// Runs the tokens that follow those that a cache holds.
  package init(following cache: KeyValueCache<Scalar>, tokens: [Int]) {
    let positions = Array(cache.count..<cache.count + tokens.count)
    self.init(
      probes: [Probe(name: "text", tokens: tokens, positions: positions)], rounding: nil, otherNorms: [], cache: cache)
  }

  private init(probes: [Probe], rounding: Storage?, otherNorms: [NormsOfRows], cache: KeyValueCache<Scalar>?) {
    _ = blasRunsOnOneThread
    self.probes = probes
    self.rounding = rounding
    self.otherNorms = otherNorms
    self.cache = cache
    tokenCount = probes.reduce(0) { $0 + $1.tokens.count }
  }

  package func evaluate(
    _ node: Network.Node, _ operands: [Matrix<Scalar>]
  ) throws(Refusal) -> Matrix<Scalar> {
    switch node.operation {
    case .embed(let table, let index): embed(table, by: index)
    case .norm(let norm): try normalise(operands[0], by: norm, at: node.path)
    case .linear(let map): apply(map, to: operands[0])
    case .rotate(let rotary, let headCount): rotated(operands[0], by: rotary, headCount: headCount)
    case .attend(let attention):
      attend(query: operands[0], key: operands[1], value: operands[2], by: attention, at: node.path)
    case .activate(let activation): activate(operands[0], by: activation)
    case .scale(let factor): scale(operands[0], by: factor)
    case .scaleFeatures(let vector): scale(operands[0], by: vector)
    case .add: add(operands[0], operands[1])
    case .multiply: multiply(operands[0], operands[1])
    case .select(.first): firstRows(of: operands[0])
    }
  }

  /// Rows of a table [count, D]: [T, D].
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func embed(_ table: Parameter, by index: Operation.Index) -> Matrix<Scalar> {
    let rows = ParameterReader(table)
    let width = table.columnCount
    let result = Matrix<Scalar>(rows: tokenCount, columns: width)
    let line = UnsafeMutableBufferPointer<Double>.allocate(capacity: width)
    defer { unsafe line.deallocate() }
    let type = rounding.map { index == .token ? $0.tokenEmbedding : $0.positionEmbedding }
    var token = 0
    for probe in probes {
      for origin in probe.rows(by: index) {
        let row = unsafe result.row(token)
        unsafe rows.read(rows: origin..<origin + 1, columns: 0..<width, into: line)
        for column in 0..<width { unsafe row[column] = unsafe Scalar(line[column]) }
        if let rounding, let type { unsafe row.round(to: type, unit: rounding.unit, columnCount: width) }
        token += 1
      }
    }
    return result
  }

  private func normalise(_ x: Matrix<Scalar>, by norm: Norm, at path: Path) throws(Refusal) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    var end = 0
    for part in otherNorms {
      try normalise(x, rows: end..<part.rows.lowerBound, by: norm, into: result)
      try normalise(x, rows: part.rows, by: part.norms[path] ?? norm, into: result)
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
    let width = x.columnCount / norm.headCount
    func forEachHead(
      _ body: (_ from: UnsafeMutableBufferPointer<Scalar>, _ to: UnsafeMutableBufferPointer<Scalar>) -> Void
    ) {
      for row in rows {
        let (from, to) = unsafe (x.row(row), result.row(row))
        for head in 0..<norm.headCount {
          let features = head * width..<(head + 1) * width
          unsafe body(
            UnsafeMutableBufferPointer(rebasing: from[features]), UnsafeMutableBufferPointer(rebasing: to[features]))
        }
      }
    }
    switch norm.deviation {
    case .computed(let epsilon) where norm.kind == .crms:
      for row in rows {
        unsafe Kernels.normaliseCompressed(
          x.row(row), epsilon: Scalar(epsilon), gain: gain, bias: bias, into: result.row(row))
      }
    case .computed(let epsilon):
      unsafe forEachHead { (from, to) in
        unsafe Kernels.normalise(
          from, epsilon: Scalar(epsilon), isCentred: isCentred, gain: gain, bias: bias, into: to)
      }
    case .fixed(let deviation):
      let factors = ParameterReader(deviation).values().map { Scalar($0) }
      unsafe forEachHead { (from, to) in
        unsafe Kernels.divide(from, by: factors, isCentred: isCentred, gain: gain, bias: bias, into: to)
      }
    case .perPosition, .perToken:
      throw Refusal(
        .notFoldable, subject: norm.name, "a deviation that depends on the position or the token is not evaluated")
    }
  }

  /// The first row of each probe, in the place of each of its rows.
  private func firstRows(of x: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    var start = 0
    for probe in probes {
      for row in start..<start + probe.tokens.count { _ = unsafe result.row(row).update(from: x.row(start)) }
      start += probe.tokens.count
    }
    return result
  }

  /// xW + b: [T, in] → [T, out].
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func apply(_ map: LinearMap, to x: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: map.weight.columnCount)
    let isBiased = map.bias != nil
    if let bias = map.bias {
      let values = ParameterReader(bias).values().map { Scalar($0) }
      unsafe values.withUnsafeBufferPointer { values in
        guard let start = values.baseAddress else { return }
        for row in 0..<result.rowCount {
          unsafe (result.start + row * result.columnCount).update(from: start, count: values.count)
        }
      }
    }
    forEachPart(of: map.weight) { part in
      unsafe Scalar.multiply(
        rows: x.rowCount, columns: part.outputs.count, inner: part.inputs.count, x.start + part.inputs.lowerBound,
        strideA: x.columnCount, part.start, strideB: part.stride, isTransposed: part.isTransposed, factor: 1,
        beta: isBiased || part.inputs.lowerBound > 0 ? 1 : 0, into: result.start + part.outputs.lowerBound,
        strideC: result.columnCount)
    }
    return result
  }

  /// Queries [T, H·d], keys and values [T, G·d] → [T, H·d]. With a cache, keys and values of earlier tokens stand before
  /// those of the one probe.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func attend(
    query: Matrix<Scalar>, key newKey: Matrix<Scalar>, value newValue: Matrix<Scalar>, by attention: Attention,
    at path: Path
  ) -> Matrix<Scalar> {
    let width = query.columnCount
    let dHead = width / attention.headCount
    let past = cache?.count ?? 0
    let (key, value) = cache?.append(key: newKey, value: newValue, at: path) ?? (newKey, newValue)
    let keyWidth = key.columnCount
    let result = Matrix<Scalar>(rows: query.rowCount, columns: width)
    let longest = past + (probes.map(\.tokens.count).max() ?? 0)
    let scores = UnsafeMutablePointer<Scalar>.allocate(capacity: min(Self.attentionRows, longest) * longest)
    let totals = UnsafeMutablePointer<Scalar>.allocate(capacity: Self.attentionRows)
    defer {
      unsafe scores.deallocate()
      unsafe totals.deallocate()
    }
    // γⁿ for n tokens of distance, by head: [H, longest]; without decay nothing.
    var powers: [[Scalar]] = []
    if case .decaying(let factors) = attention.weighting {
      powers = factors.map { factor in (0..<longest).map { Scalar(Double.pow(factor, $0)) } }
    }
    var start = 0
    for probe in probes {
      let count = probe.tokens.count
      let isCausal = attention.mask == .causal
      let (key, value, origin, keyCount) =
        isCausal
        ? (key, value, start, past + count) : Self.visible(key, value, rows: start..<start + count, of: probe)
      for head in 0..<attention.headCount {
        let corner = start * width + head * dHead
        let keyFeature = head * attention.keyValueHeadCount / attention.headCount * dHead
        let keyCorner = origin * keyWidth + keyFeature
        // 0 · ∞ is NaN: where a value is not finite, no row may even see those that come after it.
        let isFinite =
          count == 1 || !isCausal
          || (start..<start + past + count).allSatisfy { token in
            unsafe value.row(token)[keyFeature..<keyFeature + dHead].allSatisfy(\.isFinite)
          }
        let step = isFinite ? Self.attentionRows : 1
        for first in stride(from: 0, to: count, by: step) {
          let rows = first..<min(first + step, count)
          // Of what comes after the last of these rows nothing is computed.
          let length = isCausal ? past + rows.upperBound : keyCount
          unsafe Scalar.multiply(
            rows: rows.count, columns: length, inner: dHead, query.start + corner + rows.lowerBound * width,
            strideA: width, key.start + keyCorner, strideB: keyWidth, isTransposed: true,
            factor: Scalar(attention.scale), beta: 0, into: scores, strideC: length)
          for row in rows {
            let line = unsafe UnsafeMutableBufferPointer(
              start: scores + (row - rows.lowerBound) * length, count: length)
            let visible = isCausal ? past + row + 1 : length
            if powers.isEmpty {
              unsafe totals[row - rows.lowerBound] = unsafe Kernels.exponentials(
                UnsafeMutableBufferPointer(rebasing: line[..<visible]))
            } else {
              unsafe totals[row - rows.lowerBound] = 1
              for other in 0..<visible { unsafe line[other] *= powers[head][visible - 1 - other] }
            }
            for future in visible..<max(visible, length) { unsafe line[future] = 0 }
          }
          unsafe Scalar.multiply(
            rows: rows.count, columns: dHead, inner: length, scores, strideA: length, value.start + keyCorner,
            strideB: keyWidth, isTransposed: false, factor: 1, beta: 0,
            into: result.start + corner + rows.lowerBound * width, strideC: width)
          // The shares of the softmax are taken here, where there are fewer numbers.
          for row in rows {
            let factor = unsafe 1 / totals[row - rows.lowerBound]
            let mixed = unsafe result.start + corner + row * width
            for feature in 0..<dHead { unsafe mixed[feature] *= factor }
          }
        }
      }
      start += count
    }
    return result
  }

  /// The keys and values of a probe that may be attended to, and where they stand.
  private static func visible(
    _ key: Matrix<Scalar>, _ value: Matrix<Scalar>, rows: Range<Int>, of probe: Probe
  ) -> (key: Matrix<Scalar>, value: Matrix<Scalar>, start: Int, count: Int) {
    let visible = probe.visibleTokens
    guard visible.count < rows.count else { return (key, value, rows.lowerBound, rows.count) }
    let keys = Matrix<Scalar>(rows: visible.count, columns: key.columnCount)
    let values = Matrix<Scalar>(rows: visible.count, columns: value.columnCount)
    for (row, token) in visible.enumerated() {
      _ = unsafe keys.row(row).update(from: key.row(rows.lowerBound + token))
      _ = unsafe values.row(row).update(from: value.row(rows.lowerBound + token))
    }
    return (keys, values, 0, visible.count)
  }

  /// Rows of attention that are computed together: enough for BLAS to be fast, few enough that little is computed of
  /// what no row may see.
  private static var attentionRows: Int { 64 }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func activate(_ x: Matrix<Scalar>, by activation: Activation) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    unsafe Kernels.activate(x.values, by: activation, into: result.values)
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func add(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    for index in unsafe 0..<a.values.count { unsafe result.values[index] = unsafe a.values[index] + b.values[index] }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func multiply(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    for index in unsafe 0..<a.values.count { unsafe result.values[index] = unsafe a.values[index] * b.values[index] }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func scale(_ x: Matrix<Scalar>, by factor: Double) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let factor = Scalar(factor)
    for index in unsafe 0..<x.values.count { unsafe result.values[index] = unsafe x.values[index] * factor }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func scale(_ x: Matrix<Scalar>, by vector: Parameter) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let factors = ParameterReader(vector).values().map { Scalar($0) }
    for row in 0..<x.rowCount {
      let (from, to) = unsafe (x.row(row), result.row(row))
      for column in 0..<x.columnCount { unsafe to[column] = unsafe from[column] * factors[column] }
    }
    return result
  }

  /// The logits of a residual stream [T, D], to be computed when asked for.
  package func logits(of x: Matrix<Scalar>, by map: LinearMap?) -> PendingLogits<Scalar> {
    var backend = self
    backend.rounding = rounding?.ofUnembedding
    return PendingLogits(residual: x, map: map, backend: backend)
  }

  /// Some rows or columns of a weight [in, out] as BLAS reads them.
  @safe private struct WeightPart {
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
        unsafe bytes.withUnsafeBytes { raw in
          guard let base = raw.baseAddress, Int(bitPattern: base) % MemoryLayout<Scalar>.alignment == 0 else {
            return false
          }
          unsafe body(
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
      let start = unsafe workspace.memory(for: rowCount * reader.columnCount)
      let numbers = unsafe UnsafeMutableBufferPointer(start: start, count: rows.count * reader.columnCount)
      unsafe reader.read(rows: rows, into: numbers)
      if let rounding {
        // Stored matrices are [out, in] wherever a type has blocks, so these run along the input.
        let type = rounding.matrix(inputWidth: parameter.rowCount)
        if isTransposed {
          unsafe numbers.round(to: type, unit: rounding.unit, columnCount: reader.columnCount)
        } else {
          unsafe numbers.roundAcross(to: type, unit: rounding.unit, columnCount: reader.columnCount)
        }
      }
      unsafe body(
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
  /// The unembedding; nil where the network gives away its stream and no logits.
  let map: LinearMap?
  let backend: FastBackend<Scalar>

  package var vocabularySize: Int { map?.weight.columnCount ?? residual.columnCount }

  /// The logits of a range of the vocabulary: [T, range].
  package func logits(of range: Range<Int>) -> Matrix<Scalar> {
    guard let map else {
      let part = Matrix<Scalar>(rows: residual.rowCount, columns: range.count)
      for row in 0..<residual.rowCount {
        _ = unsafe part.row(row).update(from: UnsafeMutableBufferPointer(rebasing: residual.row(row)[range]))
      }
      return part
    }
    return backend.apply(
      LinearMap(
        weight: map.weight.sliced(axis: 1, range), bias: map.bias.map { $0.sliced(axis: 0, range) }), to: residual)
  }

  /// The logits of the last token: [1, V].
  package func ofLastToken() -> Matrix<Scalar> {
    let last = Matrix<Scalar>(rows: 1, columns: residual.columnCount)
    _ = unsafe last.values.update(from: residual.row(residual.rowCount - 1))
    return map.map { backend.apply($0, to: last) } ?? last
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
    if let doubles = unsafe destination as? UnsafeMutableBufferPointer<Double> {
      for first in stride(from: rows.lowerBound, to: rows.upperBound, by: rowsPerBlock) {
        let block = first..<min(first + rowsPerBlock, rows.upperBound)
        let start = (first - rows.lowerBound) * columnCount
        unsafe read(
          rows: block, columns: 0..<columnCount,
          into: UnsafeMutableBufferPointer(rebasing: doubles[start..<start + block.count * columnCount]))
      }
    } else if let floats = unsafe destination as? UnsafeMutableBufferPointer<Float> {
      unsafe forEachBlock(of: rows) { block, values in
        let start = (block.lowerBound - rows.lowerBound) * columnCount
        for index in 0..<values.count { unsafe floats[start + index] = unsafe Float(values[index]) }
      }
    }
  }
}
