import Networks
import Numerics

/// The row kernels of the forward pass. ``ReferenceOperations`` has the plain versions that they are tested against.
enum Kernels {
  /// (x − mean) / √(mean of squares + ε) ⊙ γ + β, the population variance.
  static func normalise<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, epsilon: Scalar, isCentred: Bool, gain: [Scalar], bias: [Scalar]?,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    let count = Scalar(x.count)
    let mean = isCentred ? sum(x) / count : 0
    var squares: Scalar = 0
    for index in 0..<x.count {
      let centred = x[index] - mean
      squares += centred * centred
    }
    let factor = 1 / (squares / count + epsilon).squareRoot()
    for index in 0..<x.count { y[index] = (x[index] - mean) * factor * gain[index] }
    if let bias { for index in 0..<x.count { y[index] += bias[index] } }
  }

  /// (x − mean) / σ ⊙ γ + β.
  static func divide<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, by deviation: [Scalar], isCentred: Bool, gain: [Scalar], bias: [Scalar]?,
    into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    let mean = isCentred ? sum(x) / Scalar(x.count) : 0
    for index in 0..<x.count { y[index] = (x[index] - mean) / deviation[index] * gain[index] }
    if let bias { for index in 0..<x.count { y[index] += bias[index] } }
  }

  static func sum<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) -> Scalar {
    var sum: Scalar = 0
    for index in 0..<x.count { sum += x[index] }
    return sum
  }

  /// eˣ / Σeˣ in place, the largest exponent moved to 0.
  static func softmax<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) {
    var largest = -Scalar.infinity
    for index in 0..<x.count where x[index] > largest { largest = x[index] }
    var total: Scalar = 0
    for index in 0..<x.count {
      x[index] = .exp(x[index] - largest)
      total += x[index]
    }
    let factor = 1 / total
    for index in 0..<x.count { x[index] *= factor }
  }

  static func activate<Scalar: ArithmeticScalar>(
    _ x: UnsafeMutableBufferPointer<Scalar>, by activation: Activation, into y: UnsafeMutableBufferPointer<Scalar>
  ) {
    switch activation {
    case .geluTanh:
      // ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
      let inner = Scalar((2 / Double.pi).squareRoot())
      let cubic = Scalar(0.044715)
      for index in 0..<x.count {
        let v = x[index]
        y[index] = v / 2 * (1 + .tanh(inner * (v + cubic * v * v * v)))
      }
    case .geluErf:
      // ½x(1 + erf(x/√2))
      let inner = Scalar(0.5).squareRoot()
      for index in 0..<x.count {
        let v = x[index]
        y[index] = v / 2 * (1 + .erf(v * inner))
      }
    case .relu: for index in 0..<x.count { y[index] = x[index] < 0 ? 0 : x[index] }
    case .leakyReLU(let slope):
      let slope = Scalar(slope)
      for index in 0..<x.count { y[index] = x[index] < 0 ? x[index] * slope : x[index] }
    case .silu: for index in 0..<x.count { y[index] = x[index] / (1 + .exp(-x[index])) }
    }
  }
}
