import Foundation
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldArithmetic

/// The row kernels against formulas in double precision.
@Suite struct KernelTests {
  private static func apply<Scalar: ArithmeticScalar>(
    _ x: [Scalar], _ body: (UnsafeMutableBufferPointer<Scalar>, UnsafeMutableBufferPointer<Scalar>) -> Void
  ) -> [Scalar] {
    var (x, y) = (x, [Scalar](repeating: .nan, count: x.count))
    x.withUnsafeMutableBufferPointer { x in y.withUnsafeMutableBufferPointer { y in body(x, y) } }
    return y
  }

  private static func exponentials(_ x: [Float]) -> [Float] {
    var x = x
    x.withUnsafeMutableBufferPointer { Float.exponentials($0) }
    return x
  }

  @Test("eˣ in single precision is within two units in the last place, from the smallest to the largest result")
  func exponential() {
    let x = (0..<20_001).map { -103 + Float($0) * (191.7 / 20_000) }
    for (x, found) in zip(x, Self.exponentials(x)) {
      let expected = Float(exp(Double(x)))
      #expect(abs(found - expected) <= 2 * expected.ulp, "at \(x)")
    }
  }

  @Test("eˣ in double precision is within two units in the last place, from the smallest to the largest result")
  func wideExponential() {
    var found = (0..<20_001).map { -745 + Double($0) * (1_454.7 / 20_000) }
    let x = found
    found.withUnsafeMutableBufferPointer { Double.exponentials($0) }
    for (x, found) in zip(x, found) { #expect(abs(found - exp(x)) <= 2 * exp(x).ulp, "at \(x)") }
  }

  @Test(
    "eˣ of what has no ordinary result, in double precision",
    arguments: [
      (0, 1), (-Double.infinity, 0), (.infinity, .infinity), (-800, 0), (800, .infinity), (709.79, .infinity),
      (-0.0, 1),
      (-1e300, 0), (1e300, .infinity),
    ] as [(Double, Double)])
  func wideSpecial(x: Double, expected: Double) {
    var found = [x, 1, .nan, 2, 3, 4, 5, 6, 7, 8, x]
    found.withUnsafeMutableBufferPointer { Double.exponentials($0) }
    #expect(found[0] == expected && found[10] == expected && found[2].isNaN && !found[3].isNaN)
  }

  @Test(
    "eˣ of what has no ordinary result",
    arguments: [
      (0, 1), (-Float.infinity, 0), (.infinity, .infinity), (-200, 0), (200, .infinity), (88.8, .infinity), (-0.0, 1),
      (-1e30, 0),
    ] as [(Float, Float)])
  func special(x: Float, expected: Float) {
    #expect(Self.exponentials([x]) == [expected])
    // In a lane of its own, and among the rest.
    #expect(Self.exponentials([1, x, 2, 3, 4, 5, 6, 7, 8, x])[1] == expected)
  }

  @Test("eˣ and the activations made of it do not depend on where in an array a number stands")
  func lengths() {
    func all(_ x: [Float]) -> [[Float]] {
      [
        Self.exponentials(x), Self.apply(x) { Float.geluTanh($0, into: $1) },
        Self.apply(x) { Float.silu($0, into: $1) },
      ]
    }
    for count in 1...70 {
      let x = (0..<count).map { Float($0 * 37 % 61) / 3 - 11 }
      let single = x.map { all([$0]) }
      for (index, found) in all(x).enumerated() {
        // Two units of each: the instructions for the rest of an array need not be those for the whole of it.
        #expect(zip(found, single).allSatisfy { abs($0 - $1[index][0]) <= 4 * $1[index][0].ulp }, "\(count) numbers")
      }
    }
  }

  @Test("NaN stays NaN, and in its own lane")
  func nan() {
    let found = Self.exponentials([0, .nan, 0, 0, 0, 0, 0, 0, 0])
    #expect(found.map(\.isNaN) == [false, true, false, false, false, false, false, false, false])
  }

  @Test(
    "Activations are their formulas, in both precisions",
    arguments: [Activation.geluTanh, .geluErf, .silu, .softCap(3)])
  func activations(_ activation: Activation) {
    let x = (-400...400).map { Double($0) / 25 }
    func expected(_ v: Double) -> Double {
      switch activation {
      case .geluTanh: v / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (v + 0.044715 * v * v * v)))
      case .geluErf: v / 2 * erfc(-v / 2.0.squareRoot())
      case .softCap(let cap): cap * tanh(v / cap)
      default: v / (1 + exp(-v))
      }
    }
    let double = Self.apply(x) { Kernels.activate($0, by: activation, into: $1) }
    let single = Self.apply(x.map(Float.init)) { Kernels.activate($0, by: activation, into: $1) }
    for (index, v) in x.enumerated() {
      #expect(abs(double[index] - expected(v)) <= 4e-16 * max(1, abs(v)), "at \(v)")
      #expect(abs(Double(single[index]) - expected(Double(Float(v)))) <= 3e-7 * max(1, abs(v)), "at \(v)")
    }
  }

  @Test("Activations of infinities and NaN", arguments: [Activation.geluTanh, .silu])
  func extremes(_ activation: Activation) {
    let found = Self.apply([Float.infinity, -1e30, .nan]) { Kernels.activate($0, by: activation, into: $1) }
    #expect(found[0] == .infinity && found[1] == 0 && found[2].isNaN)
  }

  @Test("A softmax sums to one, whatever is added to all of its exponents", arguments: [0, 80, -3_000] as [Float])
  func softmax(shift: Float) {
    let x = (0..<37).map { Float($0 % 11) / 3 + shift }
    let powers = x.map { exp(Double($0) - Double(x.max() ?? 0)) }
    var found = x
    found.withUnsafeMutableBufferPointer { Kernels.softmax($0) }
    for (found, power) in zip(found, powers) {
      #expect(abs(Double(found) - power / powers.reduce(0, +)) <= 1e-7)
    }
  }

  @Test("Sums and norms of rows whose length is no multiple of the lanes", arguments: [1, 7, 8, 9, 33])
  func rows(count: Int) {
    let x = (0..<count).map { Double(($0 * 7) % 5) - 1.25 }
    #expect(Self.apply(x) { $1[0] = Kernels.sum($0) }[0] == x.reduce(0, +))
    let gain = (0..<count).map { 1 + Double($0) / 10 }
    let mean = x.reduce(0, +) / Double(count)
    let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
    let found = Self.apply(x) {
      Kernels.normalise($0, epsilon: 0.5, isCentred: true, gain: gain, bias: gain, into: $1)
    }
    for index in x.indices {
      let expected = (x[index] - mean) / (variance + 0.5).squareRoot() * gain[index] + gain[index]
      #expect(abs(found[index] - expected) <= 1e-14)
    }
  }

  @Test("Attention over more rows than are computed together", arguments: [63, 64, 65, 130])
  func attention(count: Int) throws {
    var generator = TestGenerator(state: 3)
    let (heads, width) = (2, 8)
    let values = (0..<3).map { _ in (0..<count).map { _ in generator.values(width, in: -2...2) } }
    func matrix(_ rows: [[Double]]) -> Matrix<Double> {
      let result = Matrix<Double>(rows: rows.count, columns: width)
      for (row, line) in rows.enumerated() {
        for (column, value) in line.enumerated() { result.row(row)[column] = value }
      }
      return result
    }
    let tokens = [Int](repeating: 0, count: count)
    let fast = FastBackend<Double>(probes: [Probe(name: "p", tokens: tokens)])
    let plain = PlainBackend(tokens: tokens)
    let attention = Attention(headCount: heads, keyValueHeadCount: heads, scale: 0.7)
    let node = Network.Node(path: "mixed", operation: .attend(attention), operands: ["query", "key", "value"])
    let found = try fast.evaluate(node, values.map(matrix)).array
    let expected = try plain.evaluate(node, values)
    for (found, expected) in zip(found, expected.joined()) { #expect(abs(found - expected) <= 1e-13) }
  }
}
