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
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
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
    query: [[Double]], key: [[Double]], value: [[Double]], block: Int, headCount: Int, scale: Double
  ) -> [[Double]] {
    let dHead = query[0].count / headCount
    return query.indices.map { t in
      (0..<headCount).flatMap { head in
        let range = head * dHead..<(head + 1) * dHead
        let weights = (0...t).map { s in Double.exp(scale * range.reduce(0) { $0 + query[t][$1] * key[s][$1] }) }
        let total = weights.reduce(0, +)
        return range.map { column in (0...t).reduce(0) { $0 + weights[$1] / total * value[$1][column] } }
      }
    }
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

  package func unembed(_ x: [[Double]], by map: LinearMap) -> [[Double]] { apply(map, to: x) }
}
