import NormFoldFormats
import NormFoldNetworks
import Numerics

/// The forward pass in plain loops over arrays, in double precision, with nothing shared with ``FastBackend`` but the
/// definition of the network: what the fast version is tested against.
package struct PlainBackend: Backend {
  package let probe: Probe

  package init(_ probe: Probe) { self.probe = probe }

  /// - Parameter tokens: one sequence, each at its place unless `positions` says otherwise.
  package init(tokens: [Int], positions: [Int]? = nil) {
    self.init(Probe(name: "sequence", tokens: tokens, positions: positions))
  }

  package func evaluate(_ node: Network.Node, _ operands: [[[Double]]]) throws(Refusal) -> [[Double]] {
    switch node.operation {
    case .embed(let table, let index): embed(table, by: index)
    case .patches(let image):
      [[Double](repeating: 0, count: image.patchLength)]
        + (0..<image.count).map { image.places(ofPatch: $0).map { probe.pixels[$0] } }
    case .features(let width): probe.features(width: width)
    case .norm(let norm): try normalise(operands[0], by: norm)
    case .linear(let map): apply(map, to: operands[0])
    case .rotate(let rotary, let headCount): rotated(operands[0], by: rotary, headCount: headCount)
    case .attend(let attention): attend(query: operands[0], key: operands[1], value: operands[2], by: attention)
    case .activate(let activation): activate(operands[0], by: activation)
    case .scale(let factor): operands[0].map { $0.map { $0 * factor } }
    case .scaleFeatures(let vector): operands[0].map { zip($0, ParameterReader(vector).values()).map { $0 * $1 } }
    case .add: zip(operands[0], operands[1]).map { zip($0, $1).map { $0 + $1 } }
    case .multiply: zip(operands[0], operands[1]).map { zip($0, $1).map { $0 * $1 } }
    case .select(.word):
      probe.tokensOfWords.map { tokens in
        operands[0][0].indices.map { feature in
          tokens.reduce(0) { $0 + operands[0][$1][feature] } / Double(tokens.count)
        }
      }
    case .select(.first): operands[0].map { _ in operands[0][0] }
    }
  }

  private func embed(_ table: Parameter, by index: Operation.Index) -> [[Double]] {
    let width = table.columnCount
    let reader = ParameterReader(table)
    return probe.rows(by: index).map { row in
      row.map { reader.values(rows: $0..<$0 + 1, columns: 0..<width) } ?? [Double](repeating: 0, count: width)
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
    func normalised(_ row: [Double]) -> [Double] {
      let mean = norm.kind == .layer ? row.reduce(0, +) / Double(row.count) : 0
      // The feature that a compressed row leaves out.
      let rest = norm.kind == .crms ? [-row.reduce(0, +)] : []
      let whole = row + rest
      let variance = whole.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(whole.count)
      return row.indices.map { i in
        (row[i] - mean) / (fixed?[i] ?? (variance + epsilon).squareRoot()) * gain[i] + (bias?[i] ?? 0)
      }
    }
    return x.map { row in
      let width = row.count / norm.headCount
      return (0..<norm.headCount).flatMap { normalised(Array(row[$0 * width..<($0 + 1) * width])) }
    }
  }

  private func apply(_ map: LinearMap, to x: [[Double]]) -> [[Double]] {
    let weight = ParameterReader(map.weight).values()
    let bias = map.bias.map { ParameterReader($0).values() }
    let width = map.weight.columnCount
    return x.map { row in
      (0..<width).map { column in
        row.indices.reduce(bias?[column] ?? 0) { $0 + row[$1] * weight[$1 * width + column] }
      }
    }
  }

  private func attend(
    query: [[Double]], key: [[Double]], value: [[Double]], by attention: Attention
  ) -> [[Double]] {
    let dHead = query[0].count / attention.headCount
    func head(_ number: Int, of row: [Double]) -> [Double] { Array(row[number * dHead..<(number + 1) * dHead]) }
    return query.indices.map { t in
      (0..<attention.headCount).flatMap { number in
        let group = number / (attention.headCount / attention.keyValueHeadCount)
        let asked = head(number, of: query[t])
        let seen =
          attention.mask.isCausal
          ? (0...t).filter { t - $0 < attention.mask.width ?? .max } : probe.visibleTokens
        let products = seen.map { s in
          let score = attention.scale * zip(asked, head(group, of: key[s])).reduce(0) { $0 + $1.0 * $1.1 }
          return attention.softCap.map { $0 * .tanh(score / $0) } ?? score
        }
        let (weights, total): ([Double], Double)
        switch attention.weighting {
        case .softmax:
          // The largest is taken off, which changes no share: no exponential is infinite.
          let largest = products.max() ?? 0
          weights = products.map { Double.exp($0 - largest) }
          total = weights.reduce(0, +)
        case .decaying(let factors):
          weights = zip(seen, products).map { .pow(factors[number], Double(t - $0)) * $1 }
          total = 1
        }
        return (0..<dHead).map { column in
          zip(seen, weights).reduce(0) { $0 + $1.1 / total * value[$1.0][group * dHead + column] }
        }
      }
    }
  }

  /// Every head, its pairs of features taken for complex numbers: m · z · e^(i·position·frequency).
  private func rotated(_ x: [[Double]], by rotary: Rotary, headCount: Int) -> [[Double]] {
    zip(x, probe.positions).map { row, position in
      let dHead = row.count / headCount
      return (0..<headCount).flatMap { number in
        let head = Array(row[number * dHead..<(number + 1) * dHead])
        let half = rotary.width / 2
        let pairs = (0..<half).map { pair -> Complex<Double> in
          // Scaled ones are held against transformers' tables, and not derived here again.
          let frequency =
            rotary.scaling == .none
            ? 1 / Double.pow(rotary.base, Double(2 * pair) / Double(rotary.width)) : rotary.frequencies[pair]
          return
            (rotary.pairsNeighbours
            ? Complex(head[2 * pair], head[2 * pair + 1]) : Complex(head[pair], head[half + pair]))
            * Complex(length: rotary.magnitude, phase: Double(position) * frequency)
        }
        let turned =
          rotary.pairsNeighbours
          ? pairs.flatMap { [$0.real, $0.imaginary] } : pairs.map(\.real) + pairs.map(\.imaginary)
        return turned + head[rotary.width...]
      }
    }
  }

  private func activate(_ x: [[Double]], by activation: Activation) -> [[Double]] {
    x.map { row in
      row.map { v in
        switch activation {
        case .geluTanh: v / 2 * (1 + .tanh((2 / Double.pi).squareRoot() * (v + 0.044715 * .pow(v, 3))))
        case .geluErf: v / 2 * (1 + .erf(v / Double(2).squareRoot()))
        case .relu: max(v, 0)
        case .reluSquared: .pow(max(v, 0), 2)
        case .leakyReLU(let slope): v < 0 ? slope * v : v
        case .silu: v / (1 + .exp(-v))
        case .tanh: .tanh(v)
        case .softCap(let limit): limit * .tanh(v / limit)
        }
      }
    }
  }
}
