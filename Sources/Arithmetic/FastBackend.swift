import NormFoldFormats
import NormFoldNetworks
import Numerics

/// The forward pass on the CPU, in Float or Double. All probes go through each weight together, so that a weight is
/// read once per pass; attention keeps them apart. Every operation is cut into tasks: tiles of a product, heads, rows.
///
/// Legend: T tokens of all probes, D features, H heads of the queries, G heads of keys and values, d width of a head,
/// V vocabulary.
package struct FastBackend<Scalar: ArithmeticScalar>: Backend {
  package let probes: [Probe]
  /// Rounds every matrix and embedding as coarsely as a storage does before use: what storing a network so costs it.
  package internal(set) var rounding: Storage?
  /// Tokens that have other norms than the network, in the order of their rows.
  private let otherNorms: [NormsOfRows]
  /// Keys and values of the tokens before those of the one probe.
  private let cache: KeyValueCache<Scalar>?
  let tokenCount: Int
  /// Who shares an operation. How products of many tokens are cut, and so their last bits, depends on the number of threads that work is
  /// cut for (``Workers/cut``), and no bit on how many there are.
  let workers: Workers
  /// Keeps the memory of one operation's matrices for those of the next.
  private let memory = KeptMemory()

  package init(
    probes: [Probe], rounding: Storage? = nil, otherNorms: [NormsOfRows] = [], workers: Workers = .one
  ) {
    self.init(probes: probes, rounding: rounding, otherNorms: otherNorms, cache: nil, workers: workers)
  }

  /// Runs the tokens that follow those that a cache holds.
  package init(following cache: KeyValueCache<Scalar>, tokens: [Int], workers: Workers) {
    let positions = Array(cache.count..<cache.count + tokens.count)
    self.init(
      probes: [Probe(name: "text", tokens: tokens, positions: positions)], rounding: nil, otherNorms: [], cache: cache,
      workers: workers)
  }

  private init(
    probes: [Probe], rounding: Storage?, otherNorms: [NormsOfRows], cache: KeyValueCache<Scalar>?, workers: Workers
  ) {
    _ = blasRunsOnOneThread
    self.probes = probes
    self.rounding = rounding
    self.otherNorms = otherNorms
    self.cache = cache
    self.workers = workers
    tokenCount = probes.reduce(0) { $0 + $1.tokens.count }
  }

  package func evaluate(
    _ node: Network.Node, _ operands: [Matrix<Scalar>]
  ) throws(Refusal) -> Matrix<Scalar> {
    switch node.operation {
    case .embed(let table, let index): embed(table, by: index)
    case .patches(let image): patches(of: image)
    case .features(let width): features(width: width)
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
    case .select(.word): meansOfWords(of: operands[0])
    }
  }

  /// Numbers that one task goes through where each costs little: some microseconds of work, a fraction of a cache.
  private static var elementsPerTask: Int { 1 << 13 }

  /// Runs `body` on parts of the rows of a matrix.
  private func forEachRows<Failure: Error>(
    of range: Range<Int>, width: Int, _ body: @Sendable (Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    let size = max(1, Self.elementsPerTask / max(1, width))
    try workers.forEachPart(of: range.count, size: size) { (part) throws(Failure) in
      try body(range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
    }
  }

  /// Runs `body` on parts of the numbers of a matrix.
  private func forEachElements(of matrix: Matrix<Scalar>, _ body: @Sendable (Range<Int>) -> Void) {
    workers.forEachPart(of: matrix.rowCount * matrix.columnCount, size: Self.elementsPerTask, body)
  }

  /// Rows of a table [count, D]: [T, D].
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func embed(_ table: Parameter, by index: Operation.Index) -> Matrix<Scalar> {
    let reader = ParameterReader(table)
    let width = table.columnCount
    let result = Matrix<Scalar>(rows: tokenCount, columns: width)
    let type = rounding.map { index == .token ? $0.tokenEmbedding : $0.positionEmbedding }
    let origins = probes.flatMap { $0.rows(by: index) }
    forEachRows(of: 0..<tokenCount, width: width) { tokens in
      unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: width) { line in
        for token in tokens {
          let row = unsafe result.row(token)
          guard let origin = origins[token] else {
            unsafe row.update(repeating: 0)
            continue
          }
          unsafe reader.read(rows: origin..<origin + 1, columns: 0..<width, into: line)
          for column in 0..<width { unsafe row[column] = unsafe Scalar(line[column]) }
          if let rounding, let type { unsafe row.round(to: type, unit: rounding.unit, columnCount: width) }
        }
      }
    }
    return result
  }

  /// The patches of the image of each probe, behind a row of zeros.
  private func patches(of image: ImageGrid) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: tokenCount, columns: image.patchLength)
    var token = 0
    for probe in probes {
      unsafe result.row(token).update(repeating: 0)
      for patch in 0..<image.count {
        let row = unsafe result.row(token + 1 + patch)
        for (column, place) in image.places(ofPatch: patch).enumerated() {
          unsafe row[column] = Scalar(probe.pixels[place])
        }
      }
      token += probe.tokens.count
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
    @Sendable func forEachHead(
      of rows: Range<Int>,
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
      forEachRows(of: rows, width: x.columnCount) { rows in
        for row in rows {
          unsafe Kernels.normaliseCompressed(
            x.row(row), epsilon: Scalar(epsilon), gain: gain, bias: bias, into: result.row(row))
        }
      }
    case .computed(let epsilon):
      forEachRows(of: rows, width: x.columnCount) { rows in
        unsafe forEachHead(of: rows) { (from, to) in
          unsafe Kernels.normalise(
            from, epsilon: Scalar(epsilon), isCentred: isCentred, gain: gain, bias: bias, into: to)
        }
      }
    case .fixed(let deviation):
      let factors = ParameterReader(deviation).values().map { Scalar($0) }
      forEachRows(of: rows, width: x.columnCount) { rows in
        unsafe forEachHead(of: rows) { (from, to) in
          unsafe Kernels.divide(from, by: factors, isCentred: isCentred, gain: gain, bias: bias, into: to)
        }
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

  /// The numbers of the word of each token.
  private func features(width: Int) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: tokenCount, columns: width)
    for (token, numbers) in probes.flatMap({ $0.features(width: width) }).enumerated() {
      let row = unsafe result.row(token)
      for column in 0..<width { unsafe row[column] = Scalar(numbers[column]) }
    }
    return result
  }

  /// The mean over the tokens of a token's word, in the place of each of its rows.
  private func meansOfWords(of x: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    var start = 0
    for probe in probes {
      for (token, members) in probe.tokensOfWords.enumerated() {
        let row = unsafe result.row(start + token)
        unsafe row.update(repeating: 0)
        for member in members {
          let other = unsafe x.row(start + member)
          for column in 0..<x.columnCount { unsafe row[column] += other[column] }
        }
        for column in 0..<x.columnCount { unsafe row[column] /= Scalar(members.count) }
      }
      start += probe.tokens.count
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
    let isCausal = attention.mask.isCausal
    // γⁿ for n tokens of distance, by head: [H, K]; without decay nothing.
    let powers: [[Scalar]]
    if case .decaying(let factors) = attention.weighting {
      let count = past + (probes.map(\.tokens.count).max() ?? 0)
      powers = factors.map { factor in (0..<count).map { Scalar(Double.pow(factor, $0)) } }
    } else {
      powers = []
    }
    var tasks: [AttentionTask] = []
    var start = 0
    for probe in probes {
      let count = probe.tokens.count
      let seen =
        isCausal
        ? VisibleTokens(key: key, value: value, start: start, count: past + count)
        : VisibleTokens(of: probe, at: start, key: key, value: value)
      for head in 0..<attention.headCount {
        for first in stride(from: 0, to: count, by: Self.attentionRows) {
          tasks.append(
            AttentionTask(
              seen: seen, start: start, head: head, rows: first..<min(first + Self.attentionRows, count)))
        }
      }
      start += count
    }
    let all = tasks
    workers.forEach(all.count) { number in
      let task = all[number]
      let seen = task.seen
      let corner = task.start * width + task.head * dHead
      let keyFeature = task.head * attention.keyValueHeadCount / attention.headCount * dHead
      let keyCorner = seen.start * keyWidth + keyFeature
      // Of what comes after the last of these rows nothing is computed.
      let longest = isCausal ? past + task.rows.upperBound : seen.count
      // 0 · ∞ is NaN: where a value is not finite, no row may even see those that come after it.
      let isFinite =
        task.rows.count == 1 || !isCausal
        || (seen.start..<seen.start + longest).allSatisfy { token in
          unsafe Scalar.areFinite(
            UnsafeMutableBufferPointer(rebasing: seen.value.row(token)[keyFeature..<keyFeature + dHead]))
        }
      let step = isFinite ? task.rows.count : 1
      unsafe withUnsafeTemporaryAllocation(of: Scalar.self, capacity: step * (longest + 1)) { memory in
        guard let scores = memory.baseAddress else { return }
        let totals = unsafe scores + step * longest
        for first in stride(from: task.rows.lowerBound, to: task.rows.upperBound, by: step) {
          let rows = first..<min(first + step, task.rows.upperBound)
          // The first key that any of these rows sees.
          let begin = attention.mask.width.map { max(0, past + rows.lowerBound + 1 - $0) } ?? 0
          let length = (isCausal ? past + rows.upperBound : longest) - begin
          unsafe Scalar.multiply(
            rows: rows.count, columns: length, inner: dHead, query.start + corner + rows.lowerBound * width,
            strideA: width, seen.key.start + keyCorner + begin * keyWidth, strideB: keyWidth, isTransposed: true,
            factor: Scalar(attention.scale), beta: 0, into: scores, strideC: length)
          for row in rows {
            let line = unsafe UnsafeMutableBufferPointer(
              start: scores + (row - rows.lowerBound) * length, count: length)
            let visible = isCausal ? past + row + 1 - begin : length
            let hidden = attention.mask.width.map { max(0, past + row + 1 - $0) - begin } ?? 0
            if powers.isEmpty {
              let scores = unsafe UnsafeMutableBufferPointer(rebasing: line[hidden..<visible])
              if let cap = attention.softCap { unsafe Kernels.activate(scores, by: .softCap(cap), into: scores) }
              unsafe totals[row - rows.lowerBound] = unsafe Kernels.exponentials(scores)
              for earlier in 0..<hidden { unsafe line[earlier] = 0 }
            } else {
              unsafe totals[row - rows.lowerBound] = 1
              for other in 0..<visible { unsafe line[other] *= powers[task.head][visible - 1 - other] }
            }
            for future in visible..<max(visible, length) { unsafe line[future] = 0 }
          }
          unsafe Scalar.multiply(
            rows: rows.count, columns: dHead, inner: length, scores, strideA: length,
            seen.value.start + keyCorner + begin * keyWidth,
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
    }
    return result
  }

  /// Some rows of one head of one probe.
  private struct AttentionTask: Sendable {
    let seen: VisibleTokens
    /// The row where the probe begins.
    let start: Int
    let head: Int
    /// The rows, counted from the probe's first.
    let rows: Range<Int>
  }

  /// The keys and values of a probe that may be attended to.
  private struct VisibleTokens: Sendable {
    let key: Matrix<Scalar>
    let value: Matrix<Scalar>
    /// The row where they begin.
    let start: Int
    let count: Int

    init(key: Matrix<Scalar>, value: Matrix<Scalar>, start: Int, count: Int) {
      (self.key, self.value, self.start, self.count) = (key, value, start, count)
    }

    /// Leaves out padding.
    init(of probe: Probe, at start: Int, key: Matrix<Scalar>, value: Matrix<Scalar>) {
      let visible = probe.visibleTokens
      guard visible.count < probe.tokens.count else {
        self.init(key: key, value: value, start: start, count: probe.tokens.count)
        return
      }
      let keys = Matrix<Scalar>(rows: visible.count, columns: key.columnCount)
      let values = Matrix<Scalar>(rows: visible.count, columns: value.columnCount)
      for (row, token) in visible.enumerated() {
        _ = unsafe keys.row(row).update(from: key.row(start + token))
        _ = unsafe values.row(row).update(from: value.row(start + token))
      }
      self.init(key: keys, value: values, start: 0, count: visible.count)
    }
  }

  /// Rows of attention that are computed together: enough for BLAS to be fast, few enough that little is computed of
  /// what no row may see.
  private static var attentionRows: Int { 64 }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func activate(_ x: Matrix<Scalar>, by activation: Activation) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    forEachElements(of: x) { range in
      unsafe Kernels.activate(
        UnsafeMutableBufferPointer(rebasing: x.values[range]), by: activation,
        into: UnsafeMutableBufferPointer(rebasing: result.values[range]))
    }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func add(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    forEachElements(of: a) { range in
      for index in range { unsafe result.start[index] = unsafe a.start[index] + b.start[index] }
    }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func multiply(_ a: Matrix<Scalar>, _ b: Matrix<Scalar>) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: a.rowCount, columns: a.columnCount)
    forEachElements(of: a) { range in
      for index in range { unsafe result.start[index] = unsafe a.start[index] * b.start[index] }
    }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func scale(_ x: Matrix<Scalar>, by factor: Double) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let factor = Scalar(factor)
    forEachElements(of: x) { range in
      for index in range { unsafe result.start[index] = unsafe x.start[index] * factor }
    }
    return result
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func scale(_ x: Matrix<Scalar>, by vector: Parameter) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let factors = ParameterReader(vector).values().map { Scalar($0) }
    forEachRows(of: 0..<x.rowCount, width: x.columnCount) { rows in
      for row in rows {
        let (from, to) = unsafe (x.row(row), result.row(row))
        for column in 0..<x.columnCount { unsafe to[column] = unsafe from[column] * factors[column] }
      }
    }
    return result
  }
}
