import NormFoldNetworks
import Numerics

/// The row kernels of the forward pass. ``PlainBackend`` has the plain versions that they are tested against.
package enum Kernels {
  /// (x − mean) / √(mean of squares + ε) ⊙ γ + β, the population variance.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func normalise<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, epsilon: Scalar, isCentred: Bool, gain: [Scalar], bias: [Scalar]?,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    let count = Scalar(x.count)
    let mean = unsafe isCentred ? sum(x) / count : 0
    for index in 0..<x.count {
      let centred = unsafe x[index] - mean
      unsafe y[index] = centred * centred
    }
    let factor = unsafe 1 / (sum(y) / count + epsilon).squareRoot()
    unsafe gain.withUnsafeBufferPointer { gain in
      for index in 0..<x.count { unsafe y[index] = unsafe (x[index] - mean) * factor * gain[index] }
    }
    if let bias { unsafe add(bias, to: y) }
  }

  /// z / √((Σz² + (Σz)²) / d + ε) ⊙ γ + β, where z is a row of mean zero without the last of its d features.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func normaliseCompressed<Scalar: ArithmeticScalar>(
    _ z: UnsafeMutableBufferPointer<Scalar>, epsilon: Scalar, gain: [Scalar], bias: [Scalar]?,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    let last = unsafe -sum(z)
    var squares = last * last
    for index in 0..<z.count { unsafe squares += z[index] * z[index] }
    let factor = 1 / (squares / Scalar(z.count + 1) + epsilon).squareRoot()
    for index in 0..<z.count { unsafe y[index] = unsafe z[index] * factor * gain[index] }
    if let bias { for index in 0..<z.count { unsafe y[index] += bias[index] } }
  }

  /// (x − mean) / σ ⊙ γ + β.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func divide<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, by deviation: [Scalar], isCentred: Bool, gain: [Scalar], bias: [Scalar]?,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    let mean = unsafe isCentred ? sum(x) / Scalar(x.count) : 0
    unsafe deviation.withUnsafeBufferPointer { deviation in
      unsafe gain.withUnsafeBufferPointer { gain in
        for index in 0..<x.count { unsafe y[index] = unsafe (x[index] - mean) / deviation[index] * gain[index] }
      }
    }
    if let bias { unsafe add(bias, to: y) }
  }

  private static func add<Scalar: ArithmeticScalar>(_ bias: [Scalar], to y: UnsafeMutableBufferPointer<Scalar>) {
    unsafe bias.withUnsafeBufferPointer { bias in
      for index in 0..<y.count { unsafe y[index] += bias[index] }
    }
  }

  /// In eight partial sums, which the compiler may not make of one by itself: they round otherwise.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func sum<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) -> Scalar {
    guard let start = x.baseAddress else { return 0 }
    let whole = x.count / 8 * 8
    var sums = SIMD8<Scalar>()
    for index in stride(from: 0, to: whole, by: 8) {
      unsafe sums += UnsafeRawPointer(start + index).loadUnaligned(as: SIMD8<Scalar>.self)
    }
    var total = sums.sum()
    for index in whole..<x.count { unsafe total += x[index] }
    return total
  }

  /// eˣ / Σeˣ in place.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package static func softmax<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) {
    let factor = unsafe 1 / exponentials(x)
    for index in 0..<x.count { unsafe x[index] *= factor }
  }

  /// Replaces each x by eˣ, the largest exponent moved to 0.
  /// - Returns: their sum.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package static func exponentials<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) -> Scalar {
    unsafe Scalar.sumOfExponentials(x, shiftedBy: Scalar.largest(x))
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  static func activate<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, by activation: Activation, into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    switch activation {
    case .geluTanh: unsafe Scalar.geluTanh(x, into: y)
    case .geluErf:
      // ½x(1 + erf(x/√2))
      let inner = Scalar(0.5).squareRoot()
      for index in 0..<x.count {
        let v = unsafe x[index]
        unsafe y[index] = v / 2 * (1 + .erf(v * inner))
      }
    case .relu: for index in 0..<x.count { unsafe y[index] = unsafe x[index] < 0 ? 0 : x[index] }
    case .reluSquared: for index in 0..<x.count { unsafe y[index] = unsafe x[index] < 0 ? 0 : x[index] * x[index] }
    case .leakyReLU(let slope):
      let slope = Scalar(slope)
      for index in 0..<x.count { unsafe y[index] = unsafe x[index] < 0 ? x[index] * slope : x[index] }
    case .silu: unsafe Scalar.silu(x, into: y)
    case .tanh: for index in 0..<x.count { unsafe y[index] = unsafe .tanh(x[index]) }
    case .softCap(let limit):
      let limit = Scalar(limit)
      for index in 0..<x.count { unsafe y[index] = limit * .tanh(unsafe x[index] / limit) }
    }
  }
}
