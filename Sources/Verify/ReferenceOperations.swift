import Formats
import Networks
import Numerics

/// The forward pass in plain loops over arrays, in double precision, with nothing shared with ``CPUOperations`` but the
/// definition of the network: what the fast version is tested against.
package struct ReferenceOperations: ForwardOperations {
  package let tokens: [Int]
  package let positions: [Int]

  /// - Parameter tokens: one sequence, each at its place unless `positions` says otherwise.
  package init(tokens: [Int], positions: [Int]? = nil) {
    self.tokens = tokens
    self.positions = positions ?? Array(tokens.indices)
  }

  package func embed(tokens table: Parameter, positions offsetTable: Parameter?) -> [[Double]] {
    let width = table.columnCount
    let embeddings = ParameterReader(table).values()
    let offsets = offsetTable.map { ParameterReader($0).values() }
    return zip(tokens, positions).map { token, position in
      (0..<width).map { embeddings[token * width + $0] + (offsets?[position * width + $0] ?? 0) }
    }
  }

  package func normalise(_ x: [[Double]], by norm: Norm) throws(Refusal) -> [[Double]] {
    let gain = ParameterReader(norm.gain).values()
    let bias = norm.bias.map { ParameterReader($0).values() }
    let fixed: [Double]?
    let epsilon: Double
    switch norm.deviation {
    case .computed(let value): (fixed, epsilon) = (nil, value)
    case .fixed(let deviation): (fixed, epsilon) = (ParameterReader(deviation).values(), 0)
    case .perPosition, .perToken: throw Refusal(.notFoldable, subject: norm.name, "is not evaluated")
    }
    return x.map { row in
      let mean = norm.kind == .layer ? row.reduce(0, +) / Double(row.count) : 0
      // The feature that a compressed row leaves out.
      let rest = norm.kind == .crms ? [-row.reduce(0, +)] : []
      let whole = row + rest
      let variance = whole.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(whole.count)
      return row.indices.map { i in
        (row[i] - mean) / (fixed?[i] ?? (variance + epsilon).squareRoot()) * gain[i] + (bias?[i] ?? 0)
      }
    }
  }

  package func apply(_ map: LinearMap, to x: [[Double]]) -> [[Double]] {
    let weight = ParameterReader(map.weight).values()
    let bias = map.bias.map { ParameterReader($0).values() }
    let width = map.weight.columnCount
    return x.map { row in
      (0..<width).map { column in
        row.indices.reduce(bias?[column] ?? 0) { $0 + row[$1] * weight[$1 * width + column] }
      }
    }
  }

  package func attend(
    query: [[Double]], key: [[Double]], value: [[Double]], block: Int, headCount: Int, keyValueHeadCount: Int,
    rotary: Rotary?, scale: Double
  ) -> [[Double]] {
    let dHead = query[0].count / headCount
    func head(_ number: Int, of row: [Double]) -> [Double] { Array(row[number * dHead..<(number + 1) * dHead]) }
    return query.indices.map { t in
      (0..<headCount).flatMap { number in
        let group = number / (headCount / keyValueHeadCount)
        let asked = turned(head(number, of: query[t]), position: positions[t], by: rotary)
        let weights = (0...t).map { s in
          let answer = turned(head(group, of: key[s]), position: positions[s], by: rotary)
          return Double.exp(scale * zip(asked, answer).reduce(0) { $0 + $1.0 * $1.1 })
        }
        let total = weights.reduce(0, +)
        return (0..<dHead).map { column in
          (0...t).reduce(0) { $0 + weights[$1] / total * value[$1][group * dHead + column] }
        }
      }
    }
  }

  /// One head, its pairs of features taken for complex numbers: z · e^(i·position·frequency).
  private func turned(_ x: [Double], position: Int, by rotary: Rotary?) -> [Double] {
    guard let rotary else { return x }
    let half = x.count / 2
    let pairs = (0..<half).map { pair in
      let angle = Double(position) / Double.pow(rotary.base, Double(2 * pair) / Double(x.count))
      return Complex(x[pair], x[half + pair]) * Complex(length: 1, phase: angle)
    }
    return pairs.map(\.real) + pairs.map(\.imaginary)
  }

  package func activate(_ x: [[Double]], by activation: Activation) -> [[Double]] {
    x.map { row in
      row.map { v in
        switch activation {
        case .geluTanh: v / 2 * (1 + .tanh((2 / Double.pi).squareRoot() * (v + 0.044715 * .pow(v, 3))))
        case .geluErf: v / 2 * (1 + .erf(v / Double(2).squareRoot()))
        case .relu: max(v, 0)
        case .leakyReLU(let slope): v < 0 ? slope * v : v
        case .silu: v / (1 + .exp(-v))
        }
      }
    }
  }

  package func add(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] {
    zip(a, b).map { zip($0, $1).map { $0 + $1 } }
  }

  package func multiply(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] {
    zip(a, b).map { zip($0, $1).map { $0 * $1 } }
  }

  package func scale(_ x: [[Double]], by factor: Double) -> [[Double]] { x.map { $0.map { $0 * factor } } }

  package func unembed(_ x: [[Double]], by map: LinearMap) -> [[Double]] { apply(map, to: x) }
}
