import NormFoldArithmetic
import NormFoldFormats
import Numerics

/// AdamW with clipping (arXiv 1711.05101), in the order and roundings of PyTorch's: decay first, then the moments, then the
/// step with both of them corrected, ε outside the root.
package struct AdamW: Sendable, Equatable {
  package var betas = (first: 0.9, second: 0.999)
  package var epsilon = 1e-8
  package var weightDecay = 0.0

  package init(betas: (first: Double, second: Double), epsilon: Double, weightDecay: Double) {
    (self.betas, self.epsilon, self.weightDecay) = (betas, epsilon, weightDecay)
  }

  package static func == (a: AdamW, b: AdamW) -> Bool {
    a.betas == b.betas && a.epsilon == b.epsilon && a.weightDecay == b.weightDecay
  }

  /// Numbers that one thread takes at a time.
  private static let chunk = 1 << 16

  /// The 2-norm of all gradients together.
  package static func norm<Scalar: ArithmeticScalar>(
    ofGradientsOf parameters: TrainedParameters<Scalar>, workers: Workers
  ) -> Double {
    let gradients = parameters.gradients
    let count = (gradients.columnCount + chunk - 1) / chunk
    let sums = Matrix<Double>.zeros(count: max(1, count))
    workers.forEach(count) { part in
      let range = part * chunk..<min((part + 1) * chunk, gradients.columnCount)
      unsafe sums.start[part] = unsafe sumOfSquares(UnsafeMutableBufferPointer(rebasing: gradients.values[range]))
    }
    return unsafe sums.values.reduce(0, +).squareRoot()
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private static func sumOfSquares<Scalar: ArithmeticScalar>(_ x: UnsafeMutableBufferPointer<Scalar>) -> Double {
    var sums = SIMD8<Double>()
    let whole = x.count / 8 * 8
    for index in stride(from: 0, to: whole, by: 8) {
      var terms = SIMD8<Double>()
      for lane in 0..<8 { terms[lane] = unsafe Double(x[index + lane]) }
      sums += terms * terms
    }
    return unsafe x[whole...].reduce(sums.sum()) { $0 + Double($1) * Double($1) }
  }

  /// Takes one step with the parameters whose moments are here. Matrices decay, vectors do not.
  ///
  /// - Parameters:
  ///   - number: of the step, from 1.
  ///   - clipping: what all gradients are multiplied by first.
  package func step<Scalar: ArithmeticScalar>(
    _ parameters: TrainedParameters<Scalar>, number: Int, rate: Double, clipping: Double, workers: Workers
  ) {
    var parts: [(range: Range<Int>, decays: Bool)] = []
    for entry in parameters.entries {
      let range = entry.range.clamped(to: parameters.momentRange)
      for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.chunk) {
        parts.append((start..<min(start + Self.chunk, range.upperBound), entry.isMatrix))
      }
    }
    let list = parts
    workers.forEach(list.count) { index in
      step(parameters, list[index].range, list[index].decays, number: number, rate: rate, clipping: clipping)
    }
  }

  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  private func step<Scalar: ArithmeticScalar>(
    _ parameters: TrainedParameters<Scalar>, _ range: Range<Int>, _ decays: Bool, number: Int, rate: Double,
    clipping: Double
  ) {
    let (p, g) = unsafe (parameters.allValues, parameters.gradients.values)
    let (m, v) = unsafe (parameters.firstMoments.values, parameters.secondMoments.values)
    let firstMoment = parameters.momentRange.lowerBound
    func corrected(_ beta: Double) -> Double { 1 - .pow(beta, number) }
    let clip = Scalar(clipping)
    let kept = Scalar(decays ? 1 - rate * weightDecay : 1)
    let (new, newSquare) = (Scalar(1 - betas.first), Scalar(1 - betas.second))
    let oldSquare = Scalar(betas.second)
    let root = Scalar(corrected(betas.second).squareRoot())
    let length = Scalar(-(rate / corrected(betas.first)))
    let epsilon = Scalar(epsilon)
    for index in range {
      let gradient = unsafe g[index] * clip
      let moment = index - firstMoment
      let first = unsafe m[moment] + new * (gradient - m[moment])
      let second = unsafe v[moment] * oldSquare + newSquare * gradient * gradient
      unsafe (m[moment], v[moment]) = (first, second)
      unsafe p[index] = unsafe p[index] * kept + length * first / (second.squareRoot() / root + epsilon)
    }
  }
}
