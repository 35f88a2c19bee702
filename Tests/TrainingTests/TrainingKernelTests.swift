import NormFoldArithmetic
import Numerics
import Testing

/// The loops of training against plain ones, for all lengths of what is left behind whole vectors.
@Suite struct TrainingKernelTests {
  private static func numbers<Scalar: ArithmeticScalar>(_ count: Int, _ seed: Int) -> [Scalar] {
    (0..<count).map { Scalar(($0 + seed) * 7919 % 1009) / 127 - 4 }
  }

  private static func matrix<Scalar: ArithmeticScalar>(_ numbers: [Scalar], rows: Int) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: rows, columns: numbers.count / rows)
    for index in numbers.indices { result.values[index] = numbers[index] }
    return result
  }

  @Test("A step of AdamW has the bits of a plain loop", arguments: 0..<70)
  func steps(count: Int) {
    check(count, Float.self)
    check(count, Double.self)
  }

  private func check<Scalar: ArithmeticScalar>(_ count: Int, _: Scalar.Type) {
    let (p, g, m): ([Scalar], [Scalar], [Scalar]) = (
      Self.numbers(count, 1), Self.numbers(count, 2), Self.numbers(count, 3)
    )
    let v = Self.numbers(count, 4).map { (x: Scalar) in x * x }
    let (rate, clipping, betas, epsilon, decay) = (1e-3, 0.7, (first: 0.9, second: 0.95), 1e-8, 0.1)
    let all = [p, g, m, v].map { Self.matrix($0, rows: 1) }
    let factors = AdamWFactors(
      number: 3, rate: rate, clipping: clipping, betas: betas, epsilon: epsilon, weightDecay: decay)
    withExtendedLifetime(all) {
      Scalar.takeStep(
        of: count, all[0].start, gradient: all[1].start, moments: all[2].start, all[3].start, factors)
    }
    func corrected(_ beta: Double) -> Double { 1 - .pow(beta, 3) }
    for index in 0..<count {
      let gradient = g[index] * Scalar(clipping)
      let first = m[index] + Scalar(1 - betas.first) * (gradient - m[index])
      let second = v[index] * Scalar(betas.second) + Scalar(1 - betas.second) * gradient * gradient
      let root = second.squareRoot() / Scalar(corrected(betas.second).squareRoot()) + Scalar(epsilon)
      let moved = Scalar(-(rate / corrected(betas.first))) * first / root
      #expect(all[0].array[index] == p[index] * Scalar(1 - rate * decay) + moved)
      #expect(all[2].array[index] == first)
      #expect(all[3].array[index] == second)
    }
  }

  @Test("Sums, squares and columns are those of plain loops", arguments: 1..<70)
  func sums(count: Int) {
    checkSums(count, Float.self)
    checkSums(count, Double.self)
  }

  private func checkSums<Scalar: ArithmeticScalar>(_ count: Int, _: Scalar.Type) {
    let (a, b): ([Scalar], [Scalar]) = (Self.numbers(count, 5), Self.numbers(count, 6))
    let (left, right) = (Self.matrix(a, rows: 1), Self.matrix(b, rows: 1))
    let squares = a.reduce(0.0) { $0 + Double($1) * Double($1) }
    let foundSquares = withExtendedLifetime(left) { Scalar.sumOfSquares(left.values) }
    #expect(abs(foundSquares - squares) <= 1e-14 * squares)
    withExtendedLifetime(right) { Scalar.add(left.values, right.values, into: left.values) }
    #expect(left.array == zip(a, b).map(+))

    let rows = Self.matrix(a + b + a, rows: 3)
    let columns = count / 3..<count
    let found = Self.matrix([Double](repeating: 0.5, count: columns.count), rows: 1)
    withExtendedLifetime(found) { Scalar.addColumns(columns, of: rows, to: found.values) }
    #expect(found.array == columns.map { 0.5 + Double(a[$0]) + Double(b[$0]) + Double(a[$0]) })
  }

  @Test("Slopes of activations are those of their formulas in double precision", arguments: 1..<70)
  func slopes(count: Int) {
    let (up, x): ([Float], [Float]) = (Self.numbers(count, 7), Self.numbers(count, 8))
    let (wideUp, wideX) = (up.map { Double($0) }, x.map { Double($0) })
    func check(
      _ narrow: (
        UnsafeMutableBufferPointer<Float>, UnsafeMutableBufferPointer<Float>, UnsafeMutableBufferPointer<Float>
      )
        -> Void,
      _ wide: (
        UnsafeMutableBufferPointer<Double>, UnsafeMutableBufferPointer<Double>, UnsafeMutableBufferPointer<Double>
      ) -> Void, _ function: (Double) -> Double
    ) {
      let found = Self.matrix([Float](repeating: .nan, count: count), rows: 1)
      let wideFound = Self.matrix([Double](repeating: .nan, count: count), rows: 1)
      let (a, b) = (Self.matrix(up, rows: 1), Self.matrix(x, rows: 1))
      let (wideA, wideB) = (Self.matrix(wideUp, rows: 1), Self.matrix(wideX, rows: 1))
      withExtendedLifetime((a, b, wideA, wideB, found, wideFound)) {
        narrow(a.values, b.values, found.values)
        wide(wideA.values, wideB.values, wideFound.values)
      }
      for index in 0..<count {
        let step = 1e-5
        let slope = (function(wideX[index] + step) - function(wideX[index] - step)) / (2 * step) * wideUp[index]
        // Central differences are off by h² and by rounding over h; floats by some units, of exponentials two.
        #expect(abs(wideFound.array[index] - slope) <= 1e-8 * (1 + abs(slope)))
        #expect(abs(Double(found.array[index]) - wideFound.array[index]) <= 2e-6 * (1 + abs(slope)))
      }
    }
    check(
      { Float.geluTanhSlope($0, of: $1, into: $2) }, { Double.geluTanhSlope($0, of: $1, into: $2) },
      { x in x / (1 + .exp(-2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x))) })
    check(
      { Float.siluSlope($0, of: $1, into: $2) }, { Double.siluSlope($0, of: $1, into: $2) },
      { x in x / (1 + .exp(-x)) })
  }

  @Test("The largest number, and the sum of exponentials, whatever the length", arguments: 0..<70)
  func largest(count: Int) {
    let x: [Float] = Self.numbers(count, 9)
    for place in 0..<max(1, count) {
      var x = x
      if place < count { x[place] = place % 2 == 0 ? 9 : .nan }
      let found = Self.matrix(x, rows: 1)
      let largest = withExtendedLifetime(found) { Float.largest(found.values) }
      #expect(largest == x.filter { !$0.isNaN }.reduce(-.infinity) { max($0, $1) })
    }
    let found = Self.matrix(x, rows: 1)
    let sum = Float.sumOfExponentials(found.values, shiftedBy: 4)
    let expected = x.map { Double.exp(Double($0) - 4) }
    #expect(abs(Double(sum) - expected.reduce(0, +)) <= 1e-6 * expected.reduce(0, +))
    for (found, expected) in zip(found.array, expected) { #expect(abs(Double(found) - expected) <= 3e-7 * expected) }
  }
}
