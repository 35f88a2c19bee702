/// The facts that a header gives about a tensor. The bytes themselves are a ``Tensor``'s.
package struct TensorInfo: Equatable, Sendable {
  /// Exactly as in the file.
  package var name: String
  package var type: ElementType
  /// Row-major: the last axis is contiguous. Empty for a scalar.
  package var shape: [Int]

  package init(name: String, type: ElementType, shape: [Int]) {
    self.name = name
    self.type = type
    self.shape = shape
  }

  /// - Precondition: the product does not overflow, which every reader checks before it makes an info.
  package var elementCount: Int { shape.reduce(1, *) }

  /// - Precondition: as for ``elementCount``; the elements fill whole blocks and whole bytes.
  package var byteCount: Int {
    guard let count = type.byteCount(ofElements: elementCount) else {
      preconditionFailure("\(name): \(shape) of \(type.displayName) is not a whole number of bytes")
    }
    return count
  }

  /// The product of `shape`, or nil where it overflows or an extent is negative.
  package static func checkedElementCount(_ shape: [Int]) -> Int? {
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow else { return nil }
      count = product
    }
    return count
  }
}
