import NormFoldFormats
import NormFoldNetworks
import Numerics
import Synchronization

/// Integers of a ring, row-major [rows, columns]: one row a token.
package struct RingMatrix: Sendable {
  package let rowCount: Int
  package let columnCount: Int
  package var values: [Int64]

  package func row(_ index: Int) -> ArraySlice<Int64> { values[index * columnCount..<(index + 1) * columnCount] }
}

/// The forward pass in ``FixedPoint``, every operation of it.
package struct FixedPointBackend: IntegerBackend {
  let format: FixedPoint
  private let probes: [Probe]
  private let log = OverflowLog()

  package init(probes: [Probe], bits: Int, fraction: Int) {
    self.probes = probes
    format = FixedPoint(bits: bits, fraction: fraction)
  }

  package var tokenCount: Int { probes.reduce(0) { $0 + $1.tokens.count } }
  package var overflows: [IntegerOverflow] { log.found }

  package func evaluate(_ node: Network.Node, _ operands: [RingMatrix]) throws(Refusal) -> RingMatrix {
    var overflow = FixedPoint.Overflow()
    defer { log.add(overflow, at: node.path) }
    switch node.operation {
    case .embed(let table, let index): return embed(table, by: index, &overflow)
    case .patches, .features, .select(.word):
      throw Refusal(
        .unsupported, subject: node.path.description, "images, and numbers of words, are not read in these integers yet"
      )
    case .norm(let norm): return try normalise(operands[0], by: norm, &overflow)
    case .linear(let map): return apply(map, to: operands[0], &overflow)
    case .rotate(let rotary, let headCount): return rotate(operands[0], by: rotary, headCount, &overflow)
    case .attend(let attention): return attend(operands[0], operands[1], operands[2], by: attention, &overflow)
    case .activate(let activation): return operands[0].map { activate($0, by: activation, &overflow) }
    case .scale(let factor):
      let encoded = format.encode(factor, &overflow)
      return operands[0].map { format.multiply($0, encoded, &overflow) }
    case .scaleFeatures(let vector):
      let (factors, width) = (encoded(vector, &overflow), operands[0].columnCount)
      var result = operands[0]
      for index in result.values.indices {
        result.values[index] = format.multiply(result.values[index], factors[index % width], &overflow)
      }
      return result
    case .add: return operands[0].combined(with: operands[1]) { format.add($0, $1, &overflow) }
    case .multiply: return operands[0].combined(with: operands[1]) { format.multiply($0, $1, &overflow) }
    case .select(.first):
      let first = probes.reduce(into: [Int]()) { rows, probe in
        rows += [Int](repeating: rows.count, count: probe.tokens.count)
      }
      return RingMatrix(
        rowCount: operands[0].rowCount, columnCount: operands[0].columnCount,
        values: first.flatMap { operands[0].row($0) })
    }
  }

  package func rows(of x: RingMatrix, columns: Range<Int>?) -> MatrixRows {
    let result = Matrix<Double>(rows: x.rowCount, columns: x.columnCount)
    for (index, value) in x.values.enumerated() { unsafe result.values[index] = format.decode(value) }
    return MatrixRows(result, columns: columns)
  }

  package func logits(of x: RingMatrix, by map: LinearMap, at path: Path, range: Range<Int>) -> MatrixRows {
    var overflow = FixedPoint.Overflow()
    defer { log.add(overflow, at: path) }
    let part = LinearMap(
      weight: map.weight.sliced(axis: 1, range), bias: map.bias.map { $0.sliced(axis: 0, range) })
    return rows(of: apply(part, to: x, &overflow), columns: nil)
  }

  // MARK: Operations

  private func encoded(_ parameter: Parameter, _ overflow: inout FixedPoint.Overflow) -> [Int64] {
    ParameterReader(parameter).values().map { format.encode($0, &overflow) }
  }

  private func embed(
    _ table: Parameter, by index: Operation.Index, _ overflow: inout FixedPoint.Overflow
  ) -> RingMatrix {
    let reader = ParameterReader(table)
    let origins = probes.flatMap { $0.rows(by: index) }
    let values = origins.flatMap { origin in
      origin.map { reader.values(rows: $0..<$0 + 1, columns: 0..<table.columnCount) }
        ?? [Double](repeating: 0, count: table.columnCount)
    }
    return RingMatrix(
      rowCount: origins.count, columnCount: table.columnCount, values: values.map { format.encode($0, &overflow) })
  }

  /// ⌊Σ xw / 2^F⌋ + b
  private func apply(_ map: LinearMap, to x: RingMatrix, _ overflow: inout FixedPoint.Overflow) -> RingMatrix {
    let width = map.weight.columnCount
    var sums = [Int64](repeating: 0, count: x.rowCount * width)
    // No sum is larger; by token.
    var bounds = [Double](repeating: 0, count: x.rowCount)
    let reader = ParameterReader(map.weight)
    var ofWeights = FixedPoint.Overflow()
    func forEachRow(_ body: (_ input: Int, _ weights: [Int64]) -> Void) {
      unsafe reader.forEachBlock { rows, values in
        for row in rows {
          let start = (row - rows.lowerBound) * width
          body(row, (start..<start + width).map { format.encode(unsafe values[$0], &ofWeights) })
        }
      }
    }
    forEachRow { input, weights in
      let largest = Double(weights.reduce(0) { max($0, $1.magnitude) })
      for token in 0..<x.rowCount {
        let factor = x.values[token * x.columnCount + input]
        bounds[token] += Double(factor.magnitude) * largest
        for output in 0..<width { sums[token * width + output] &+= factor &* weights[output] }
      }
    }
    let count = ofWeights.count
    // Where a sum may have left 64 bits, it is computed in 128.
    let doubtful = bounds.indices.filter { bounds[$0] > 0x1p62 }
    var exact = [Int128](repeating: 0, count: doubtful.count * width)
    if !doubtful.isEmpty {
      forEachRow { input, weights in
        for (place, token) in doubtful.enumerated() {
          let factor = Int128(x.values[token * x.columnCount + input])
          for output in 0..<width { exact[place * width + output] &+= factor * Int128(weights[output]) }
        }
      }
    }
    overflow.count += count
    let biases = map.bias.map { encoded($0, &overflow) }
    let places = Dictionary(uniqueKeysWithValues: doubtful.enumerated().map { ($1, $0) })
    for token in 0..<x.rowCount {
      for output in 0..<width {
        let index = token * width + output
        let sum = places[token].map { exact[$0 * width + output] } ?? Int128(sums[index])
        let product = format.truncated(sum, &overflow)
        sums[index] = biases.map { format.add(product, $0[output], &overflow) } ?? product
      }
    }
    return RingMatrix(rowCount: x.rowCount, columnCount: width, values: sums)
  }

  /// Normalises all features, or those of each head: c = x − ⌊Σx / d⌋, v = ⌊⌊Σc² / 2^F⌋ / d⌋ + ε, c · v^(−½) · γ + β.
  /// Norms that do not centre have c = x. With a fixed deviation, the result is c · (γ / σ) + β.
  private func normalise(
    _ x: RingMatrix, by norm: Norm, _ overflow: inout FixedPoint.Overflow
  ) throws(Refusal) -> RingMatrix {
    let gains: [Int64]
    var epsilon: Int64?
    switch norm.deviation {
    case .computed(let value):
      (gains, epsilon) = (encoded(norm.gain, &overflow), format.encode(value, &overflow))
    case .fixed(let deviation):
      gains = zip(ParameterReader(norm.gain).values(), ParameterReader(deviation).values()).map {
        format.encode($0 / $1, &overflow)
      }
    case .perPosition, .perToken:
      throw Refusal(
        .notFoldable, subject: norm.name, "a deviation that depends on the position or the token is not evaluated")
    }
    let biases = norm.bias.map { encoded($0, &overflow) }
    var result = x
    let d = x.columnCount / norm.headCount
    for start in stride(from: 0, to: x.values.count, by: d) {
      var row = Array(x.values[start..<start + d])
      let sum = row.reduce(Int64(0)) { format.add($0, $1, &overflow) }
      if norm.kind == .layer {
        let mean = format.divide(sum, by: row.count)
        row = row.map { format.subtract($0, mean, &overflow) }
      }
      if let epsilon {
        // The feature that a compressed row leaves out is the negative of their sum.
        let all = norm.kind == .crms ? row + [format.subtract(0, sum, &overflow)] : row
        let squares = all.reduce(Int128(0)) { $0 &+ Int128($1) * Int128($1) }
        let variance = format.divide(format.truncated(squares, &overflow), by: all.count)
        let factor = format.inverseRoot(format.add(variance, epsilon, &overflow), &overflow)
        row = row.map { format.multiply($0, factor, &overflow) }
      }
      for (feature, value) in row.enumerated() {
        let scaled = format.multiply(value, gains[feature], &overflow)
        result.values[start + feature] =
          biases.map { format.add(scaled, $0[feature], &overflow) } ?? scaled
      }
    }
    return result
  }

  private func rotate(
    _ x: RingMatrix, by rotary: Rotary, _ headCount: Int, _ overflow: inout FixedPoint.Overflow
  ) -> RingMatrix {
    var result = x
    let (dHead, half) = (x.columnCount / headCount, rotary.width / 2)
    let frequencies = rotary.frequencies
    for (token, position) in probes.flatMap(\.positions).enumerated() {
      let angles = frequencies.map { Double(position) * $0 }
      let cosines = angles.map { format.encode(rotary.magnitude * .cos($0), &overflow) }
      let sines = angles.map { format.encode(rotary.magnitude * .sin($0), &overflow) }
      for head in 0..<headCount {
        for pair in 0..<half {
          let corner = token * x.columnCount + head * dHead
          let features = rotary.features(ofPair: pair)
          let (first, second) = (corner + features.first, corner + features.second)
          let (a, b) = (x.values[first], x.values[second])
          result.values[first] = format.subtract(
            format.multiply(a, cosines[pair], &overflow), format.multiply(b, sines[pair], &overflow), &overflow)
          result.values[second] = format.add(
            format.multiply(a, sines[pair], &overflow), format.multiply(b, cosines[pair], &overflow), &overflow)
        }
      }
    }
    return result
  }

  private func attend(
    _ query: RingMatrix, _ key: RingMatrix, _ value: RingMatrix, by attention: Attention,
    _ overflow: inout FixedPoint.Overflow
  ) -> RingMatrix {
    let dHead = query.columnCount / attention.headCount
    let scale = format.encode(attention.scale, &overflow)
    var result = query
    func dot(_ a: RingMatrix, _ i: Int, _ b: RingMatrix, _ j: Int) -> Int128 {
      (0..<dHead).reduce(Int128(0)) { $0 &+ Int128(a.values[i + $1]) * Int128(b.values[j + $1]) }
    }
    var start = 0
    for probe in probes {
      for head in 0..<attention.headCount {
        let first = head * dHead
        let firstOfKeys = head * attention.keyValueHeadCount / attention.headCount * dHead
        for token in start..<start + probe.tokens.count {
          let seen = attention.seen(by: token, of: probe, from: start)
          let scores = seen.map { other in
            let product = dot(
              query, token * query.columnCount + first, key, other * key.columnCount + firstOfKeys)
            return format.multiply(format.truncated(product, &overflow), scale, &overflow)
          }
          let shares = format.softmax(scores, &overflow)
          for feature in 0..<dHead {
            let sum = shares.indices.reduce(Int128(0)) { sum, index in
              let known = value.values[seen[index] * value.columnCount + firstOfKeys + feature]
              return sum &+ Int128(shares[index]) * Int128(known)
            }
            result.values[token * query.columnCount + first + feature] = format.truncated(sum, &overflow)
          }
        }
      }
      start += probe.tokens.count
    }
    return result
  }

  private func activate(_ x: Int64, by activation: Activation, _ overflow: inout FixedPoint.Overflow) -> Int64 {
    func constant(_ value: Double) -> Int64 { format.encode(value, &overflow) }
    /// x/2 · (1 + y)
    func half(_ y: Int64) -> Int64 { format.multiply(x, format.add(format.one, y, &overflow), &overflow) >> 1 }
    switch activation {
    case .geluTanh:
      let cube = format.multiply(format.multiply(x, x, &overflow), x, &overflow)
      let sum = format.add(x, format.multiply(cube, constant(0.044715), &overflow), &overflow)
      let scaled = format.multiply(sum, constant((2 / Double.pi).squareRoot()), &overflow)
      return half(format.hyperbolicTangent(scaled, &overflow))
    case .geluErf:
      return half(format.errorFunction(format.multiply(x, constant(0.5.squareRoot()), &overflow), &overflow))
    case .relu: return max(x, 0)
    case .reluSquared: return format.multiply(max(x, 0), max(x, 0), &overflow)
    case .leakyReLU(let slope): return x < 0 ? format.multiply(x, constant(slope), &overflow) : x
    case .silu: return format.multiply(x, format.sigmoid(x, &overflow), &overflow)
    case .tanh: return format.hyperbolicTangent(x, &overflow)
    case .softCap: preconditionFailure("capped logits have no form in integers")
    }
  }
}

extension RingMatrix {
  fileprivate func map(_ body: (Int64) -> Int64) -> RingMatrix {
    RingMatrix(rowCount: rowCount, columnCount: columnCount, values: values.map(body))
  }

  fileprivate func combined(with other: RingMatrix, _ body: (Int64, Int64) -> Int64) -> RingMatrix {
    RingMatrix(rowCount: rowCount, columnCount: columnCount, values: zip(values, other.values).map(body))
  }
}

/// Overflows by operation. A sum over tokens is added to from any thread.
final class OverflowLog: Sendable {
  private let counts = Mutex<[Path: Int]>([:])

  func add(_ overflow: FixedPoint.Overflow, at path: Path) {
    guard overflow.count > 0 else { return }
    counts.withLock { $0[path, default: 0] += overflow.count }
  }

  /// The worst first.
  var found: [IntegerOverflow] {
    counts.withLock { counts in
      counts.map { IntegerOverflow(path: $0.key.description, count: $0.value) }
        .sorted { ($1.count, $0.path) < ($0.count, $1.path) }
    }
  }
}
