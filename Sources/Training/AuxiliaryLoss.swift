import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The term that makes the deviations before the last norm alike (arXiv 2507.02559): weight · mean over tokens of (s − t)²
/// with s = √(variance + 10⁻⁵) of the residual stream there, and t the mean of s over the micro-batch's tokens that are
/// neither first nor end-of-text. t is taken for a constant.
struct AuxiliaryLoss: Sendable {
  /// The path of the value that the last norm reads.
  let stream: Path
  let weight: Double
  let endOfText: Int?

  private static let epsilon = 1e-5

  /// Adds the derivatives by the stream, and returns the term without its weight.
  ///
  /// - Parameter share: what the derivatives are multiplied by.
  func pullBack<Scalar: ArithmeticScalar>(
    _ passes: [SequencePass<Scalar>], share: Double
  ) throws(Refusal) -> Double {
    var streams: [Matrix<Scalar>] = []
    for pass in passes { streams.append(try pass.value(at: stream)) }
    let moments = streams.map { Self.moments(of: $0) }
    var (sum, count) = (0.0, 0)
    for (pass, moments) in zip(passes, moments) {
      for (position, token) in pass.tokens.enumerated() where position > 0 && token != endOfText {
        sum += moments[position].deviation
        count += 1
      }
    }
    guard count > 0 else { return 0 }
    let usual = sum / Double(count)
    let tokenCount = passes.reduce(0) { $0 + $1.tokens.count }
    var loss = 0.0
    for (index, pass) in passes.enumerated() {
      let x = streams[index]
      let derivative = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
      for (row, (mean, deviation)) in moments[index].enumerated() {
        let distance = deviation - usual
        loss += distance * distance / Double(tokenCount)
        let factor = 2 * weight * share * distance / (Double(tokenCount) * deviation * Double(x.columnCount))
        Self.write(x, row: row, mean: Scalar(mean), factor: Scalar(factor), into: derivative)
      }
      pass.add(derivative, at: stream)
    }
    return loss
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private static func write<Scalar: ArithmeticScalar>(
    _ x: Matrix<Scalar>, row: Int, mean: Scalar, factor: Scalar, into derivative: Matrix<Scalar>
  ) {
    let (from, to) = unsafe (x.row(row), derivative.row(row))
    for index in 0..<from.count { unsafe to[index] = unsafe factor * (from[index] - mean) }
  }

  private static func moments<Scalar: ArithmeticScalar>(
    of x: Matrix<Scalar>
  ) -> [(mean: Double, deviation: Double)] {
    (0..<x.rowCount).map { row in
      let (mean, variance) = unsafe DeviationSums.moments(of: x.row(row), isCentred: true)
      return (mean, (variance + epsilon).squareRoot())
    }
  }
}

/// Sums of what norms would divide by, over the tokens of one sequence.
final class DeviationSums: @unchecked Sendable {
  private(set) var sums: [String: (sum: Double, count: Int)] = [:]

  /// Operations that read one norm with different deviations read the same values: the first of them counts.
  func add<Scalar: ArithmeticScalar>(_ x: Matrix<Scalar>, of norm: Norm, epsilon: Double, workers: Workers) {
    guard sums[norm.name] == nil else { return }
    let deviations = Matrix<Double>(rows: 1, columns: x.rowCount)
    workers.forEachPart(of: x.rowCount, size: 32) { rows in
      for row in rows {
        let variance = unsafe Self.moments(of: x.row(row), isCentred: norm.kind == .layer).variance
        unsafe deviations.start[row] = (variance + epsilon).squareRoot()
      }
    }
    sums[norm.name] = (unsafe deviations.values.reduce(0, +), x.rowCount)
  }

  /// In double precision; the variance is of the differences from the mean.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func moments<Scalar: ArithmeticScalar>(
    of x: UnsafeMutableBufferPointer<Scalar>, isCentred: Bool
  ) -> (mean: Double, variance: Double) {
    let mean = unsafe isCentred ? x.reduce(0) { $0 + Double($1) } / Double(x.count) : 0
    let squares = unsafe x.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
    return (mean, squares / Double(x.count))
  }
}
