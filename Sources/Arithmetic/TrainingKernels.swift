import CNormFoldKernels
import Numerics

/// Loops that training spends its time in beside products of matrices, for the instructions of the processor. They give the
/// same bits with all of them, but for the exponentials in the slopes.
extension Float {
  package static func geluTanhSlope(
    _ up: UnsafeMutableBufferPointer<Float>, of x: UnsafeMutableBufferPointer<Float>,
    into y: UnsafeMutableBufferPointer<Float>
  ) {
    unsafe normfold_gelu_tanh_slope_float(up.baseAddress, x.baseAddress, x.count, y.baseAddress)
  }

  package static func siluSlope(
    _ up: UnsafeMutableBufferPointer<Float>, of x: UnsafeMutableBufferPointer<Float>,
    into y: UnsafeMutableBufferPointer<Float>
  ) {
    unsafe normfold_silu_slope_float(up.baseAddress, x.baseAddress, x.count, y.baseAddress)
  }

  package static func add(
    _ a: UnsafeMutableBufferPointer<Float>, _ b: UnsafeMutableBufferPointer<Float>,
    into sum: UnsafeMutableBufferPointer<Float>
  ) {
    unsafe normfold_add_float(a.baseAddress, b.baseAddress, sum.count, sum.baseAddress)
  }

  package static func sumOfSquares(_ x: UnsafeMutableBufferPointer<Float>) -> Double {
    unsafe normfold_sum_of_squares_float(x.baseAddress, x.count)
  }

  package static func addColumns(
    _ columns: Range<Int>, of matrix: Matrix<Float>, to sums: UnsafeMutableBufferPointer<Double>
  ) {
    unsafe normfold_add_columns_float(
      matrix.start + columns.lowerBound, matrix.columnCount, matrix.rowCount, columns.count, sums.baseAddress)
  }

  package static func takeStep(
    of count: Int, _ p: UnsafeMutablePointer<Float>, gradient g: UnsafePointer<Float>,
    moments m: UnsafeMutablePointer<Float>, _ v: UnsafeMutablePointer<Float>, _ factors: AdamWFactors
  ) {
    unsafe withUnsafePointer(to: factors.cValue) { unsafe normfold_adamw_float(p, g, m, v, count, $0) }
  }
}

extension Double {
  package static func geluTanhSlope(
    _ up: UnsafeMutableBufferPointer<Double>, of x: UnsafeMutableBufferPointer<Double>,
    into y: UnsafeMutableBufferPointer<Double>
  ) {
    unsafe normfold_gelu_tanh_slope_double(up.baseAddress, x.baseAddress, x.count, y.baseAddress)
  }

  package static func siluSlope(
    _ up: UnsafeMutableBufferPointer<Double>, of x: UnsafeMutableBufferPointer<Double>,
    into y: UnsafeMutableBufferPointer<Double>
  ) {
    unsafe normfold_silu_slope_double(up.baseAddress, x.baseAddress, x.count, y.baseAddress)
  }

  package static func add(
    _ a: UnsafeMutableBufferPointer<Double>, _ b: UnsafeMutableBufferPointer<Double>,
    into sum: UnsafeMutableBufferPointer<Double>
  ) {
    unsafe normfold_add_double(a.baseAddress, b.baseAddress, sum.count, sum.baseAddress)
  }

  package static func sumOfSquares(_ x: UnsafeMutableBufferPointer<Double>) -> Double {
    unsafe normfold_sum_of_squares_double(x.baseAddress, x.count)
  }

  package static func addColumns(
    _ columns: Range<Int>, of matrix: Matrix<Double>, to sums: UnsafeMutableBufferPointer<Double>
  ) {
    unsafe normfold_add_columns_double(
      matrix.start + columns.lowerBound, matrix.columnCount, matrix.rowCount, columns.count, sums.baseAddress)
  }

  package static func takeStep(
    of count: Int, _ p: UnsafeMutablePointer<Double>, gradient g: UnsafePointer<Double>,
    moments m: UnsafeMutablePointer<Double>, _ v: UnsafeMutablePointer<Double>, _ factors: AdamWFactors
  ) {
    unsafe withUnsafePointer(to: factors.cValue) { unsafe normfold_adamw_double(p, g, m, v, count, $0) }
  }
}

/// The numbers that a step of AdamW multiplies by. They are computed in double precision, and used in that of the parameters.
package struct AdamWFactors: Sendable {
  fileprivate let cValue: normfold_adamw_factors

  /// - Parameters:
  ///   - number: of the step, from 1.
  ///   - clipping: what the gradient is multiplied by first.
  ///   - weightDecay: λ of p = p·(1 − rate·λ).
  package init(
    number: Int, rate: Double, clipping: Double, betas: (first: Double, second: Double), epsilon: Double,
    weightDecay: Double
  ) {
    func corrected(_ beta: Double) -> Double { 1 - .pow(beta, number) }
    cValue = normfold_adamw_factors(
      clipping: clipping, kept: 1 - rate * weightDecay, newMoment: 1 - betas.first, newSquare: 1 - betas.second,
      oldSquare: betas.second, root: corrected(betas.second).squareRoot(), length: -(rate / corrected(betas.first)),
      epsilon: epsilon)
  }
}
