import Formats
import Foundation
import Networks

/// Computes one node.
@safe struct NodeEvaluation {
  let node: ONNXGraph.Node
  let operands: [Operand]
  let file: String?
  let product: MatrixProduct

  func result() throws(Refusal) -> ONNXTensor {
    switch node.operation {
    case "Gather": try gather()
    case "MatMul": try matMul()
    case "Gemm": try gemm()
    case "Add": try arithmetic({ $0 + $1 }, integers: { $0.addingReportingOverflow($1).partialValue })
    case "Sub": try arithmetic({ $0 - $1 }, integers: { $0.subtractingReportingOverflow($1).partialValue })
    case "Mul": try arithmetic({ $0 * $1 }, integers: nil)
    case "Pow": try arithmetic(Foundation.pow, integers: nil)
    case "Div": try arithmetic({ $0 / $1 }, integers: nil)
    case "LessOrEqual": try comparison { $0 <= $1 }
    case "Equal": try comparison { $0 == $1 }
    case "And": try and()
    case "Where": try choose()
    case "Cast": try cast()
    case "Slice": try slice()
    case "Shape": ONNXTensor([try operand(0).shape.count], try operand(0).shape)
    case "Range": try range()
    case "Reshape": try reshape()
    case "Unsqueeze": try unsqueeze()
    case "Transpose": try transpose()
    case "Concat": try concatenate()
    case "Softmax": try perRow("axis", softmax)
    case "ReduceMean": try reduced { $0.reduce(0, +) / Double($0.count) }
    case "ReduceSum": try reduced { $0.reduce(0, +) }
    case "ReduceSumSquare": try reduced { $0.reduce(0) { $0 + $1 * $1 } }
    case "LayerNormalization": try layerNorm()
    case "Tanh": try elementwise { Foundation.tanh($0) }
    case "Erf": try elementwise { Foundation.erf($0) }
    case "Cos": try elementwise { Foundation.cos($0) }
    case "Sin": try elementwise { Foundation.sin($0) }
    case "Sqrt": try elementwise { $0.squareRoot() }
    case "Sigmoid": try elementwise { 1 / (1 + Foundation.exp(-$0)) }
    case "Relu": try elementwise { $0 < 0 ? 0 : $0 }
    case "LeakyRelu": try leakyReLU()
    default:
      throw Refusal(.unsupported, file: file, subject: node.name, "the operator \(node.operation) is not one of ours")
    }
  }

  // MARK: Operands

  private func refusal(_ problem: String) -> Refusal {
    Refusal(.malformed, file: file, subject: node.name, "\(node.operation): \(problem)")
  }

  private func operand(_ index: Int) throws(Refusal) -> Operand {
    guard index < operands.count else { throw refusal("expected an input \(index), found \(operands.count)") }
    return operands[index]
  }

  private func tensor(_ index: Int) throws(Refusal) -> ONNXTensor {
    switch try operand(index) {
    case .tensor(let tensor): tensor
    case .weight(let value): ONNXTensor(value.shape, ParameterReader(value).values())
    }
  }

  private func numbers(_ index: Int) throws(Refusal) -> [Double] {
    guard let values = try tensor(index).numbers else { throw refusal("input \(index): expected numbers") }
    return values
  }

  private func integers(_ index: Int) throws(Refusal) -> [Int] {
    guard let values = try tensor(index).integers else { throw refusal("input \(index): expected integers") }
    return values
  }

  private func integer(_ index: Int) throws(Refusal) -> Int {
    let values = try integers(index)
    guard values.count == 1 else { throw refusal("input \(index): expected one integer, found \(values.count)") }
    return values[0]
  }

  /// An attribute that stands for an axis, of a tensor with `rank` axes.
  private func axis(_ name: String, rank: Int, default usual: Int?) throws(Refusal) -> Int {
    var axis = usual
    if let attribute = node.attributes[name] {
      guard case .integer(let value) = attribute else { throw refusal("attribute '\(name)': expected an integer") }
      axis = value
    }
    guard let axis, axis >= -rank, axis < rank else {
      throw refusal("attribute '\(name)': expected an axis of \(rank), found \(axis.map { "\($0)" } ?? "none")")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// Two tensors stretched to one shape.
  private func stretched(_ a: ONNXTensor, _ b: ONNXTensor) throws(Refusal) -> (ONNXTensor, ONNXTensor, [Int]) {
    guard let shape = ONNXTensor.broadcast(a.shape, b.shape) else {
      throw refusal("shapes \(a.shape) and \(b.shape) do not fit")
    }
    return (a.stretched(to: shape), b.stretched(to: shape), shape)
  }

  // MARK: Element by element

  private func elementwise(_ body: (Double) -> Double) throws(Refusal) -> ONNXTensor {
    ONNXTensor(try tensor(0).shape, try numbers(0).map(body))
  }

  private func arithmetic(
    _ body: (Double, Double) -> Double, integers: ((Int, Int) -> Int)?
  ) throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(tensor(0), tensor(1))
    if let x = a.numbers, let y = b.numbers { return ONNXTensor(shape, zip(x, y).map { body($0, $1) }) }
    if let integers, let x = a.integers, let y = b.integers {
      return ONNXTensor(shape, zip(x, y).map { integers($0, $1) })
    }
    throw refusal("the types of its inputs do not fit")
  }

  private func comparison(_ body: (Int, Int) -> Bool) throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(tensor(0), tensor(1))
    guard let x = a.integers, let y = b.integers else { throw refusal("expected integers") }
    return ONNXTensor(shape, zip(x, y).map { body($0, $1) })
  }

  private func and() throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(tensor(0), tensor(1))
    guard let x = a.booleans, let y = b.booleans else { throw refusal("expected truth values") }
    return ONNXTensor(shape, zip(x, y).map { $0 && $1 })
  }

  private func choose() throws(Refusal) -> ONNXTensor {
    let (a, b, inner) = try stretched(tensor(1), tensor(2))
    let (condition, first, shape) = try stretched(tensor(0), a)
    guard let choice = condition.booleans, let x = first.numbers, ONNXTensor.broadcast(shape, inner) == shape,
      let y = b.stretched(to: shape).numbers
    else { throw refusal("expected a condition and two tensors of numbers") }
    return ONNXTensor(shape, choice.indices.map { choice[$0] ? x[$0] : y[$0] })
  }

  /// To truth values, or to numbers: those are double precision here, whatever the graph says.
  private func cast() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    switch node.attributes["to"] {
    case .integer(ElementType.onnxBooleanCode): return ONNXTensor(x.shape, try integers(0).map { $0 != 0 })
    case .integer(ElementType.onnxFloatCode), .integer(ElementType.onnxHalfCode):
      guard let integers = x.integers else { return ONNXTensor(x.shape, try numbers(0)) }
      return ONNXTensor(x.shape, integers.map { Double($0) })
    default: throw refusal("expected a cast to truth values or numbers")
    }
  }

  private func leakyReLU() throws(Refusal) -> ONNXTensor {
    guard case .number(let slope)? = node.attributes["alpha"] else { throw refusal("attribute 'alpha' is missing") }
    return try elementwise { $0 < 0 ? $0 * Double(slope) : $0 }
  }

  // MARK: Shapes

  private func range() throws(Refusal) -> ONNXTensor {
    let (start, end, step) = (try integer(0), try integer(1), try integer(2))
    guard step > 0, start >= 0, end <= 1 << 20 else {
      throw refusal("from \(start) to \(end) by \(step) is no range of tokens")
    }
    let values = Array(stride(from: start, to: end, by: step))
    return ONNXTensor([values.count], values)
  }

  private func reshape() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    var shape = try integers(1)
    var free: Int?
    for axis in shape.indices {
      if shape[axis] == 0, axis < x.shape.count { shape[axis] = x.shape[axis] }
      if shape[axis] == -1, free == nil {
        free = axis
        shape[axis] = 1
      }
    }
    guard let count = TensorInfo.checkedElementCount(shape) else { throw refusal("expected a shape, found \(shape)") }
    if let free, count > 0 { shape[free] = x.elementCount / count }
    guard TensorInfo.checkedElementCount(shape) == x.elementCount else {
      throw refusal("\(x.shape) does not fit \(shape)")
    }
    return x.reshaped(shape)
  }

  private func unsqueeze() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    var shape = x.shape
    for axis in try integers(1).sorted() {
      guard axis >= 0, axis <= shape.count else { throw refusal("axis \(axis) does not fit \(x.shape)") }
      shape.insert(1, at: axis)
    }
    return x.reshaped(shape)
  }

  /// Part of the last axis.
  private func slice() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let values = try numbers(0)
    let (start, end) = (try integer(1), try integer(2))
    guard try integer(3) == x.shape.count - 1, let width = x.shape.last, 0 <= start, start <= end, end <= width else {
      throw refusal("from \(start) to \(end) is no part of the last axis of \(x.shape)")
    }
    let rows = stride(from: 0, to: values.count, by: max(1, width))
    return ONNXTensor(x.shape.dropLast() + [end - start], rows.flatMap { values[$0 + start..<$0 + end] })
  }

  private func transpose() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard case .integers(let order)? = node.attributes["perm"], order.sorted() == Array(x.shape.indices) else {
      throw refusal("attribute 'perm' does not fit \(x.shape)")
    }
    return x.transposed(order)
  }

  private func concatenate() throws(Refusal) -> ONNXTensor {
    let (a, b) = (try tensor(0), try tensor(1))
    guard operands.count == 2 else { throw refusal("expected two inputs, found \(operands.count)") }
    let axis = try axis("axis", rank: a.shape.count, default: nil)
    var rest = b.shape
    guard rest.count == a.shape.count else { throw refusal("shapes \(a.shape) and \(b.shape) do not fit") }
    rest[axis] = a.shape[axis]
    guard rest == a.shape else { throw refusal("shapes \(a.shape) and \(b.shape) do not fit") }
    var shape = a.shape
    shape[axis] += b.shape[axis]
    let outer = a.shape[..<axis].reduce(1, *)
    let (left, right) = (a.shape[axis...].reduce(1, *), b.shape[axis...].reduce(1, *))
    func joined<Element>(_ x: [Element], _ y: [Element]) -> [Element] {
      var result: [Element] = []
      result.reserveCapacity(x.count + y.count)
      for index in 0..<outer {
        result += x[index * left..<(index + 1) * left]
        result += y[index * right..<(index + 1) * right]
      }
      return result
    }
    switch (a.content, b.content) {
    case (.numbers(let x), .numbers(let y)): return ONNXTensor(shape, joined(x, y))
    case (.integers(let x), .integers(let y)): return ONNXTensor(shape, joined(x, y))
    default: throw refusal("the types of its inputs do not fit")
    }
  }

  /// Rows, or elements of a vector, along the first axis.
  private func gather() throws(Refusal) -> ONNXTensor {
    let source = try operand(0)
    guard let count = source.shape.first else { throw refusal("nothing to gather from") }
    let indices = try tensor(1)
    guard let rows = indices.integers else { throw refusal("input 1: expected integers") }
    for row in rows where row < 0 || row >= count { throw refusal("index \(row) is not below \(count)") }
    let width = source.shape.dropFirst().reduce(1, *)
    let shape = indices.shape + source.shape.dropFirst()
    switch source {
    case .tensor(let tensor):
      return tensor.gathered(rows.flatMap { row in (0..<width).map { row * width + $0 } }, shape: shape)
    case .weight(let value):
      let reader = ParameterReader(value)
      if value.shape.count == 1 {
        let all = reader.values()
        return ONNXTensor(shape, rows.map { all[$0] })
      }
      return ONNXTensor(shape, rows.flatMap { reader.values(rows: $0..<$0 + 1, columns: 0..<width) })
    }
  }

  // MARK: Rows

  /// Each row along the last axis by itself.
  private func perRow(
    _ axisName: String, _ body: (_ row: ArraySlice<Double>) -> [Double]
  ) throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let values = try numbers(0)
    guard try axis(axisName, rank: x.shape.count, default: -1) == x.shape.count - 1, let width = x.shape.last, width > 0
    else {
      throw refusal("expected the last axis of \(x.shape), which may not be empty")
    }
    let result = stride(from: 0, to: values.count, by: width).flatMap { body(values[$0..<$0 + width]) }
    return ONNXTensor(x.shape, result)
  }

  private func softmax(_ row: ArraySlice<Double>) -> [Double] {
    let largest = row.max() ?? 0
    let powers = row.map { Foundation.exp($0 - largest) }
    let total = powers.reduce(0, +)
    return powers.map { $0 / total }
  }

  /// One number for each row along the last axis.
  private func reduced(_ body: (_ row: ArraySlice<Double>) -> Double) throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let values = try numbers(0)
    guard try integers(1) == [-1], node.attributes["keepdims"] == .integer(1), let width = x.shape.last, width > 0
    else {
      throw refusal("expected the last axis, kept")
    }
    let results = stride(from: 0, to: values.count, by: width).map { body(values[$0..<$0 + width]) }
    return ONNXTensor(x.shape.dropLast() + [1], results)
  }

  private func layerNorm() throws(Refusal) -> ONNXTensor {
    guard case .number(let epsilon)? = node.attributes["epsilon"] else {
      throw refusal("attribute 'epsilon' is missing")
    }
    let width = try tensor(0).shape.last ?? 0
    let gain = try numbers(1)
    let bias = operands.count > 2 ? try numbers(2) : [Double](repeating: 0, count: width)
    guard gain.count == width, bias.count == width else { throw refusal("gain and bias do not have \(width) elements") }
    return try perRow("axis") { row in
      let mean = row.reduce(0, +) / Double(width)
      let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
      let factor = 1 / (variance + Double(epsilon)).squareRoot()
      return zip(row, zip(gain, bias)).map { ($0 - mean) * factor * $1.0 + $1.1 }
    }
  }

  // MARK: Products

  /// A matrix for each index of the axes before the last two, which must be the same on both sides; or many rows
  /// through one weight.
  private func matMul() throws(Refusal) -> ONNXTensor {
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
  private func gemm() throws(Refusal) -> ONNXTensor {
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
