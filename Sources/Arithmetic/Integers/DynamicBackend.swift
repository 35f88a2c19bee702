import NormFoldFormats
import NormFoldNetworks
import Numerics

/// The forward pass with linear maps, embeddings and norms in dynamic fixed point (arXiv 2209.09815), everything else in
/// floating point. Attention's two products are in integers only where ``IntegerArithmetic/includesAttention`` says so.
///
/// This type decides what the paper leaves open: halves round to even; biases are added in floating point; the tensor of an
/// activation is one sequence; a norm is computed as ``normalise(_:by:)`` says.
package struct DynamicBackend<Scalar: ArithmeticScalar>: IntegerBackend {
  let weights: DynamicFixedPoint
  let activations: DynamicFixedPoint
  let scales: IntegerArithmetic.Scales
  let includesAttention: Bool
  private let float: FastBackend<Scalar>
  let known: IntegerWeights
  let workers: Workers

  /// - Parameter known: the integers of the network's weights, as far as other runs have found them.
  package init(
    probes: [Probe], weightBits: Int, activationBits: Int, scales: IntegerArithmetic.Scales = .tensor,
    includesAttention: Bool = false, known: IntegerWeights = IntegerWeights(), workers: Workers = .one
  ) {
    self.known = known
    self.workers = workers
    float = FastBackend(probes: probes, workers: workers)
    weights = DynamicFixedPoint(bits: weightBits)
    activations = DynamicFixedPoint(bits: activationBits)
    self.scales = scales
    self.includesAttention = includesAttention
  }

  package var tokenCount: Int { float.tokenCount }
  package var overflows: [IntegerOverflow] { [] }

  package func evaluate(_ node: Network.Node, _ operands: [Matrix<Scalar>]) throws(Refusal) -> Matrix<Scalar> {
    switch node.operation {
    case .embed(let table, let index): embed(table, by: index, at: node.path)
    case .linear(let map): apply(map, to: mapped(operands[0], scales: scales), at: node.path)
    case .norm(let norm): try normalise(operands[0], by: norm)
    case .attend(let attention) where includesAttention:
      attend(query: operands[0], key: operands[1], value: operands[2], by: attention)
    default: try float.evaluate(node, operands)
    }
  }

  package func rows(of x: Matrix<Scalar>, columns: Range<Int>?) -> MatrixRows { MatrixRows(x, columns: columns) }

  package func logits(of x: Matrix<Scalar>, by map: LinearMap, at path: Path, range: Range<Int>) -> MatrixRows {
    MatrixRows(apply(map, to: mapped(x, scales: scales), at: path, outputs: range))
  }

  // MARK: Activations

  /// The rows of the tensors that have an exponent each.
  private func tensors(_ scales: IntegerArithmetic.Scales) -> [Range<Int>] {
    switch scales {
    case .channel: (0..<tokenCount).map { $0..<$0 + 1 }
    case .tensor:
      float.probes.reduce(into: []) { result, probe in
        let start = result.last?.upperBound ?? 0
        result.append(start..<start + probe.tokens.count)
      }
    }
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func mapped(_ x: Matrix<Scalar>, scales: IntegerArithmetic.Scales) -> IntegerMatrix {
    let numbers = Matrix<Double>(rows: x.rowCount, columns: x.columnCount)
    let (from, to) = unsafe (x.values, numbers.values)
    for index in 0..<from.count { unsafe to[index] = unsafe Double(from[index]) }
    return mapped(numbers, scales: scales)
  }

  /// Maps numbers in their place.
  private func mapped(_ numbers: Matrix<Double>, scales: IntegerArithmetic.Scales) -> IntegerMatrix {
    var exponents: [Int] = []
    for rows in tensors(scales) {
      let part = unsafe numbers.rows(rows)
      let exponent = activations.exponent(ofLargest: UnsafeBufferPointer(part).largestMagnitude)
      unsafe activations.map(part, exponent: exponent)
      exponents += rows.map { _ in exponent }
    }
    return IntegerMatrix(numbers: numbers, exponents: exponents)
  }

  // MARK: Operations

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func embed(_ table: Parameter, by index: Operation.Index, at path: Path) -> Matrix<Scalar> {
    let reader = ParameterReader(table)
    let width = table.columnCount
    let result = Matrix<Scalar>(rows: tokenCount, columns: width)
    // A row of a table is what an output of a matrix is: it has numbers of its own.
    let all = known.exponents(of: table, at: path, in: weights, scales: scales, axis: 0)
    unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: width) { line in
      for (token, origin) in float.probes.flatMap({ $0.rows(by: index) }).enumerated() {
        guard let origin else {
          unsafe result.row(token).update(repeating: 0)
          continue
        }
        unsafe reader.read(rows: origin..<origin + 1, columns: 0..<width, into: line)
        let exponent = all[scales == .tensor ? 0 : origin]
        unsafe weights.map(line, exponent: exponent)
        let unit = Double.power(exponent)
        let row = unsafe result.row(token)
        for column in 0..<width { unsafe row[column] = unsafe Scalar(line[column] * unit) }
      }
    }
    return result
  }

  /// y = (q_x · q_w) · 2^(e_x + e_w) + b.
  ///
  /// - Parameter outputs: nil for all.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func apply(
    _ map: LinearMap, to x: IntegerMatrix, at path: Path, outputs: Range<Int>? = nil
  ) -> Matrix<Scalar> {
    let outputs = outputs ?? 0..<map.weight.columnCount
    let all = known.exponents(of: map.weight, at: path, in: weights, scales: scales, axis: 1)
    let units = (scales == .tensor ? outputs.map { _ in all[0] } : outputs.map { all[$0] }).map { Double.power($0) }
    let bias = map.bias.map { ParameterReader($0.sliced(axis: 0, outputs)).values().map { Scalar($0) } }
    let result = Matrix<Scalar>(rows: x.numbers.rowCount, columns: outputs.count)
    if let packed = known.packed(
      map.weight, at: path, in: weights, exponents: all, activationBits: activations.bits),
      let (sums, start, stride) = unsafe packed.sums(
        of: x.numbers.values, rows: result.rowCount, outputs: outputs)
    {
      unsafe sums.withUnsafeBufferPointer { sums in
        for row in 0..<result.rowCount {
          let line = unsafe UnsafeBufferPointer(
            rebasing: sums[row * stride + start..<row * stride + start + outputs.count])
          unsafe result.row(row).fill(from: line, exponent: x.exponents[row], units: units, bias: bias)
        }
      }
      return result
    }
    func finish(_ sums: Matrix<Double>) {
      for row in 0..<result.rowCount {
        unsafe result.row(row).fill(
          from: UnsafeBufferPointer(sums.row(row)), exponent: x.exponents[row], units: units, bias: bias)
      }
    }
    let weight = outputs.count == map.weight.columnCount ? map.weight : map.weight.sliced(axis: 1, outputs)
    let sums = Matrix<Double>(rows: result.rowCount, columns: outputs.count)
    let isTransposed = weight.storedView?.isTransposed ?? weight.readsAcrossStoredRows
    unsafe sums.values.update(repeating: 0)
    if known.keepsMatrices, outputs.count == map.weight.columnCount {
      let (numbers, isTransposed) = known.numbers(of: map.weight, at: path, in: weights, exponents: all)
      unsafe Double.multiply(
        rows: sums.rowCount, columns: sums.columnCount, inner: map.weight.rowCount, x.numbers.start,
        strideA: x.numbers.columnCount, numbers.start, strideB: numbers.columnCount, isTransposed: isTransposed,
        into: sums.start, strideC: sums.columnCount, workers: workers)
      finish(sums)
      return result
    }
    let reader = ParameterReader(isTransposed ? weight.transposed() : weight)
    unsafe reader.forEachBlock { rows, values in
      unsafe weights.map(
        rowsOfWeight: values, count: rows.count, exponents: all,
        outputs: isTransposed
          ? outputs.lowerBound + rows.lowerBound..<outputs.lowerBound + rows.upperBound : outputs,
        isTransposed: isTransposed)
      guard let start = values.baseAddress else { return }
      let inputs = isTransposed ? 0..<reader.columnCount : rows
      let columns = isTransposed ? rows : 0..<reader.columnCount
      unsafe Double.multiply(
        rows: sums.rowCount, columns: columns.count, inner: inputs.count, x.numbers.start + inputs.lowerBound,
        strideA: x.numbers.columnCount, start, strideB: reader.columnCount, isTransposed: isTransposed, factor: 1,
        beta: 1,
        into: sums.start + columns.lowerBound, strideC: sums.columnCount)
    }
    finish(sums)
    return result
  }

  /// The norm of integers q = map(x) of d features, of all or of one head: μ = round(Σq / d), c = q − μ, r = 1 / √(Σc² / d + ε · 2^(−2e)), and
  /// n = map(c · r), whose numbers are multiplied by the mapped gains and added to the mapped biases. Without a mean, c is
  /// q; with a fixed deviation, r is 2^e / σ.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func normalise(_ x: Matrix<Scalar>, by norm: Norm) throws(Refusal) -> Matrix<Scalar> {
    func rounded(_ parameter: Parameter) -> [Double] {
      var values = ParameterReader(parameter).values()
      unsafe values.withUnsafeMutableBufferPointer { unsafe weights.round($0) }
      return values
    }
    let (gain, bias) = (rounded(norm.gain), norm.bias.map(rounded))
    let normal = try normalised(x, by: norm).normal
    let width = x.columnCount
    let d = width / norm.headCount
    let result = Matrix<Scalar>(rows: x.rowCount, columns: width)
    for token in 0..<x.rowCount {
      let unit = Double.power(normal.exponents[token])
      let (from, to) = unsafe (normal.numbers.row(token), result.row(token))
      for column in 0..<width {
        let feature = column % d
        unsafe to[column] = unsafe Scalar(from[column] * unit) * Scalar(gain[feature]) + Scalar(bias?[feature] ?? 0)
      }
    }
    return result
  }

  /// The integers n.
  ///
  /// - Returns: beside them r / 2^e of each token and head where it is computed, else what is divided by.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func normalised(
    _ x: Matrix<Scalar>, by norm: Norm
  ) throws(Refusal) -> (normal: IntegerMatrix, factors: [Double], deviations: [Double]?) {
    let integers = mapped(x, scales: scales)
    let width = x.columnCount
    let deviations: [Double]?
    let epsilon: Double
    switch norm.deviation {
    case .computed(let value): (deviations, epsilon) = (nil, value)
    case .fixed(let deviation): (deviations, epsilon) = (ParameterReader(deviation).values(), 0)
    case .perPosition, .perToken:
      throw Refusal(
        .notFoldable, subject: norm.name, "a deviation that depends on the position or the token is not evaluated")
    }
    let d = width / norm.headCount
    var factors: [Double] = []
    for (token, head) in (0..<x.rowCount).flatMap({ token in (0..<norm.headCount).map { (token, $0) } }) {
      let row = unsafe UnsafeMutableBufferPointer(rebasing: integers.numbers.row(token)[head * d..<(head + 1) * d])
      let unit = Double.power(integers.exponents[token])
      var sum = 0.0
      for column in 0..<d { unsafe sum += row[column] }
      if norm.kind == .layer {
        let mean = (sum / Double(d)).rounded(.toNearestOrEven)
        for column in 0..<d { unsafe row[column] -= mean }
      }
      if let deviations {
        for column in 0..<d { unsafe row[column] *= unit / deviations[column] }
      } else {
        var squares = 0.0
        for column in 0..<d { unsafe squares += row[column] * row[column] }
        let count = Double(norm.kind == .crms ? d + 1 : d)
        if norm.kind == .crms { squares += sum * sum }
        let factor = 1 / (squares / count + epsilon / unit / unit).squareRoot()
        for column in 0..<d { unsafe row[column] *= factor }
        factors.append(factor / unit)
      }
    }
    return (mapped(integers.numbers, scales: scales), factors, deviations)
  }

  /// Attention with both products in integers: queries and keys are mapped as activations are, the values of a sequence
  /// with one exponent, since they are summed over its tokens, and the shares of the softmax of each token.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func attend(
    query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>, by attention: Attention
  ) -> Matrix<Scalar> {
    let (queries, keys, values) = (
      mapped(query, scales: scales), mapped(key, scales: scales), mapped(value, scales: .tensor)
    )
    let dHead = query.columnCount / attention.headCount
    let result = Matrix<Scalar>(rows: query.rowCount, columns: query.columnCount)
    var start = 0
    for probe in float.probes {
      let count = probe.tokens.count
      for head in 0..<attention.headCount {
        let first = head * dHead
        let firstOfKeys = head * attention.keyValueHeadCount / attention.headCount * dHead
        for token in start..<start + count {
          let asked = unsafe queries.numbers.row(token)
          let seen = attention.seen(by: token, of: probe, from: start)
          var shares: [Double] = seen.map { other in
            let known = unsafe keys.numbers.row(other)
            var sum = 0.0
            for feature in 0..<dHead { unsafe sum += asked[first + feature] * known[firstOfKeys + feature] }
            let exponent = queries.exponents[token] + keys.exponents[other]
            return sum * Double.power(exponent) * attention.scale
          }
          let largest = shares.max() ?? 0
          shares = shares.map { Double.exp($0 - largest) }
          let total = shares.reduce(0, +)
          shares = shares.map { $0 / total }
          let exponent = unsafe shares.withUnsafeMutableBufferPointer { shares in
            let exponent = activations.exponent(ofLargest: UnsafeBufferPointer(shares).largestMagnitude)
            unsafe activations.map(shares, exponent: exponent)
            return exponent
          }
          let mixed = unsafe result.row(token)
          let unit = Double.power(exponent + values.exponents[start])
          for feature in 0..<dHead {
            var sum = 0.0
            for (other, share) in zip(seen, shares) {
              unsafe sum += share * values.numbers.row(other)[firstOfKeys + feature]
            }
            unsafe mixed[first + feature] = Scalar(sum * unit)
          }
        }
      }
      start += count
    }
    return result
  }
}

extension Matrix {
  /// Some rows, which lie one behind the other.
  fileprivate func rows(_ rows: Range<Int>) -> UnsafeMutableBufferPointer<Scalar> {
    unsafe UnsafeMutableBufferPointer(start: start + rows.lowerBound * columnCount, count: rows.count * columnCount)
  }
}

extension UnsafeMutableBufferPointer where Element: ArithmeticScalar {
  /// y = s · 2^e · units + bias for sums s of products of integers.
  @inline(__always)
  fileprivate func fill(
    from sums: UnsafeBufferPointer<some SumOfProducts>, exponent: Int, units: [Double], bias: [Element]?
  ) {
    let unit = Double.power(exponent)
    unsafe units.withUnsafeBufferPointer { units in
      for index in 0..<count {
        unsafe self[index] = unsafe Element(sums[index].exact * (unit * units[index]))
      }
    }
    unsafe bias?.withUnsafeBufferPointer { bias in
      for index in 0..<count { unsafe self[index] += unsafe bias[index] }
    }
  }
}

/// A sum of products of integers, which a Double holds exactly.
private protocol SumOfProducts { var exact: Double { get } }
extension Int32: SumOfProducts { fileprivate var exact: Double { Double(self) } }
extension Double: SumOfProducts { fileprivate var exact: Double { self } }

extension Attention {
  /// The rows of the tokens that a token attends to.
  ///
  /// - Parameter start: the row of the probe's first token.
  func seen(by row: Int, of probe: Probe, from start: Int) -> [Int] {
    switch mask {
    case .causal: Array(start...row)
    case .window(let width): Array(max(start, row + 1 - width)...row)
    case .bidirectional: probe.visibleTokens.map { start + $0 }
    }
  }
}
