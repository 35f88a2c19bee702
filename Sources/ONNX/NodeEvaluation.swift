import Formats
import Glibc
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
    case "Mul": try arithmetic({ $0 * $1 }, integers: { $0.multipliedReportingOverflow(by: $1).partialValue })
    case "Pow": try arithmetic(Glibc.pow, integers: nil)
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
    case "Pad": try pad()
    case "Unsqueeze": try unsqueeze()
    case "Transpose": try transpose()
    case "Concat": try concatenate()
    case "Softmax": try perRow("axis", softmax)
    case "ReduceMean": try reduced { $0.reduce(0, +) / Double($0.count) }
    case "ReduceSum": try reduced { $0.reduce(0, +) }
    case "ReduceSumSquare": try reduced { $0.reduce(0) { $0 + $1 * $1 } }
    case "LayerNormalization": try layerNorm()
    case "Identity": try tensor(0)
    case "CumSum": try cumulativeSum()
    case "Tanh": try elementwise { Glibc.tanh($0) }
    case "Erf": try elementwise { Glibc.erf($0) }
    case "Cos": try elementwise { Glibc.cos($0) }
    case "Sin": try elementwise { Glibc.sin($0) }
    case "Sqrt": try elementwise { $0.squareRoot() }
    case "Sigmoid": try elementwise { 1 / (1 + Glibc.exp(-$0)) }
    case "Relu": try elementwise { $0 < 0 ? 0 : $0 }
    case "LeakyRelu": try leakyReLU()
    default:
      throw Refusal(.unsupported, file: file, subject: node.name, "the operator \(node.operation) is not one of ours")
    }
  }

  // MARK: Operands

  func refusal(_ problem: String) -> Refusal {
    Refusal(.malformed, file: file, subject: node.name, "\(node.operation): \(problem)")
  }

  func operand(_ index: Int) throws(Refusal) -> Operand {
    guard index < operands.count else { throw refusal("expected an input \(index), found \(operands.count)") }
    return operands[index]
  }

  func tensor(_ index: Int) throws(Refusal) -> ONNXTensor {
    switch try operand(index) {
    case .tensor(let tensor): tensor
    case .weight(let value): ONNXTensor(value.shape, ParameterReader(value).values())
    }
  }

  func numbers(_ index: Int) throws(Refusal) -> [Double] {
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
    case .integer(ElementType.onnxIntegerCode):
      guard let truths = x.booleans else { throw refusal("expected truth values") }
      return ONNXTensor(x.shape, truths.map { $0 ? 1 : 0 })
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

  /// Of whole numbers, along the last axis of a matrix.
  private func cumulativeSum() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard x.shape.count == 2, try integer(1) == 1, let values = x.integers else {
      throw refusal("expected a matrix of integers, and its last axis")
    }
    let width = x.shape[1]
    var sums: [Int] = []
    for (index, value) in values.enumerated() { sums.append((index % width == 0 ? 0 : sums[index - 1]) + value) }
    return ONNXTensor(x.shape, sums)
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

  /// A row of zeros in front of each matrix.
  private func pad() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard operands.count == 2, try integers(1) == [0, 1, 0, 0, 0, 0], x.shape.count == 3 else {
      throw refusal("expected one row in front of the matrices of three axes, found \(x.shape)")
    }
    return try joined(
      ONNXTensor([x.shape[0], 1, x.shape[2]], [Double](repeating: 0, count: x.shape[0] * x.shape[2])), x, axis: 1)
  }

  private func transpose() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard case .integers(let order)? = node.attributes["perm"], order.sorted() == Array(x.shape.indices) else {
      throw refusal("attribute 'perm' does not fit \(x.shape)")
    }
    return x.transposed(order)
  }

  private func concatenate() throws(Refusal) -> ONNXTensor {
    guard operands.count >= 2 else { throw refusal("expected two inputs or more, found \(operands.count)") }
    var result = try tensor(0)
    let axis = try axis("axis", rank: result.shape.count, default: nil)
    for index in 1..<operands.count { result = try joined(result, tensor(index), axis: axis) }
    return result
  }

  private func joined(_ a: ONNXTensor, _ b: ONNXTensor, axis: Int) throws(Refusal) -> ONNXTensor {
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

  /// Rows, or elements of a vector, along the first axis; or one row of each matrix, along the second.
  private func gather() throws(Refusal) -> ONNXTensor {
    let source = try operand(0)
    if node.attributes["axis"] == .integer(1) { return try row(of: tensor(0), integer(1)) }
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

  private func row(of x: ONNXTensor, _ index: Int) throws(Refusal) -> ONNXTensor {
    guard x.shape.count == 3, 0 <= index, index < x.shape[1] else {
      throw refusal("row \(index) is in no matrix of \(x.shape)")
    }
    let (rows, width) = (x.shape[1], x.shape[2])
    let places = (0..<x.shape[0]).flatMap { matrix in
      (0..<width).map { (matrix * rows + index) * width + $0 }
    }
    return x.gathered(places, shape: [x.shape[0], width])
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
    let powers = row.map { Glibc.exp($0 - largest) }
    let total = powers.reduce(0, +)
    return powers.map { $0 / total }
  }

  /// One number for each row along the last axis.
  private func reduced(_ body: (_ row: ArraySlice<Double>) -> Double) throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let values = try numbers(0)
    var axes = node.attributes["axes"]
    if axes == nil { axes = .integers(try integers(1)) }
    guard axes == .integers([-1]), node.attributes["keepdims"] == .integer(1),
      let width = x.shape.last, width > 0
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
}
