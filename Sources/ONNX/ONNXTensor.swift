import NormFoldFormats

/// A value while a graph is evaluated: row-major.
package struct ONNXTensor: Equatable, Sendable {
  package enum Content: Equatable, Sendable {
    case numbers([Double])
    case integers([Int])
    case booleans([Bool])
  }

  package let shape: [Int]
  package let content: Content

  /// - Precondition: the content has as many elements as the shape says.
  private init(_ shape: [Int], _ content: Content, count: Int) {
    precondition(shape.reduce(1, *) == count)
    self.shape = shape
    self.content = content
  }

  package init(_ shape: [Int], _ values: [Double]) { self.init(shape, .numbers(values), count: values.count) }
  package init(_ shape: [Int], _ values: [Int]) { self.init(shape, .integers(values), count: values.count) }
  package init(_ shape: [Int], _ values: [Bool]) { self.init(shape, .booleans(values), count: values.count) }

  var elementCount: Int { shape.reduce(1, *) }

  enum Kind { case numbers, integers, booleans }
  var kind: Kind {
    switch content {
    case .numbers: .numbers
    case .integers: .integers
    case .booleans: .booleans
    }
  }

  /// Type and shape, for messages.
  var summary: String { "\(kind) of shape \(shape)" }

  /// The same values as numbers.
  var converted: ONNXTensor {
    switch content {
    case .numbers: self
    case .integers(let values): ONNXTensor(shape, values.map { Double($0) })
    case .booleans(let values): ONNXTensor(shape, values.map { $0 ? 1.0 : 0 })
    }
  }

  /// A tensor of this type that is `value` everywhere.
  func filled(_ value: Int, shape: [Int]) -> ONNXTensor {
    let count = shape.reduce(1, *)
    return switch content {
    case .numbers: ONNXTensor(shape, [Double](repeating: Double(value), count: count))
    case .integers: ONNXTensor(shape, [Int](repeating: value, count: count))
    case .booleans: ONNXTensor(shape, [Bool](repeating: value != 0, count: count))
    }
  }
  package var numbers: [Double]? { if case .numbers(let values) = content { values } else { nil } }
  package var integers: [Int]? { if case .integers(let values) = content { values } else { nil } }
  package var booleans: [Bool]? { if case .booleans(let values) = content { values } else { nil } }

  /// The same elements under another shape.
  func reshaped(_ shape: [Int]) -> ONNXTensor { ONNXTensor(shape, content, count: elementCount) }

  /// The elements at some indices along each axis.
  /// - Precondition: the indices lie within the axes.
  func selected(_ indices: [[Int]]) -> ONNXTensor {
    var offsets = [0]
    for (axis, extent) in shape.enumerated() {
      offsets = offsets.flatMap { offset in indices[axis].map { offset * extent + $0 } }
    }
    return gathered(offsets, shape: indices.map(\.count))
  }

  /// Returns the elements of one tensor where the truth values of this one hold, and those of another elsewhere; both
  /// have this shape and one type.
  func choosing(_ first: ONNXTensor, _ second: ONNXTensor) -> ONNXTensor {
    guard let choice = booleans else { return second }
    func chosen<Element>(_ x: [Element], _ y: [Element]) -> [Element] {
      choice.indices.map { choice[$0] ? x[$0] : y[$0] }
    }
    switch (first.content, second.content) {
    case (.numbers(let x), .numbers(let y)): return ONNXTensor(shape, chosen(x, y))
    case (.integers(let x), .integers(let y)): return ONNXTensor(shape, chosen(x, y))
    case (.booleans(let x), .booleans(let y)): return ONNXTensor(shape, chosen(x, y))
    default: return second
    }
  }

  /// Another tensor behind this one along an axis; nil where the two do not fit.
  func appending(_ other: ONNXTensor, axis: Int) -> ONNXTensor? {
    var rest = other.shape
    guard rest.count == shape.count, axis < rest.count else { return nil }
    rest[axis] = shape[axis]
    guard rest == shape else { return nil }
    var joinedShape = shape
    joinedShape[axis] += other.shape[axis]
    let outer = shape[..<axis].reduce(1, *)
    let (left, right) = (shape[axis...].reduce(1, *), other.shape[axis...].reduce(1, *))
    func joined<Element>(_ x: [Element], _ y: [Element]) -> [Element] {
      var result: [Element] = []
      result.reserveCapacity(x.count + y.count)
      for index in 0..<outer {
        result += x[index * left..<(index + 1) * left]
        result += y[index * right..<(index + 1) * right]
      }
      return result
    }
    switch (content, other.content) {
    case (.numbers(let x), .numbers(let y)): return ONNXTensor(joinedShape, joined(x, y))
    case (.integers(let x), .integers(let y)): return ONNXTensor(joinedShape, joined(x, y))
    case (.booleans(let x), .booleans(let y)): return ONNXTensor(joinedShape, joined(x, y))
    default: return nil
    }
  }

  /// Element i of the result is element `order[i]` of this tensor.
  func gathered(_ order: [Int], shape: [Int]) -> ONNXTensor {
    switch content {
    case .numbers(let values): ONNXTensor(shape, order.map { values[$0] })
    case .integers(let values): ONNXTensor(shape, order.map { values[$0] })
    case .booleans(let values): ONNXTensor(shape, order.map { values[$0] })
    }
  }

  /// The shape that two shapes are both stretched to, aligned at their last axes; nil where they do not fit.
  static func broadcast(_ a: [Int], _ b: [Int]) -> [Int]? {
    let rank = max(a.count, b.count)
    let left = Array(repeating: 1, count: rank - a.count) + a
    let right = Array(repeating: 1, count: rank - b.count) + b
    var shape: [Int] = []
    for (x, y) in zip(left, right) {
      guard x == y || x == 1 || y == 1 else { return nil }
      shape.append(x == 1 ? y : x)
    }
    return shape
  }

  /// The elements that a value may have: many more than the scores of attention over a whole context.
  static let elementLimit = 1 << 25

  /// Returns whether a shape is one that a value may have.
  static func isPossible(_ shape: [Int]) -> Bool {
    TensorInfo.checkedElementCount(shape).map { $0 <= elementLimit } ?? false
  }

  /// Stretched to `shape`.
  /// - Precondition: ``broadcast(_:_:)`` gave it.
  func stretched(to shape: [Int]) -> ONNXTensor {
    if self.shape == shape { return self }
    let own = Array(repeating: 1, count: shape.count - self.shape.count) + self.shape
    if case .numbers(let values) = content, let first = own.firstIndex(where: { $0 != 1 }) ?? own.indices.last,
      Array(own[first...]) == Array(shape[first...])
    {
      // A vector along the last axes, as biases are: the whole of it again and again.
      var repeated: [Double] = []
      repeated.reserveCapacity(shape.reduce(1, *))
      for _ in 0..<shape[..<first].reduce(1, *) { repeated += values }
      return ONNXTensor(shape, repeated)
    }
    var stride = 1
    var strides = [Int](repeating: 0, count: own.count)
    for axis in own.indices.reversed() {
      strides[axis] = own[axis] == 1 ? 0 : stride
      stride *= own[axis]
    }
    return gathered(Self.offsets(shape: shape, strides: strides), shape: shape)
  }

  func transposed(_ order: [Int]) -> ONNXTensor {
    var stride = 1
    var strides = [Int](repeating: 0, count: shape.count)
    for axis in shape.indices.reversed() {
      strides[axis] = stride
      stride *= shape[axis]
    }
    let turned = order.map { shape[$0] }
    return gathered(Self.offsets(shape: turned, strides: order.map { strides[$0] }), shape: turned)
  }

  /// Returns the places in memory where the elements of `shape`, in row-major order, stand with these strides.
  private static func offsets(shape: [Int], strides: [Int]) -> [Int] {
    var offsets = [0]
    for (extent, stride) in zip(shape, strides) {
      var next: [Int] = []
      next.reserveCapacity(offsets.count * extent)
      for offset in offsets {
        for index in 0..<extent { next.append(offset + index * stride) }
      }
      offsets = next
    }
    return offsets
  }
}
