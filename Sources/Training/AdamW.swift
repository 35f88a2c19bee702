import NormFoldArithmetic
import NormFoldFormats

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
      unsafe sums.start[part] = unsafe Scalar.sumOfSquares(
        UnsafeMutableBufferPointer(rebasing: gradients.values[range]))
    }
    return unsafe sums.values.reduce(0, +).squareRoot()
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
    func factors(weightDecay: Double) -> AdamWFactors {
      AdamWFactors(
        number: number, rate: rate, clipping: clipping, betas: betas, epsilon: epsilon, weightDecay: weightDecay)
    }
    let (decaying, constant) = (factors(weightDecay: weightDecay), factors(weightDecay: 0))
    workers.forEach(list.count) { index in
      let range = list[index].range
      let moment = range.lowerBound - parameters.momentRange.lowerBound
      unsafe Scalar.takeStep(
        of: range.count, parameters.values + range.lowerBound,
        gradient: parameters.gradients.start + range.lowerBound, moments: parameters.firstMoments.start + moment,
        parameters.secondMoments.start + moment, list[index].decays ? decaying : constant)
    }
  }
}
