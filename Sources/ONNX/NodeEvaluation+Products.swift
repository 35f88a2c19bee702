import NormFoldFormats
import NormFoldNetworks

extension NodeEvaluation {
  /// A matrix for each index of the axes before the last two; or many rows through one weight.
  func matMul() throws(Refusal) -> ONNXTensor {
    let a = try tensor(0)
    let values = try numbers(0)
    let right = try operand(1)
    guard a.shape.count >= 2, right.shape.count >= 2, a.shape[a.shape.count - 1] == right.shape[right.shape.count - 2]
    else {
      throw refusal("shapes \(a.shape) and \(right.shape) do not fit")
    }
    let k = a.shape[a.shape.count - 1]
    let n = right.shape[right.shape.count - 1]
    if case .weight(let weight) = right {
      let m = k == 0 ? 0 : values.count / k
      return ONNXTensor(a.shape.dropLast() + [n], multiply(values, rows: m, by: weight, isTransposed: false))
    }
    let b = try tensor(1)
    guard let outer = ONNXTensor.broadcast(a.shape.dropLast(2), b.shape.dropLast(2)),
      ONNXTensor.isPossible(outer + a.shape.suffix(2)), ONNXTensor.isPossible(outer + b.shape.suffix(2)),
      ONNXTensor.isPossible(outer + [a.shape[a.shape.count - 2], n]),
      let left = a.stretched(to: outer + a.shape.suffix(2)).numbers,
      let other = b.stretched(to: outer + b.shape.suffix(2)).numbers
    else {
      throw refusal("shapes \(a.shape) and \(b.shape) do not fit")
    }
    let m = a.shape[a.shape.count - 2]
    let count = outer.reduce(1, *)
    var result = [Double](repeating: 0, count: count * m * n)
    unsafe result.withUnsafeMutableBufferPointer { c in
      unsafe left.withUnsafeBufferPointer { a in
        unsafe other.withUnsafeBufferPointer { b in
          guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
          for index in 0..<count {
            unsafe product(m, n, k, a + index * m * k, k, b + index * k * n, n, false, c + index * m * n, n)
          }
        }
      }
    }
    return ONNXTensor(outer + [m, n], result)
  }

  /// A [m, k] times B [k, n], which is stored as [n, k] if `transB` says so, plus what stretches to [m, n].
  func gemm() throws(Refusal) -> ONNXTensor {
    let a = try tensor(0)
    let weight = try operand(1)
    guard node.attributes["transA"] ?? .integer(0) == .integer(0), a.shape.count == 2, weight.shape.count == 2 else {
      throw refusal("expected two matrices, the first one as it lies")
    }
    let isTransposed = try isSecondTransposed()
    let (k, n) = isTransposed ? (weight.shape[1], weight.shape[0]) : (weight.shape[0], weight.shape[1])
    guard a.shape[1] == k else { throw refusal("shapes \(a.shape) and \(weight.shape) do not fit") }
    var result: [Double]
    if case .weight(let weight) = weight {
      result = multiply(try numbers(0), rows: a.shape[0], by: weight, isTransposed: isTransposed)
    } else {
      let (left, right) = (try numbers(0), try numbers(1))
      result = [Double](repeating: 0, count: a.shape[0] * n)
      unsafe result.withUnsafeMutableBufferPointer { c in
        unsafe left.withUnsafeBufferPointer { a in
          unsafe right.withUnsafeBufferPointer { b in
            guard let c = c.baseAddress, let left = a.baseAddress, let b = b.baseAddress else { return }
            unsafe product(a.count / max(1, k), n, k, left, k, b, isTransposed ? k : n, isTransposed, c, n)
          }
        }
      }
    }
    return try added(to: ONNXTensor([a.shape[0], n], result))
  }

  func isSecondTransposed() throws(Refusal) -> Bool {
    switch node.attributes["transB"] {
    case nil, .integer(0)?: return false
    case .integer(1)?: return true
    default: throw refusal("attribute 'transB': expected 0 or 1")
    }
  }

  /// Returns a product times the attribute `alpha` of the node, plus the third input, if there is one, times the
  /// attribute `beta`. A missing attribute counts as 1.
  func added(to product: ONNXTensor) throws(Refusal) -> ONNXTensor {
    func factor(_ name: String) throws(Refusal) -> Double {
      switch node.attributes[name] {
      case nil: return 1
      case .number(let value)?: return Double(value)
      default: throw refusal("attribute '\(name)': expected a number")
      }
    }
    let (alpha, beta) = (try factor("alpha"), try factor("beta"))
    let values = product.numbers ?? []
    guard let bias = try optionalTensor(2) else { return ONNXTensor(product.shape, values.map { alpha * $0 }) }
    guard ONNXTensor.broadcast(product.shape, bias.shape) == product.shape,
      let added = bias.stretched(to: product.shape).numbers
    else { throw refusal("a bias of \(bias.shape) does not fit \(product.shape)") }
    return ONNXTensor(product.shape, zip(values, added).map { alpha * $0 + beta * $1 })
  }

  /// Reads the weight in parts, each of which makes some columns of the result: it may be larger than everything else
  /// together.
  private func multiply(_ a: [Double], rows m: Int, by weight: Parameter, isTransposed: Bool) -> [Double] {
    let k = isTransposed ? weight.columnCount : weight.rowCount
    let n = isTransposed ? weight.rowCount : weight.columnCount
    let reader = ParameterReader(weight)
    // Stored rows lie far apart, so that a part of one is to be as long as a few pages; a block of them stays in cache.
    let widest = isTransposed ? max(1, ParameterReader.blockElementCount / max(1, k)) : 2_048
    let partCount = max(1, (n + widest - 1) / widest)
    let width = max(1, (n + partCount - 1) / partCount)
    let depth = isTransposed ? max(1, k) : ParameterReader.blockElementCount / max(1, width)
    let block = UnsafeMutableBufferPointer<Double>.allocate(capacity: depth * width)
    defer { unsafe block.deallocate() }
    var result = [Double](repeating: 0, count: m * n)
    unsafe result.withUnsafeMutableBufferPointer { c in
      unsafe a.withUnsafeBufferPointer { a in
        guard let a = a.baseAddress, let b = block.baseAddress, let c = c.baseAddress else { return }
        for start in stride(from: 0, to: n, by: width) {
          let columns = start..<min(start + width, n)
          for first in stride(from: 0, to: k, by: depth) {
            let inner = first..<min(first + depth, k)
            unsafe reader.read(
              rows: isTransposed ? columns : inner, columns: isTransposed ? inner : columns, into: block)
            unsafe product(
              m, columns.count, inner.count, a + first, k, b, isTransposed ? inner.count : columns.count,
              isTransposed, c + columns.lowerBound, n)
          }
        }
      }
    }
    return result
  }
}
