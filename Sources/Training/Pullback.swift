import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Numerics

/// From the derivative of the loss by what an operation computes (`upper`) to the derivatives by what it reads.
///
/// Row vectors, y = xW + b. Legend: T tokens, x what was read, g the derivative by the normalised value, d features.
enum Pullback {
  /// dx = dy · Wᵀ.
  ///
  /// - Parameter sum: what the result is added to, in its place; nil for nothing.
  static func linear<Scalar: ArithmeticScalar>(
    _ upper: Matrix<Scalar>, through entry: TrainedParameters<Scalar>.Entry, of parameters: TrainedParameters<Scalar>,
    to sum: Matrix<Scalar>? = nil, workers: Workers
  ) -> Matrix<Scalar> {
    let width = entry.isTransposed ? entry.shape[1] : entry.shape[0]
    let result = sum ?? Matrix<Scalar>(rows: upper.rowCount, columns: width)
    let tiles = ProductTile.tiles(rowCount: upper.rowCount, outputCount: width)
    workers.forEach(tiles.count) { number in
      let tile = tiles[number]
      let (row, column) = (tile.rows.lowerBound, tile.outputs.lowerBound)
      unsafe Scalar.multiply(
        rows: tile.rows.count, columns: tile.outputs.count, inner: upper.columnCount,
        upper.start + row * upper.columnCount, strideA: upper.columnCount,
        parameters.value(of: entry) + column * (entry.isTransposed ? 1 : entry.stride), strideB: entry.stride,
        isTransposed: !entry.isTransposed, factor: 1, beta: sum == nil ? 0 : 1,
        into: result.start + row * width + column, strideC: width)
    }
    return result
  }

  /// For n = (x − mean) / σ and y = n ⊙ γ + β with g = dy ⊙ γ: dx = (g − mean(g) − n·mean(g ⊙ n)) / σ where σ is computed,
  /// (g − mean(g)) / σ where it is fixed; without the means over g for an RMSNorm. dγ = Σ dy ⊙ n, dβ = Σ dy.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func norm<Scalar: ArithmeticScalar>(
    _ upper: Matrix<Scalar>, of x: Matrix<Scalar>, by norm: Norm, workers: Workers
  ) throws(Refusal) -> (derivative: Matrix<Scalar>, gain: [Double], bias: [Double]) {
    let width = x.columnCount
    let isCentred = norm.kind == .layer
    let gain = ParameterReader(norm.gain).values().map { Scalar($0) }
    var epsilon: Scalar?
    var fixed: [Scalar] = []
    switch norm.deviation {
    case .computed(let value) where norm.kind != .crms: epsilon = Scalar(value)
    case .fixed(let deviation): fixed = ParameterReader(deviation).values().map { 1 / Scalar($0) }
    case .computed, .perPosition, .perToken:
      throw Refusal(.unsupported, subject: norm.name, "a norm of this kind is not trained")
    }
    let result = Matrix<Scalar>(rows: x.rowCount, columns: width)
    // The sums of some rows each, which are added in their order.
    let partCount = (x.rowCount + normRows - 1) / normRows
    let sums = Matrix<Double>.zeros(rows: 2 * partCount, columns: width)
    let (known, factors) = (epsilon, fixed)
    workers.forEachPart(of: x.rowCount, size: normRows) { rows in
      let part = rows.lowerBound / normRows
      unsafe addRows(
        rows, of: upper, x, isCentred: isCentred, gain: gain, epsilon: known, fixed: factors, into: result,
        gains: sums.row(2 * part), biases: sums.row(2 * part + 1))
    }
    var (gains, biases) = ([Double](repeating: 0, count: width), [Double](repeating: 0, count: width))
    for part in 0..<partCount {
      let (gain, bias) = unsafe (sums.row(2 * part), sums.row(2 * part + 1))
      for index in 0..<width {
        gains[index] += unsafe gain[index]
        biases[index] += unsafe bias[index]
      }
    }
    return (result, gains, biases)
  }

  /// Rows of a norm that one thread takes at a time.
  private static let normRows = 32

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private static func addRows<Scalar: ArithmeticScalar>(
    _ rows: Range<Int>, of upper: Matrix<Scalar>, _ x: Matrix<Scalar>, isCentred: Bool, gain: [Scalar],
    epsilon: Scalar?, fixed: [Scalar], into result: Matrix<Scalar>, gains: UnsafeMutableBufferPointer<Double>,
    biases: UnsafeMutableBufferPointer<Double>
  ) {
    let width = x.columnCount
    let normalised = Matrix<Scalar>(rows: 1, columns: width)
    let (n, count) = unsafe (normalised.values, Scalar(width))
    for row in rows {
      let (values, up, derivative) = unsafe (x.row(row), upper.row(row), result.row(row))
      let mean = isCentred ? sum(width) { unsafe values[$0] } / count : 0
      for index in 0..<width { unsafe n[index] = unsafe values[index] - mean }
      if let epsilon {
        let factor = 1 / (sum(width) { unsafe n[$0] * n[$0] } / count + epsilon).squareRoot()
        for index in 0..<width { unsafe n[index] *= factor }
        for index in 0..<width { unsafe derivative[index] = unsafe up[index] * gain[index] }
        let share = sum(width) { unsafe derivative[$0] * n[$0] } / count
        let level = isCentred ? sum(width) { unsafe derivative[$0] } / count : 0
        for index in 0..<width {
          unsafe derivative[index] = unsafe factor * (derivative[index] - level - n[index] * share)
        }
      } else {
        for index in 0..<width { unsafe n[index] *= fixed[index] }
        for index in 0..<width { unsafe derivative[index] = unsafe up[index] * gain[index] * fixed[index] }
        if isCentred {
          let level = sum(width) { unsafe derivative[$0] } / count
          for index in 0..<width { unsafe derivative[index] -= level }
        }
      }
      for index in 0..<width {
        unsafe gains[index] += unsafe Double(up[index] * n[index])
        unsafe biases[index] += unsafe Double(up[index])
      }
    }
  }

  /// In eight partial sums, which the compiler may not make of one by itself.
  @inline(__always)
  private static func sum<Scalar: ArithmeticScalar>(_ count: Int, _ term: (Int) -> Scalar) -> Scalar {
    var sums = SIMD8<Scalar>()
    let whole = count / 8 * 8
    for index in stride(from: 0, to: whole, by: 8) {
      var terms = SIMD8<Scalar>()
      for lane in 0..<8 { terms[lane] = term(index + lane) }
      sums += terms
    }
    var total = sums.sum()
    for index in whole..<count { total += term(index) }
    return total
  }

  /// Rows of attention that are computed together.
  private static let attentionRows = 64

  /// With P = softmax(QKᵀ·scale) and O = PV: dV = PᵀdO, dS = P ⊙ (dOVᵀ − Σ dO ⊙ O) · scale, dQ = dS·K, dK = dSᵀQ. The
  /// probabilities are computed again, some rows of one head at a time; of what no row may see nothing is computed. Heads
  /// that share keys and values add to the same derivatives.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func attention<Scalar: ArithmeticScalar>(
    _ upper: Matrix<Scalar>, query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>,
    output: Matrix<Scalar>, by attention: Attention, workers: Workers
  ) -> (query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>) {
    let (count, width, keyWidth) = (query.rowCount, query.columnCount, key.columnCount)
    let dQuery = Matrix<Scalar>(rows: count, columns: width)
    let dKey = Matrix<Scalar>.zeros(rows: count, columns: keyWidth)
    let dValue = Matrix<Scalar>.zeros(rows: count, columns: keyWidth)
    let sharing = attention.headCount / attention.keyValueHeadCount
    workers.forEach(attention.keyValueHeadCount) { group in
      for head in group * sharing..<(group + 1) * sharing {
        attend(
          head, upper, query: query, key: key, value: value, output: output, by: attention,
          into: (dQuery, dKey, dValue))
      }
    }
    return (dQuery, dKey, dValue)
  }

  /// Adds what one head contributes.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private static func attend<Scalar: ArithmeticScalar>(
    _ head: Int, _ upper: Matrix<Scalar>, query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>,
    output: Matrix<Scalar>, by attention: Attention,
    into derivatives: (query: Matrix<Scalar>, key: Matrix<Scalar>, value: Matrix<Scalar>)
  ) {
    let (count, width, keyWidth) = (query.rowCount, query.columnCount, key.columnCount)
    let dHead = width / attention.headCount
    let scale = Scalar(attention.scale)
    let (dQuery, dKey, dValue) = derivatives
    let step = min(attentionRows, count)
    let (shares, slopes) = (Matrix<Scalar>(rows: step, columns: count), Matrix<Scalar>(rows: step, columns: count))
    let own = head * dHead
    let shared = head * attention.keyValueHeadCount / attention.headCount * dHead
    for first in stride(from: 0, to: count, by: step) {
      let rows = first..<min(first + step, count)
      let length = rows.upperBound
      let corner = first * width + own
      unsafe Scalar.multiply(
        rows: rows.count, columns: length, inner: dHead, query.start + corner, strideA: width, key.start + shared,
        strideB: keyWidth, isTransposed: true, factor: scale, beta: 0, into: shares.start, strideC: length)
      unsafe Scalar.multiply(
        rows: rows.count, columns: length, inner: dHead, upper.start + corner, strideA: width,
        value.start + shared, strideB: keyWidth, isTransposed: true, factor: 1, beta: 0, into: slopes.start,
        strideC: length)
      for row in rows {
        let start = (row - first) * length
        let share = unsafe UnsafeMutableBufferPointer(start: shares.start + start, count: length)
        let slope = unsafe slopes.start + start
        unsafe Kernels.softmax(UnsafeMutableBufferPointer(rebasing: share[...row]))
        let (up, out) = unsafe (upper.start + row * width + own, output.start + row * width + own)
        let level = sum(dHead) { unsafe up[$0] * out[$0] }
        for column in 0...row {
          unsafe slope[column] = unsafe share[column] * (slope[column] - level) * scale
        }
        for column in row + 1..<max(row + 1, length) { unsafe (share[column], slope[column]) = (0, 0) }
      }
      unsafe Scalar.multiply(
        rows: rows.count, columns: dHead, inner: length, slopes.start, strideA: length, key.start + shared,
        strideB: keyWidth, isTransposed: false, factor: 1, beta: 0, into: dQuery.start + corner, strideC: width)
      unsafe Scalar.multiplyTransposed(
        rows: length, columns: dHead, inner: rows.count, slopes.start, strideA: length, query.start + corner,
        strideB: width, beta: 1, into: dKey.start + shared, strideC: keyWidth)
      unsafe Scalar.multiplyTransposed(
        rows: length, columns: dHead, inner: rows.count, shares.start, strideA: length, upper.start + corner,
        strideB: width, beta: 1, into: dValue.start + shared, strideC: keyWidth)
    }
  }

  /// The derivative of an activation, from what it read.
  static func activation<Scalar: ArithmeticScalar>(
    _ upper: Matrix<Scalar>, of x: Matrix<Scalar>, by activation: Activation, workers: Workers
  ) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    unsafe workers.forEachPart(of: x.values.count, size: elementsPerTask) { part in
      unsafe self.activation(
        UnsafeMutableBufferPointer(rebasing: upper.values[part]),
        of: UnsafeMutableBufferPointer(rebasing: x.values[part]),
        by: activation, into: UnsafeMutableBufferPointer(rebasing: result.values[part]))
    }
    return result
  }

  /// Numbers that one thread takes at a time, where each costs little.
  private static let elementsPerTask = 1 << 14

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private static func activation<Scalar: ArithmeticScalar>(
    _ up: UnsafeMutableBufferPointer<Scalar>, of x: UnsafeMutableBufferPointer<Scalar>, by activation: Activation,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    switch activation {
    case .geluTanh: unsafe Scalar.geluTanhSlope(up, of: x, into: y)
    case .reluSquared:
      for index in 0..<x.count { unsafe y[index] = unsafe up[index] * 2 * max(x[index], 0) }
    case .tanh:
      for index in 0..<x.count {
        let t = Scalar.tanh(unsafe x[index])
        unsafe y[index] = unsafe up[index] * (1 - t * t)
      }
    case .softCap(let limit):
      let limit = Scalar(limit)
      for index in 0..<x.count {
        let t = Scalar.tanh(unsafe x[index] / limit)
        unsafe y[index] = unsafe up[index] * (1 - t * t)
      }
    case .silu: unsafe Scalar.siluSlope(up, of: x, into: y)
    case .geluErf:
      // Φ(x) + x·φ(x), Φ(x) = ½erfc(−x/√2).
      let (root, height) = (Scalar(0.5).squareRoot(), Scalar(1 / (2 * Double.pi).squareRoot()))
      for index in 0..<x.count {
        let v = unsafe x[index]
        let below = Scalar.erfc(-v * root) / 2
        let density = height * Scalar.exp(-v * v / 2)
        unsafe y[index] = unsafe up[index] * (below + v * density)
      }
    case .relu: for index in 0..<x.count { unsafe y[index] = unsafe x[index] > 0 ? up[index] : 0 }
    case .leakyReLU(let slope):
      let slope = Scalar(slope)
      for index in 0..<x.count { unsafe y[index] = unsafe x[index] > 0 ? up[index] : up[index] * slope }
    }
  }

  /// sum = a + b, of two derivatives. The sum may be one of them.
  static func add<Scalar: ArithmeticScalar>(
    _ a: Matrix<Scalar>, _ b: Matrix<Scalar>, into sum: Matrix<Scalar>, workers: Workers
  ) {
    workers.forEachPart(of: sum.rowCount * sum.columnCount, size: elementsPerTask) { part in
      unsafe Scalar.add(
        UnsafeMutableBufferPointer(rebasing: a.values[part]), UnsafeMutableBufferPointer(rebasing: b.values[part]),
        into: UnsafeMutableBufferPointer(rebasing: sum.values[part]))
    }
  }
}
