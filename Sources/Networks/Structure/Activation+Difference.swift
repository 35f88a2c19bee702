import Glibc

extension Activation {
  /// The function itself, in double precision.
  package func callAsFunction(_ x: Double) -> Double {
    switch self {
    case .geluTanh: x / 2 * (1 + Glibc.tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .geluErf: x / 2 * (1 + erf(x * 0.5.squareRoot()))
    case .relu: max(x, 0)
    case .reluSquared: max(x, 0) * max(x, 0)
    case .leakyReLU(let slope): x < 0 ? x * slope : x
    case .silu: x / (1 + exp(-x))
    case .tanh: Glibc.tanh(x)
    case .softCap(let limit): limit * Glibc.tanh(x / limit)
    }
  }

  /// The largest |difference| from another of these functions over all inputs from −20 to 20: beyond, the GELUs, ReLU and
  /// SiLU are the same to 10⁻⁷.
  package func largestDifference(from other: Activation) -> Double {
    // The functions are smooth or piecewise linear: on a grid of 10⁻⁴ a maximum is missed by less than 10⁻⁸.
    (-200_000...200_000).reduce(0) { largest, step in
      let x = Double(step) * 1e-4
      return max(largest, abs(self(x) - other(x)))
    }
  }
}
