import Glibc
import NormFoldFormats
import NormFoldNetworks

/// Computes one node, as the specification of ONNX defines its operator, in double precision.
@safe struct NodeEvaluation {
  let node: ONNXGraph.Node
  let operands: [Operand]
  let file: String?
  let product: MatrixProduct

  /// The values of the node's outputs, in their order.
  func results() throws(Refusal) -> [ONNXTensor] {
    node.operation == "Split" ? try split() : [try result()]
  }

  private func result() throws(Refusal) -> ONNXTensor {
    if node.domain == ONNXGraph.ownDomain, node.operation == ONNXGraph.patches { return try patches() }
    guard node.domain.isEmpty || node.domain == "ai.onnx" else {
      throw refusal(of: "\(node.domain).\(node.operation)")
    }
    return switch node.operation {
    case "Gather": try gather()
    case "MatMul": try matMul()
    case "Gemm": try gemm()
    case "Add": try arithmetic({ $0 + $1 }, integers: { $0.addingReportingOverflow($1).partialValue })
    case "Sub": try arithmetic({ $0 - $1 }, integers: { $0.subtractingReportingOverflow($1).partialValue })
    case "Mul": try arithmetic({ $0 * $1 }, integers: { $0.multipliedReportingOverflow(by: $1).partialValue })
    case "Pow": try power()
    case "Div":
      try arithmetic({ $0 / $1 }, integers: { $1 == 0 ? 0 : $0.dividedReportingOverflow(by: $1).partialValue })
    case "Max": try folded({ Swift.max($0, $1) }, integers: { Swift.max($0, $1) })
    case "Min": try folded({ Swift.min($0, $1) }, integers: { Swift.min($0, $1) })
    case "LessOrEqual": try comparison({ $0 <= $1 }, { $0 <= $1 })
    case "Less": try comparison({ $0 < $1 }, { $0 < $1 })
    case "GreaterOrEqual": try comparison({ $0 >= $1 }, { $0 >= $1 })
    case "Greater": try comparison({ $0 > $1 }, { $0 > $1 })
    case "Equal": try comparison({ $0 == $1 }, { $0 == $1 })
    case "And": try logic { $0 && $1 }
    case "Or": try logic { $0 || $1 }
    case "Not": try not()
    case "Where": try choose()
    case "Cast": try cast()
    case "Slice": try slice()
    case "Shape": try shape()
    case "Range": try range()
    case "Reshape": try reshape()
    case "Flatten": try flatten()
    case "Pad": try pad()
    case "Unsqueeze": try unsqueeze()
    case "Squeeze": try squeeze()
    case "Expand": try expand()
    case "Tile": try tile()
    case "ConstantOfShape": try constantOfShape()
    case "Trilu": try triangle()
    case "Transpose": try transpose()
    case "Concat": try concatenate()
    case "Softmax": try perRow("axis", softmax)
    case "ReduceMean": try reduced { $0.reduce(0, +) / Double($0.count) }
    case "ReduceSum": try reduced { $0.reduce(0, +) }
    case "ReduceSumSquare": try reduced { $0.reduce(0) { $0 + $1 * $1 } }
    case "ReduceL2": try reduced { $0.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    case "LayerNormalization": try layerNorm()
    case "Identity", "Dropout": try tensor(0)
    case "CumSum": try cumulativeSum()
    case "Tanh": try elementwise { Glibc.tanh($0) }
    case "Erf": try elementwise { Glibc.erf($0) }
    case "Exp": try elementwise { Glibc.exp($0) }
    case "Log": try elementwise { Glibc.log($0) }
    case "Cos": try elementwise { Glibc.cos($0) }
    case "Sin": try elementwise { Glibc.sin($0) }
    case "Sqrt": try elementwise { $0.squareRoot() }
    case "Reciprocal": try elementwise { 1 / $0 }
    case "Sigmoid": try elementwise { 1 / (1 + Glibc.exp(-$0)) }
    case "Gelu": try gelu()
    case "Relu": try elementwise { $0 < 0 ? 0 : $0 }
    case "LeakyRelu": try leakyReLU()
    case "Clip": try clip()
    case "Neg": try signed({ -$0 }, { 0 &- $0 })
    case "Abs": try signed({ Swift.abs($0) }, { $0 < 0 ? 0 &- $0 : $0 })
    case "GatherND": try gatherSlices()
    case "IsNaN": ONNXTensor(try tensor(0).shape, try numbers(0).map(\.isNaN))
    default: throw refusal(of: node.operation)
    }
  }

  // MARK: Operands

  private func refusal(of operation: String) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: node.name,
      "the operator \(operation) is none of those that can be computed here",
      advice: "export the model with another operator set, without fusing operators")
  }

  func refusal(_ problem: String) -> Refusal {
    Refusal(.malformed, file: file, subject: node.name, "\(node.operation): \(problem)")
  }

  func operand(_ index: Int) throws(Refusal) -> Operand {
    guard index < operands.count else { throw refusal("expected an input \(index), found \(operands.count)") }
    return operands[index]
  }

  func tensor(_ index: Int) throws(Refusal) -> ONNXTensor {
    guard let tensor = try operand(index).tensor else { throw refusal("input \(index) is left out") }
    return tensor
  }

  func numbers(_ index: Int) throws(Refusal) -> [Double] {
    guard let values = try tensor(index).numbers else { throw refusal("input \(index): expected numbers") }
    return values
  }

  /// Two tensors stretched to one shape.
  private func stretched(_ a: ONNXTensor, _ b: ONNXTensor) throws(Refusal) -> (ONNXTensor, ONNXTensor, [Int]) {
    guard let shape = ONNXTensor.broadcast(a.shape, b.shape), ONNXTensor.isPossible(shape) else {
      throw refusal("shapes \(a.shape) and \(b.shape) do not fit")
    }
    return (a.stretched(to: shape), b.stretched(to: shape), shape)
  }

  // MARK: Element by element

  private func elementwise(_ body: (Double) -> Double) throws(Refusal) -> ONNXTensor {
    ONNXTensor(try tensor(0).shape, try numbers(0).map(body))
  }

  private func signed(_ body: (Double) -> Double, _ integers: (Int) -> Int) throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard let values = x.integers else { return try elementwise(body) }
    return ONNXTensor(x.shape, values.map(integers))
  }

  private func arithmetic(
    _ body: (Double, Double) -> Double, integers: ((Int, Int) -> Int)?
  ) throws(Refusal) -> ONNXTensor {
    try combined(tensor(0), tensor(1), body, integers: integers)
  }

  private func combined(
    _ left: ONNXTensor, _ right: ONNXTensor, _ body: (Double, Double) -> Double, integers: ((Int, Int) -> Int)?
  ) throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(left, right)
    if let x = a.numbers, let y = b.numbers { return ONNXTensor(shape, zip(x, y).map { body($0, $1) }) }
    if let integers, let x = a.integers, let y = b.integers {
      return ONNXTensor(shape, zip(x, y).map { integers($0, $1) })
    }
    throw refusal("the types of its inputs do not fit")
  }

  /// Any number of operands, the result of two with the next.
  private func folded(
    _ body: (Double, Double) -> Double, integers: @escaping (Int, Int) -> Int
  ) throws(Refusal) -> ONNXTensor {
    var result = try tensor(0)
    for index in operands.indices.dropFirst() {
      result = try combined(result, tensor(index), body, integers: integers)
    }
    return result
  }

  /// The exponent may be of another type than the base.
  private func power() throws(Refusal) -> ONNXTensor {
    let (base, exponent) = (try tensor(0), try tensor(1))
    return try combined(base.converted, exponent.converted, Glibc.pow, integers: nil)
  }

  private func comparison(
    _ body: (Int, Int) -> Bool, _ numbers: (Double, Double) -> Bool
  ) throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(tensor(0), tensor(1))
    if let x = a.integers, let y = b.integers { return ONNXTensor(shape, zip(x, y).map { body($0, $1) }) }
    if let x = a.numbers, let y = b.numbers { return ONNXTensor(shape, zip(x, y).map { numbers($0, $1) }) }
    if let x = a.booleans, let y = b.booleans, node.operation == "Equal" {
      return ONNXTensor(shape, zip(x, y).map { $0 == $1 })
    }
    throw refusal("the types of its inputs do not fit")
  }

  private func logic(_ body: (Bool, Bool) -> Bool) throws(Refusal) -> ONNXTensor {
    let (a, b, shape) = try stretched(tensor(0), tensor(1))
    guard let x = a.booleans, let y = b.booleans else { throw refusal("expected truth values") }
    return ONNXTensor(shape, zip(x, y).map { body($0, $1) })
  }

  private func not() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard let values = x.booleans else { throw refusal("expected truth values") }
    return ONNXTensor(x.shape, values.map { !$0 })
  }

  private func choose() throws(Refusal) -> ONNXTensor {
    let (a, b, inner) = try stretched(tensor(1), tensor(2))
    let condition = try tensor(0)
    guard let shape = ONNXTensor.broadcast(condition.shape, inner), ONNXTensor.isPossible(shape) else {
      throw refusal("shapes \(condition.shape) and \(inner) do not fit")
    }
    let choice = condition.stretched(to: shape)
    guard choice.booleans != nil, a.kind == b.kind else {
      throw refusal("expected a condition and two tensors of one type")
    }
    return choice.choosing(a.stretched(to: shape), b.stretched(to: shape))
  }

  /// Numbers are double precision here, whatever the graph says.
  private func cast() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard case .integer(let code)? = node.attributes["to"] else { throw refusal("attribute 'to': expected an integer") }
    guard let type = ElementType(onnxCode: Int32(truncatingIfNeeded: code)) else {
      throw refusal("a cast to type \(code) is none of those that can be computed here")
    }
    switch type {
    case .bool: return ONNXTensor(x.shape, x.converted.numbers?.map { $0 != 0 } ?? [])
    case .i64, .i32:
      if x.integers != nil { return x }
      // Towards zero; what no integer holds is undefined there, and zero here.
      return ONNXTensor(x.shape, x.converted.numbers?.map { Int(exactly: $0.rounded(.towardZero)) ?? 0 } ?? [])
    default: return x.converted
    }
  }

  private func leakyReLU() throws(Refusal) -> ONNXTensor {
    guard case .number(let slope)? = node.attributes["alpha"] else { throw refusal("attribute 'alpha' is missing") }
    return try elementwise { $0 < 0 ? $0 * Double(slope) : $0 }
  }

  private func gelu() throws(Refusal) -> ONNXTensor {
    switch node.attributes["approximate"] {
    case nil, .text("none")?: return try elementwise { 0.5 * $0 * (1 + Glibc.erf($0 / 2.0.squareRoot())) }
    case .text("tanh")?:
      return try elementwise {
        0.5 * $0 * (1 + Glibc.tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0)))
      }
    default: throw refusal("attribute 'approximate': expected none or tanh")
    }
  }

  private func clip() throws(Refusal) -> ONNXTensor {
    let (low, high) = (try optionalTensor(1), try optionalTensor(2))
    var result = try tensor(0)
    if let low { result = try combined(result, low, { Swift.max($0, $1) }, integers: { Swift.max($0, $1) }) }
    if let high { result = try combined(result, high, { Swift.min($0, $1) }, integers: { Swift.min($0, $1) }) }
    return result
  }

  // MARK: Shapes

  private func shape() throws(Refusal) -> ONNXTensor {
    let shape = try operand(0).shape
    func bound(_ name: String, _ usual: Int) -> Int {
      guard case .integer(let value)? = node.attributes[name] else { return usual }
      return min(max(0, value < 0 ? value + shape.count : value), shape.count)
    }
    let (start, end) = (bound("start", 0), bound("end", shape.count))
    let part = start < end ? Array(shape[start..<end]) : []
    return ONNXTensor([part.count], part)
  }

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

  private func transpose() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    var order = Array(x.shape.indices.reversed())
    if case .integers(let found)? = node.attributes["perm"] { order = found }
    guard order.sorted() == Array(x.shape.indices) else { throw refusal("attribute 'perm' does not fit \(x.shape)") }
    return x.transposed(order)
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

  private func layerNorm() throws(Refusal) -> ONNXTensor {
    var epsilon: Float = 1e-5
    if case .number(let found)? = node.attributes["epsilon"] { epsilon = found }
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
