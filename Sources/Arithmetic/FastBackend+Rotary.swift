import NormFoldNetworks
import Numerics

extension FastBackend {
  /// Rotates the first features of every head of every token by the token's position: [T, heads · d]. Angles are computed
  /// in double precision, whatever the scalar: a Float holds an angle of 10⁵ to 4·10⁻³ only.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  func rotated(_ x: Matrix<Scalar>, by rotary: Rotary, headCount: Int) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let dHead = x.columnCount / headCount
    let frequencies = rotary.frequencies
    let magnitude = rotary.magnitude
    let half = frequencies.count
    var (cosines, sines) = ([Scalar](repeating: 0, count: half), [Scalar](repeating: 0, count: half))
    var token = 0
    for probe in probes {
      for position in probe.positions {
        for pair in 0..<half {
          let angle = Double(position) * frequencies[pair]
          cosines[pair] = Scalar(magnitude * Double.cos(angle))
          sines[pair] = Scalar(magnitude * Double.sin(angle))
        }
        let (from, to) = unsafe (x.row(token), result.row(token))
        for head in stride(from: 0, to: x.columnCount, by: dHead) {
          for pair in 0..<half {
            let features = rotary.features(ofPair: pair)
            let (first, second) = unsafe (from[head + features.first], from[head + features.second])
            unsafe to[head + features.first] = first * cosines[pair] - second * sines[pair]
            unsafe to[head + features.second] = second * cosines[pair] + first * sines[pair]
          }
          for feature in 2 * half..<dHead { unsafe to[head + feature] = unsafe from[head + feature] }
        }
        token += 1
      }
    }
    return result
  }
}
