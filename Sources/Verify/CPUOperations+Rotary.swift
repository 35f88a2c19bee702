import Networks
import Numerics

extension CPUOperations {
  /// Every head of every token, turned by its position in its probe: [T, heads · dHead]. Angles are computed in double
  /// precision, whatever the scalar: a Float holds an angle of 10⁵ to 4·10⁻³ only.
  @specialized(where Scalar == Float)
  @specialized(where Scalar == Double)
  package func rotated(_ x: Matrix<Scalar>, dHead: Int, by rotary: Rotary) -> Matrix<Scalar> {
    let result = Matrix<Scalar>(rows: x.rowCount, columns: x.columnCount)
    let frequencies = rotary.frequencies(dHead: dHead)
    let half = frequencies.count
    var (cosines, sines) = ([Scalar](repeating: 0, count: half), [Scalar](repeating: 0, count: half))
    var token = 0
    for probe in probes {
      for position in probe.positions {
        for pair in 0..<half {
          let angle = Double(position) * frequencies[pair]
          cosines[pair] = Scalar(Double.cos(angle))
          sines[pair] = Scalar(Double.sin(angle))
        }
        let (from, to) = (x.row(token), result.row(token))
        for head in stride(from: 0, to: x.columnCount, by: dHead) {
          for pair in 0..<half {
            let (first, second) = (from[head + pair], from[head + half + pair])
            to[head + pair] = first * cosines[pair] - second * sines[pair]
            to[head + half + pair] = second * cosines[pair] + first * sines[pair]
          }
        }
        token += 1
      }
    }
    return result
  }
}
