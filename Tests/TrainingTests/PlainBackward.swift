import NormFoldArithmetic
import NormFoldNetworks

@testable import NormFoldTraining

/// The way back through linear maps, embeddings and norms in dynamic fixed point over Ints, from the definitions.
struct PlainBackward {
  let weightBits: Int
  let activationBits: Int

  struct Mapped {
    var integers: [Int]
    var exponent: Int
  }

  func power(_ exponent: Int) -> Double {
    (0..<abs(exponent)).reduce(1) { product, _ in exponent > 0 ? product * 2 : product / 2 }
  }

  /// e with max|x| = m · 2^(e + b − 1), ½ ≤ m < 1.
  private func exponent(of x: [Double], _ bits: Int) -> Int {
    var largest = x.reduce(0) { max($0, abs($1)) }
    guard largest > 0 else { return 0 }
    var exponent = 0
    while largest >= 1 { (largest, exponent) = (largest / 2, exponent + 1) }
    while largest < 0.5 { (largest, exponent) = (largest * 2, exponent - 1) }
    return exponent - (bits - 1)
  }

  private func cut(_ x: Int, _ bits: Int) -> Int { min(max(x, 1 - (1 << (bits - 1))), (1 << (bits - 1)) - 1) }

  func map(_ x: [Double], _ bits: Int) -> Mapped {
    let exponent = exponent(of: x, bits)
    return Mapped(
      integers: x.map { value in
        let scaled = value * power(-exponent)
        let below = Int(scaled.rounded(.down))
        let rest = scaled - Double(below)
        return cut(rest > 0.5 || (rest == 0.5 && below % 2 != 0) ? below + 1 : below, bits)
      }, exponent: exponent)
  }

  /// The output of SplitMix64 behind a state.
  private func mixed(_ state: UInt64) -> UInt64 {
    var z = state &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Rounded at random, as step, sequence, path, first row and place say.
  func derivative(_ x: [Double], step: Int, sequence: Int, path: Path, row: Int = 0) -> Mapped {
    var key: UInt64 = 14_695_981_039_346_656_037
    for byte in path.description.utf8 { key = (key ^ UInt64(byte)) &* 1_099_511_628_211 }
    for number in [step, sequence, row] { key = mixed(key ^ UInt64(number)) }
    let exponent = exponent(of: x, weightBits)
    return Mapped(
      integers: x.enumerated().map { index, value in
        let random = Double(mixed(key &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15) >> 11) / 9_007_199_254_740_992
        return cut(Int((value * power(-exponent) + random).rounded(.down)), weightBits)
      }, exponent: exponent)
  }

  /// A·B, or with the first of them or the second transposed.
  func product(
    _ a: Mapped, _ b: Mapped, rows: Int, inner: Int, columns: Int, transposesA: Bool = false, transposesB: Bool = false
  ) -> [Double] {
    let unit = power(a.exponent + b.exponent)
    var result: [Double] = []
    for row in 0..<rows {
      for column in 0..<columns {
        var sum = 0
        for index in 0..<inner {
          sum +=
            a.integers[transposesA ? index * rows + row : row * inner + index]
            * b.integers[transposesB ? column * inner + index : index * columns + column]
        }
        result.append(Double(sum) * unit)
      }
    }
    return result
  }

  func norm(_ upper: Mapped, of x: [Double], by norm: Norm) -> (derivative: [Double], gain: [Double], bias: [Double]) {
    let gain = map(ParameterReader(norm.gain).values(), weightBits)
    let width = gain.integers.count
    let q = map(x, activationBits)
    let unit = power(q.exponent)
    var (normal, factors): ([Double], [Double]) = ([], [])
    for start in stride(from: 0, to: x.count, by: width) {
      let row = Array(q.integers[start..<start + width])
      let mean =
        norm.kind == .layer ? Int((Double(row.reduce(0, +)) / Double(width)).rounded(.toNearestOrEven)) : 0
      let centred = row.map { $0 - mean }
      switch norm.deviation {
      case .computed(let epsilon):
        let variance = Double(centred.reduce(0) { $0 + $1 * $1 }) / Double(width)
        let factor = 1 / (variance + epsilon / unit / unit).squareRoot()
        normal += centred.map { Double($0) * factor }
        factors.append(factor / unit)
      case .fixed(let deviation):
        normal += zip(centred, ParameterReader(deviation).values()).map { Double($0) * (unit / $1) }
      default: preconditionFailure("such norms are not trained")
      }
    }
    let n = map(normal, activationBits)
    let scale = power(upper.exponent + gain.exponent)
    var derivative: [Double] = []
    for row in 0..<x.count / width {
      let place = row * width
      let products = (0..<width).map { upper.integers[place + $0] * gain.integers[$0] }
      if case .fixed(let deviation) = norm.deviation {
        let parts = zip(products, ParameterReader(deviation).values()).map { Double($0) / $1 }
        let level = norm.kind == .layer ? parts.reduce(0, +) / Double(width) : 0
        derivative += parts.map { ($0 - level) * scale }
      } else {
        let level = norm.kind == .layer ? Double(products.reduce(0, +)) / Double(width) : 0
        let share = (0..<width).reduce(0) { $0 + products[$1] * n.integers[place + $1] }
        let slope = Double(share) / Double(width) * power(2 * n.exponent)
        derivative += (0..<width).map {
          factors[row] * scale * (Double(products[$0]) - level - Double(n.integers[place + $0]) * slope)
        }
      }
    }
    func sum(_ term: (Int) -> Int) -> [Double] {
      (0..<width).map { column in
        Double(stride(from: column, to: x.count, by: width).reduce(0) { $0 + term($1) })
      }
    }
    return (
      derivative, sum { upper.integers[$0] * n.integers[$0] }.map { $0 * power(upper.exponent + n.exponent) },
      sum { upper.integers[$0] }.map { $0 * power(upper.exponent) }
    )
  }
}
