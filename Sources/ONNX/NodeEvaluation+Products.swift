import Formats
import Networks

extension NodeEvaluation {
  /// A matrix for each index of the axes before the last two, which must be the same on both sides; or many rows
  /// through one weight.
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
    switch right {
    case .weight(let weight):
      let m = k == 0 ? 0 : values.count / k
      return ONNXTensor(a.shape.dropLast() + [n], multiply(values, rows: m, by: weight, isTransposed: false))
    case .tensor(let b):
      guard let other = b.numbers, a.shape.dropLast(2) == b.shape.dropLast(2) else {
        throw refusal("shapes \(a.shape) and \(b.shape) do not fit")
      }
      let m = a.shape[a.shape.count - 2]
      let count = a.shape.dropLast(2).reduce(1, *)
      var result = [Double](repeating: 0, count: count * m * n)
      unsafe result.withUnsafeMutableBufferPointer { c in
        unsafe values.withUnsafeBufferPointer { a in
          unsafe other.withUnsafeBufferPointer { b in
            guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
            for index in 0..<count {
              unsafe product(m, n, k, a + index * m * k, k, b + index * k * n, n, false, c + index * m * n, n)
            }
          }
        }
      }
      return ONNXTensor(a.shape.dropLast() + [n], result)
    }
  }

  /// A [m, k] times a weight stored as [n, k], plus a vector [n].
  func gemm() throws(Refusal) -> ONNXTensor {
    let a = try tensor(0)
    guard node.attributes == ["transB": .integer(1)], case .weight(let weight) = try operand(1), a.shape.count == 2,
      weight.shape.count == 2, a.shape[1] == weight.shape[1]
    else { throw refusal("expected a matrix times the transpose of a weight") }
    let n = weight.shape[0]
    let result = multiply(try numbers(0), rows: a.shape[0], by: weight, isTransposed: true)
    guard operands.count > 2 else { return ONNXTensor([a.shape[0], n], result) }
    let bias = try numbers(2)
    guard bias.count == n else { throw refusal("expected a bias of \(n), found \(bias.count)") }
    return ONNXTensor([a.shape[0], n], result.indices.map { result[$0] + bias[$0 % n] })
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
