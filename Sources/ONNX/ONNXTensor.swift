import Formats

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
  package var numbers: [Double]? { if case .numbers(let values) = content { values } else { nil } }
  package var integers: [Int]? { if case .integers(let values) = content { values } else { nil } }
  package var booleans: [Bool]? { if case .booleans(let values) = content { values } else { nil } }

  /// The same elements under another shape.
  func reshaped(_ shape: [Int]) -> ONNXTensor { ONNXTensor(shape, content, count: elementCount) }

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

  /// Where each element of `shape`, in row-major order, stands in memory with these strides.
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
