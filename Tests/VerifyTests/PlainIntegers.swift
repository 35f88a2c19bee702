import Glibc
import NormFoldArithmetic
import NormFoldNetworks

/// The operations of dynamic fixed point over Ints, from the definitions.
struct PlainDynamic {
  let probes: [Probe]
  let weightBits: Int
  let activationBits: Int
  let isByChannel: Bool

  struct Mapped {
    var integers: [Int]
    var exponent: Int
  }

  /// frexp: |x| = m · 2^k, ½ ≤ m < 1.
  private func map(_ x: [Double], _ bits: Int) -> Mapped {
    let largest = x.reduce(0) { max($0, abs($1)) }
    guard largest > 0 else { return Mapped(integers: x.map { _ in 0 }, exponent: 0) }
    var exponent = 0
    var mantissa = largest
    while mantissa >= 1 { (mantissa, exponent) = (mantissa / 2, exponent + 1) }
    while mantissa < 0.5 { (mantissa, exponent) = (mantissa * 2, exponent - 1) }
    exponent -= bits - 1
    let most = (1 << (bits - 1)) - 1
    return Mapped(
      integers: x.map { value in
        let scaled = value * power(-exponent)
        let below = scaled.rounded(.down)
        let rest = scaled - below
        let rounded = rest > 0.5 || (rest == 0.5 && Int(below) % 2 != 0) ? Int(below) + 1 : Int(below)
        return min(max(rounded, -most), most)
      }, exponent: exponent)
  }

  private func power(_ exponent: Int) -> Double {
    (0..<abs(exponent)).reduce(1) { product, _ in exponent > 0 ? product * 2 : product / 2 }
  }

  private var tokenCount: Int { probes.reduce(0) { $0 + $1.tokens.count } }

  /// By token: the integers of its row, and the exponent of its tensor.
  private func activations(_ x: [Double], byChannel: Bool? = nil) -> [Mapped] {
    let width = x.count / tokenCount
    var result: [Mapped] = []
    for probe in probes {
      let parts = byChannel ?? isByChannel ? probe.tokens.map { _ in 1 } : [probe.tokens.count]
      for count in parts {
        let mapped = map(Array(x[result.count * width..<(result.count + count) * width]), activationBits)
        for row in 0..<count {
          result.append(
            Mapped(integers: Array(mapped.integers[row * width..<(row + 1) * width]), exponent: mapped.exponent))
        }
      }
    }
    return result
  }

  /// Columns of a matrix, each with an exponent.
  private func columns(_ weight: Parameter) -> [Mapped] {
    let (values, width) = (ParameterReader(weight).values(), weight.columnCount)
    let whole = map(values, weightBits)
    return (0..<width).map { column in
      let own = stride(from: column, to: values.count, by: width)
      return isByChannel
        ? map(own.map { values[$0] }, weightBits)
        : Mapped(integers: own.map { whole.integers[$0] }, exponent: whole.exponent)
    }
  }

  func evaluate(_ operation: Operation, _ x: [[Double]], _ includesAttention: Bool) -> [Double]? {
    switch operation {
    case .embed(let table, let index):
      let places = probes.flatMap { $0.rows(by: index) }
      let rows = columns(table.transposed())
      return places.flatMap { (place: Int?) -> [Double] in
        guard let place else { return [Double](repeating: 0, count: table.columnCount) }
        return rows[place].integers.map { (value: Int) -> Double in Double(value) * power(rows[place].exponent) }
      }
    case .linear(let map):
      let weights = columns(map.weight)
      let bias = map.bias.map { ParameterReader($0).values() }
      return activations(x[0]).flatMap { (row: Mapped) -> [Double] in
        weights.enumerated().map { (output, column) -> Double in
          let sum = total(row.integers.count) { row.integers[$0] * column.integers[$0] }
          let unit: Double = power(row.exponent) * power(column.exponent)
          return Double(sum) * unit + (bias?[output] ?? 0)
        }
      }
    case .norm(let norm):
      let (gain, bias) = (rounded(norm.gain), norm.bias.map(rounded))
      let heads = norm.headCount
      let parts = activations(x[0]).flatMap { (row: Mapped) -> [Mapped] in
        let width = row.integers.count / heads
        return (0..<heads).map {
          Mapped(integers: Array(row.integers[$0 * width..<($0 + 1) * width]), exponent: row.exponent)
        }
      }
      let normal: [[Double]] = parts.map { (row: Mapped) -> [Double] in
        let (count, unit) = (row.integers.count, power(row.exponent))
        let sum = row.integers.reduce(0, +)
        let mean = norm.kind == .layer ? Int((Double(sum) / Double(count)).rounded(.toNearestOrEven)) : 0
        let centred = row.integers.map { $0 - mean }
        if case .fixed(let deviation) = norm.deviation {
          return zip(centred, ParameterReader(deviation).values()).map { Double($0) * (unit / $1) }
        }
        guard case .computed(let epsilon) = norm.deviation else { return [] }
        var squares = total(count) { centred[$0] * centred[$0] }
        if norm.kind == .crms { squares += sum * sum }
        let variance = Double(squares) / Double(norm.kind == .crms ? count + 1 : count)
        let factor = 1 / (variance + epsilon / unit / unit).squareRoot()
        return centred.map { Double($0) * factor }
      }
      return activations(normal.flatMap { $0 }).flatMap { (row: Mapped) -> [Double] in
        row.integers.enumerated().map { (feature: Int, value: Int) -> Double in
          let number: Double = Double(value) * power(row.exponent)
          return number * gain[feature % gain.count] + (bias?[feature % gain.count] ?? 0)
        }
      }
    case .attend(let attention) where includesAttention:
      let (queries, keys, values) = (
        activations(x[0]), activations(x[1]), activations(x[2], byChannel: false)
      )
      let dHead = queries[0].integers.count / attention.headCount
      var start = 0
      var result: [Double] = []
      for probe in probes {
        for token in start..<start + probe.tokens.count {
          for head in 0..<attention.headCount {
            let group = head / (attention.headCount / attention.keyValueHeadCount)
            let query = queries[token]
            let seen = Self.seen(by: token, of: probe, from: start, attention)
            let scores = seen.map { (other: Int) -> Double in
              let key = keys[other]
              let sum = total(dHead) { query.integers[head * dHead + $0] * key.integers[group * dHead + $0] }
              return Double(sum) * power(query.exponent + key.exponent) * attention.scale
            }
            let highest = scores.max() ?? 0
            let powers = scores.map { exp($0 - highest) }
            let whole = powers.reduce(0, +)
            let shares = map(powers.map { $0 / whole }, activationBits)
            for feature in 0..<dHead {
              let sum = total(shares.integers.count) {
                shares.integers[$0] * values[seen[$0]].integers[group * dHead + feature]
              }
              result.append(Double(sum) * power(shares.exponent + values[start].exponent))
            }
          }
        }
        start += probe.tokens.count
      }
      return result
    default: return nil
    }
  }

  /// The rows that a token attends to.
  static func seen(by token: Int, of probe: Probe, from start: Int, _ attention: Attention) -> [Int] {
    (start..<start + probe.tokens.count).filter {
      attention.mask == .causal ? $0 <= token : probe.isVisible[$0 - start]
    }
  }

  private func total(_ count: Int, _ term: (Int) -> Int) -> Int {
    var result = 0
    for index in 0..<count { result += term(index) }
    return result
  }

  private func rounded(_ parameter: Parameter) -> [Double] {
    let mapped = map(ParameterReader(parameter).values(), weightBits)
    return mapped.integers.map { Double($0) * power(mapped.exponent) }
  }
}

/// The operations of fixed point over 128-bit integers, from the definitions.
struct PlainFixed {
  let probes: [Probe]
  let bits: Int
  let fraction: Int

  private var tokenCount: Int { probes.reduce(0) { $0 + $1.tokens.count } }
  private var unit: Double { Double(Int128(1) << Int128(fraction)) }

  /// Modulo 2^K, between −2^(K−1) and 2^(K−1).
  private func ring(_ x: Int128) -> Int128 {
    let modulus = Int128(1) << Int128(bits)
    let rest = ((x % modulus) + modulus) % modulus
    return rest >= modulus / 2 ? rest - modulus : rest
  }

  private func encode(_ x: Double) -> Int128 { ring(Int128((x * unit).rounded(.toNearestOrEven))) }
  private func encode(_ parameter: Parameter) -> [Int128] { ParameterReader(parameter).values().map(encode) }
  /// ⌊x / 2^F⌋ of what the ring holds.
  private func cut(_ x: Int128) -> Int128 { ring(x) >> Int128(fraction) }
  private func product(_ x: Int128, _ y: Int128) -> Int128 { cut(x * y) }
  private func floor(_ x: Int128, _ count: Int) -> Int128 {
    let whole = x / Int128(count)
    return whole * Int128(count) > x ? whole - 1 : whole
  }

  private func exponential(_ x: Int128) -> Int128 {
    var power = max(0, ring((Int128(1) << Int128(fraction)) + (x >> 8)))
    for _ in 0..<8 { power = product(power, power) }
    return power
  }

  private func reciprocal(_ x: Int128) -> Int128 {
    var y = ring(product(exponential(ring(encode(0.5) - x)), encode(3)) + encode(0.003))
    for _ in 0..<10 { y = product(y, ring(2 * encode(1) - product(x, y))) }
    return y
  }

  private func inverseRoot(_ x: Int128) -> Int128 {
    var y = product(exponential(ring(-(x >> 1) - encode(0.2))), encode(2.2))
    y = ring(ring(y + encode(0.2)) - (x >> 10))
    for _ in 0..<3 { y = product(y, ring(3 * encode(1) - product(x, product(y, y)))) >> 1 }
    return y
  }

  private func sigmoid(_ x: Int128) -> Int128 {
    let share = reciprocal(ring(encode(1) + exponential(-abs(x))))
    return x < 0 ? encode(1) - share : share
  }

  private func activate(_ x: Int128, _ activation: Activation) -> Int128 {
    func half(_ y: Int128) -> Int128 { product(x, ring(encode(1) + y)) >> 1 }
    switch activation {
    case .relu: return max(x, 0)
    case .reluSquared: return product(max(x, 0), max(x, 0))
    case .leakyReLU(let slope): return x < 0 ? product(x, encode(slope)) : x
    case .silu: return product(x, sigmoid(x))
    case .softCap: preconditionFailure("capped logits have no form in integers")
    case .tanh: return ring(2 * sigmoid(ring(2 * x)) - encode(1))
    case .geluTanh:
      let cube = product(product(x, x), x)
      let inner = product(ring(x + product(cube, encode(0.044715))), encode((2 / Double.pi).squareRoot()))
      return half(ring(2 * sigmoid(ring(2 * inner)) - encode(1)))
    case .geluErf:
      let y = product(x, encode(0.5.squareRoot()))
      if y >= encode(2.5) { return half(encode(1)) }
      if y <= -encode(2.5) { return half(-encode(1)) }
      var (term, sum) = (y, y)
      for n in 1..<25 {
        term = floor(-product(term, product(y, y)), n)
        sum = ring(sum + floor(term, 2 * n + 1))
      }
      return half(product(sum, encode(2 / Double.pi.squareRoot())))
    }
  }

  private func total(_ count: Int, _ term: (Int) -> Int128) -> Int128 {
    var result: Int128 = 0
    for index in 0..<count { result += term(index) }
    return result
  }

  func evaluate(_ operation: Operation, _ operands: [[Int64]]) -> [Int64] {
    let x = operands.map { $0.map { Int128($0) } }
    return result(operation, x).map { Int64($0) }
  }

  private func result(_ operation: Operation, _ x: [[Int128]]) -> [Int128] {
    switch operation {
    case .embed(let table, let index):
      let rows = encode(table)
      return probes.flatMap { $0.rows(by: index) }.flatMap { place in
        place.map { Array(rows[$0 * table.columnCount..<($0 + 1) * table.columnCount]) }
          ?? [Int128](repeating: 0, count: table.columnCount)
      }
    case .linear(let map):
      let (weights, width) = (encode(map.weight), map.weight.columnCount)
      let bias = map.bias.map(encode)
      let inputs = map.weight.rowCount
      return (0..<tokenCount).flatMap { (token: Int) -> [Int128] in
        (0..<width).map { (output: Int) -> Int128 in
          let sum = total(inputs) { x[0][token * inputs + $0] * weights[$0 * width + output] }
          return ring(cut(sum) + (bias?[output] ?? 0))
        }
      }
    case .norm(let norm):
      let gain = ParameterReader(norm.gain).values()
      let bias = norm.bias.map(encode)
      let width = gain.count
      return (0..<x[0].count / width).flatMap { part -> [Int128] in
        let row = Array(x[0][part * width..<(part + 1) * width])
        let sum = row.reduce(0) { ring($0 + $1) }
        let centred = norm.kind == .layer ? row.map { ring($0 - floor(sum, width)) } : row
        if case .fixed(let deviation) = norm.deviation {
          let sigma = ParameterReader(deviation).values()
          return centred.indices.map { (i: Int) -> Int128 in
            ring(product(centred[i], encode(gain[i] / sigma[i])) + (bias?[i] ?? 0))
          }
        }
        guard case .computed(let epsilon) = norm.deviation else { return [] }
        let all = norm.kind == .crms ? centred + [-sum] : centred
        let variance = floor(cut(total(all.count) { all[$0] * all[$0] }), all.count)
        let factor = inverseRoot(ring(variance + encode(epsilon)))
        return centred.indices.map { (i: Int) -> Int128 in
          ring(product(product(centred[i], factor), encode(gain[i])) + (bias?[i] ?? 0))
        }
      }
    case .attend(let attention):
      let width = x[0].count / tokenCount
      let dHead = width / attention.headCount
      let keyWidth = x[1].count / tokenCount
      var (result, start) = ([Int128](), 0)
      for probe in probes {
        for token in start..<start + probe.tokens.count {
          for head in 0..<attention.headCount {
            let group = head / (attention.headCount / attention.keyValueHeadCount)
            let seen = PlainDynamic.seen(by: token, of: probe, from: start, attention)
            let scores = seen.map { (other: Int) -> Int128 in
              let (asked, known) = (token * width + head * dHead, other * keyWidth + group * dHead)
              let sum = total(dHead) { x[0][asked + $0] * x[1][known + $0] }
              return product(cut(sum), encode(attention.scale))
            }
            let highest = scores.max() ?? 0
            let powers = scores.map { exponential(ring($0 - highest)) }
            let factor = reciprocal(powers.reduce(0) { ring($0 + $1) })
            let shares = powers.map { product($0, factor) }
            for feature in 0..<dHead {
              let own = group * dHead + feature
              result.append(cut(total(shares.count) { shares[$0] * x[2][seen[$0] * keyWidth + own] }))
            }
          }
        }
        start += probe.tokens.count
      }
      return result
    case .activate(let activation): return x[0].map { activate($0, activation) }
    case .scale(let factor): return x[0].map { product($0, encode(factor)) }
    case .scaleFeatures(let vector):
      let factors = encode(vector)
      return x[0].indices.map { product(x[0][$0], factors[$0 % factors.count]) }
    case .add: return zip(x[0], x[1]).map { ring($0 + $1) }
    case .multiply: return zip(x[0], x[1]).map { product($0, $1) }
    case .rotate(let rotary, let heads):
      let (width, dHead) = (x[0].count / tokenCount, x[0].count / tokenCount / heads)
      let positions = probes.flatMap(\.positions)
      return x[0].indices.map { (index: Int) -> Int128 in
        let (token, feature) = (index / width, index % width % dHead)
        guard feature < rotary.width else { return x[0][index] }
        let (half, isFirst) = (rotary.width / 2, feature < rotary.width / 2)
        let angle = Double(positions[token]) * rotary.frequencies[feature % half]
        let (cosine, sine) = (encode(rotary.magnitude * cos(angle)), encode(rotary.magnitude * sin(angle)))
        let other = product(x[0][isFirst ? index + half : index - half], sine)
        return ring(product(x[0][index], cosine) + (isFirst ? -other : other))
      }
    case .patches, .features, .select(.word): preconditionFailure("these integers read tokens")
    case .select(.first):
      let width = x[0].count / tokenCount
      var (result, row) = ([Int128](), 0)
      for probe in probes {
        for _ in probe.tokens { result += x[0][row * width..<(row + 1) * width] }
        row += probe.tokens.count
      }
      return result
    }
  }
}
