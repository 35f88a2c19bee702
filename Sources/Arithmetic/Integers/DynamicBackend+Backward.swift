import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// The way back through linear maps, embeddings and norms in dynamic fixed point (arXiv 2207.08822, 2209.09815): derivatives
/// become integers of the weights' width, and every product on the way back is one of integers.
///
/// The papers leave some things open, which are decided here: one sequence is the tensor of a derivative; derivatives are rounded at random
/// by ``CountedRandom``; rounding on the way forward counts as the identity; a norm's pullback is what ``pullBack(_:of:by:)`` says.
/// All tensors have one exponent.
extension DynamicBackend {
  /// The integers of a derivative by a value of one sequence, or of some of its tokens.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func derivative(_ x: Matrix<Scalar>, rounding random: CountedRandom) -> IntegerMatrix {
    let numbers = Matrix<Double>(rows: x.rowCount, columns: x.columnCount)
    let (from, to) = unsafe (x.values, numbers.values)
    for index in 0..<from.count { unsafe to[index] = unsafe Double(from[index]) }
    let exponent = weights.exponent(ofLargest: UnsafeBufferPointer(to).largestMagnitude)
    unsafe weights.map(to, exponent: exponent, rounding: random)
    return IntegerMatrix(numbers: numbers, exponents: Array(repeating: exponent, count: x.rowCount))
  }

  /// The integers of a value.
  package func mapped(_ x: Matrix<Scalar>) -> IntegerMatrix { mapped(x, scales: scales) }

  /// A linear map of some rows of what ``mapped(_:)`` returns.
  package func apply(_ map: LinearMap, to x: IntegerMatrix, rows: Range<Int>, at path: Path) -> Matrix<Scalar> {
    apply(map, to: x.rows(rows), at: path)
  }

  /// dx = (q_dy · q_wᵀ) · 2^(e_dy + e_w).
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func pullBack(_ upper: IntegerMatrix, through weight: Parameter, at path: Path) -> Matrix<Scalar> {
    let exponents = known.exponents(of: weight, at: path, in: weights, scales: scales, axis: 1)
    let (numbers, isTransposed) = known.numbers(of: weight, at: path, in: weights, exponents: exponents)
    let (rows, width) = (upper.numbers.rowCount, weight.rowCount)
    let sums = Matrix<Double>(rows: rows, columns: width)
    unsafe sums.values.update(repeating: 0)
    unsafe Double.multiply(
      rows: rows, columns: width, inner: upper.numbers.columnCount, upper.numbers.start,
      strideA: upper.numbers.columnCount, numbers.start, strideB: numbers.columnCount, isTransposed: !isTransposed,
      into: sums.start, strideC: width, workers: workers)
    let result = Matrix<Scalar>(rows: rows, columns: width)
    let unit = Double.power(upper.exponent + exponents[0])
    let (from, to) = unsafe (sums.values, result.values)
    for index in 0..<from.count { unsafe to[index] = unsafe Scalar(from[index] * unit) }
    return result
  }

  /// With q_n the integers of the normalised values and r what they were multiplied by, g = q_dy · q_γ, and all sums of integers:
  /// dx = r · (g − Σg / d − q_n · 2^(2e_n) · Σ(g · q_n) / d) · 2^(e_dy + e_γ), dγ = Σ q_dy · q_n · 2^(e_dy + e_n), dβ = Σ q_dy · 2^(e_dy).
  /// Without the mean over g for an RMSNorm; with a fixed deviation, dx = (g / σ − Σ(g / σ) / d) · 2^(e_dy + e_γ).
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func pullBack(
    _ upper: IntegerMatrix, of x: Matrix<Scalar>, by norm: Norm
  ) throws(Refusal) -> (derivative: Matrix<Scalar>, gain: [Double], bias: [Double]) {
    let (normal, factors, deviations) = try normalised(x, by: norm)
    let width = x.columnCount
    var gain = ParameterReader(norm.gain).values()
    let gainExponent = unsafe gain.withUnsafeMutableBufferPointer { gain in
      let exponent = weights.exponent(ofLargest: UnsafeBufferPointer(gain).largestMagnitude)
      unsafe weights.map(gain, exponent: exponent)
      return exponent
    }
    let unit = Double.power(upper.exponent + gainExponent)
    let (isCentred, count) = (norm.kind == .layer, Double(width))
    let result = Matrix<Scalar>(rows: x.rowCount, columns: width)
    var (gains, biases) = ([Double](repeating: 0, count: width), [Double](repeating: 0, count: width))
    var products = [Double](repeating: 0, count: width)
    for row in 0..<x.rowCount {
      let (up, n, to) = unsafe (upper.numbers.row(row), normal.numbers.row(row), result.row(row))
      for index in 0..<width {
        products[index] = unsafe up[index] * gain[index]
        // Sums of these have a Double's 53 bits at most, as ``IntegerArithmetic/requireForm(ofTraining:context:)`` says.
        gains[index] += unsafe up[index] * n[index]
        biases[index] += unsafe up[index]
      }
      guard products.allSatisfy(\.isFinite), unsafe n.allSatisfy(\.isFinite) else {
        unsafe to.update(repeating: .nan)
        continue
      }
      if let deviations {
        for index in 0..<width { products[index] /= deviations[index] }
        let level = isCentred ? products.reduce(0, +) / count : 0
        for index in 0..<width { unsafe to[index] = Scalar((products[index] - level) * unit) }
      } else {
        var (sum, share): (Int64, Int64) = (0, 0)
        for index in 0..<width {
          let product = Int64(products[index])
          sum += product
          share += unsafe product * Int64(n[index])
        }
        let level = isCentred ? Double(sum) / count : 0
        let slope = Double(share) / count * Double.power(2 * normal.exponent)
        let factor = factors[row] * unit
        for index in 0..<width {
          unsafe to[index] = unsafe Scalar(factor * (products[index] - level - n[index] * slope))
        }
      }
    }
    let (gainUnit, biasUnit) = (Double.power(upper.exponent + normal.exponent), Double.power(upper.exponent))
    return (result, gains.map { $0 * gainUnit }, biases.map { $0 * biasUnit })
  }
}

/// Integers of a matrix, and the exponent of each row.
package struct IntegerMatrix: Sendable {
  package let numbers: Matrix<Double>
  package let exponents: [Int]

  /// The exponent of a tensor that has one.
  package var exponent: Int { exponents.first ?? 0 }

  /// Some rows, copied.
  package func rows(_ range: Range<Int>) -> IntegerMatrix {
    let part = Matrix<Double>(rows: range.count, columns: numbers.columnCount)
    for row in range {
      _ = unsafe part.row(row - range.lowerBound).update(from: UnsafeBufferPointer(numbers.row(row)))
    }
    return IntegerMatrix(numbers: part, exponents: Array(exponents[range]))
  }

  /// Adds some rows of AᵀB, both of one exponent.
  package func addTransposedProduct<Scalar: ArithmeticScalar>(
    _ other: IntegerMatrix, rows: Range<Int>, to sums: UnsafeMutablePointer<Scalar>, stride: Int
  ) {
    let columns = other.numbers.columnCount
    let product = Matrix<Double>(rows: rows.count, columns: columns)
    unsafe Double.multiplyTransposed(
      rows: rows.count, columns: columns, inner: numbers.rowCount, numbers.start + rows.lowerBound,
      strideA: numbers.columnCount, other.numbers.start, strideB: columns, beta: 0, into: product.start,
      strideC: columns)
    unsafe product.add(times: .power(exponent + other.exponent), to: sums, stride: stride)
  }

  /// Adds, for each place of a table, the rows that are of it: their integers are summed up, and then become one number.
  ///
  /// - Parameter places: of each row.
  package func addRows<Scalar: ArithmeticScalar>(
    at places: [Int], columns: Range<Int>, to table: UnsafeMutablePointer<Scalar>, stride: Int
  ) {
    var order: [Int: Int] = [:]
    for place in places where order[place] == nil { order[place] = order.count }
    let sums = Matrix<Double>(rows: order.count, columns: columns.count)
    unsafe sums.values.update(repeating: 0)
    for (row, place) in places.enumerated() {
      let (from, to) = unsafe (numbers.row(row), sums.row(order[place] ?? 0))
      for column in columns { unsafe to[column - columns.lowerBound] += unsafe from[column] }
    }
    let unit = Double.power(exponent)
    for (place, row) in order {
      let (from, to) = unsafe (sums.row(row), table + place * stride + columns.lowerBound)
      for column in 0..<columns.count { unsafe to[column] += unsafe Scalar(from[column] * unit) }
    }
  }
}

extension Matrix<Double> {
  @specialized(where Other == Float)
  @specialized(where Other == Double)
  fileprivate func add<Other: ArithmeticScalar>(times unit: Double, to sums: UnsafeMutablePointer<Other>, stride: Int) {
    for row in 0..<rowCount {
      let (from, to) = unsafe (self.row(row), sums + row * stride)
      for column in 0..<from.count { unsafe to[column] += unsafe Other(from[column] * unit) }
    }
  }
}

/// Numbers from 0 to below 1 that follow from a key and an index, whoever asks for them in whichever order: SplitMix64 at a
/// place of its sequence.
package struct CountedRandom: Sendable {
  private let key: UInt64

  /// - Parameters:
  ///   - step: counted from the beginning of the training.
  ///   - sequence: the number of the sequence within the step.
  ///   - path: the path of the value whose derivative is rounded.
  ///   - row: the first row that is rounded.
  package init(step: Int, sequence: Int, path: Path, row: Int = 0) {
    // FNV-1a of the path; then each number is mixed in.
    var key: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in path.description.utf8 { key = (key ^ UInt64(byte)) &* 0x100_0000_01B3 }
    for number in [step, sequence, row] {
      var generator = SplitMix64(state: key ^ UInt64(truncatingIfNeeded: number))
      key = generator.next()
    }
    self.key = key
  }

  package subscript(index: Int) -> Double {
    var generator = SplitMix64(state: key &+ UInt64(truncatingIfNeeded: index) &* 0x9E37_79B9_7F4A_7C15)
    return Double(generator.next() >> 11) * 0x1p-53
  }
}

extension DynamicFixedPoint {
  /// Replaces numbers by integers below or above them: ⌊x / 2^e + u⌋ with u from 0 to below 1.
  func map(_ x: UnsafeMutableBufferPointer<Double>, exponent: Int, rounding random: CountedRandom) {
    let (factor, largest) = (Double.power(-exponent), largestInteger)
    for index in 0..<x.count {
      let number = unsafe x[index]
      // Zero stays zero: u is below 1.
      let rounded = (number * factor + random[index]).rounded(.down)
      unsafe x[index] = number.isFinite ? min(max(rounded, -largest), largest) : .nan
    }
  }
}

extension IntegerWeights {
  /// The integers of a matrix in the order in which it is stored.
  func numbers(
    of weight: Parameter, at path: Path, in format: DynamicFixedPoint, exponents: [Int]
  ) -> (numbers: Matrix<Double>, isTransposed: Bool) {
    let isTransposed = weight.storedView?.isTransposed ?? weight.readsAcrossStoredRows
    let numbers = matrices.withLock { matrices in
      if let found = matrices[path] { return found }
      let reader = ParameterReader(isTransposed ? weight.transposed() : weight)
      let result = Matrix<Double>(rows: reader.rowCount, columns: reader.columnCount)
      unsafe reader.forEachBlock { rows, values in
        unsafe format.map(
          rowsOfWeight: values, count: rows.count, exponents: exponents,
          outputs: isTransposed ? rows : 0..<reader.columnCount, isTransposed: isTransposed)
        _ = unsafe UnsafeMutableBufferPointer(
          start: result.start + rows.lowerBound * reader.columnCount, count: values.count
        ).update(from: UnsafeBufferPointer(values))
      }
      matrices[path] = result
      return result
    }
    return (numbers, isTransposed)
  }
}

extension IntegerArithmetic {
  /// - Throws: `.usage` for an arithmetic that nothing is trained in; `.unsupported` where a sum of products on the way forward or
  ///   back could need more bits than there are.
  package func requireForm(ofTraining network: Network, context: Int) throws(Refusal) {
    guard case .dynamic(let weights, let activations) = form else {
      throw Refusal(
        .usage, subject: name, "is not trained in: the way back has a form in dynamic fixed point only",
        advice: "give int:W,A")
    }
    guard scales == .tensor, !includesAttention else {
      throw Refusal(
        .usage, subject: name,
        scales == .channel
          ? "is trained with one exponent for a tensor: sums over tokens need the same for all of them"
          : "is trained with attention in floating point: its way back has no form in integers",
        advice: scales == .channel ? "leave the scales of channels out" : "leave attention out")
    }
    try requireForm(of: network)
    func bits(_ terms: Int) -> Int { Int.bitWidth - max(0, terms - 1).leadingZeroBitCount }
    for node in network.nodes {
      let needed: [(bits: Int, terms: Int, available: Int)]
      switch node.operation {
      case .linear(let map):
        needed = [
          (2 * weights - 2, map.weight.columnCount, Self.accumulatorBits),
          (weights + activations - 2, context, Self.accumulatorBits),
        ]
      case .norm(let norm):
        needed = [
          (weights + activations - 2, context, Self.accumulatorBits),
          (2 * weights + activations - 3, norm.gain.columnCount, 63),
        ]
      default: continue
      }
      for (ofProduct, terms, available) in needed where ofProduct + bits(terms) > available {
        throw Refusal(
          .unsupported, subject: "\(node.path)",
          "a sum of \(terms) products of integers may need \(ofProduct + bits(terms)) bits on the way back under \(name), "
            + "and there are \(available)", advice: "give narrower integers")
      }
    }
  }
}
