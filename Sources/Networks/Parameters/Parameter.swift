import NormFoldFormats

/// A weight as a recipe: a stored tensor, or an expression over stored tensors. No number is computed before someone
/// reads it through a ``ParameterReader``, so that a plan can be printed and checked first, and a conversion holds one
/// tensor in memory at a time.
///
/// Matrices are [rows, columns], vectors have one axis. The constructors below keep every recipe in one normal form:
/// transpositions stand at the stored tensors only, and parts of a fused tensor that were treated alike are fused
/// again, so that `concatenate(slices of t)` is `t`.
package struct Parameter: Hashable, Sendable {
  package indirect enum Expression: Hashable, Sendable {
    case stored(Tensor)
    /// Every element has this value.
    case constant(Double)
    /// The transpose of a stored matrix or of a product.
    case transposed(Parameter)
    case slice(Parameter, axis: Int, range: Range<Int>)
    case concatenation([Parameter], axis: Int)
    /// Index i along `axis` is multiplied by element i of a vector.
    case scaled(Parameter, by: Parameter, axis: Int)
    case multiplied(Parameter, by: Double)
    /// Element by element.
    case quotient(Parameter, Parameter)
    case sum(Parameter, Parameter)
    /// The mean over `axis` is subtracted: for axis 0, from each column its mean.
    case centred(Parameter, axis: Int)
    /// The last element along `axis` is subtracted from all others, and left out.
    case compressed(Parameter, axis: Int)
    /// vᵀM: a vector [rows] through a matrix [rows, columns].
    case projection(of: Parameter, through: Parameter)
    /// The product of two matrices.
    case product(Parameter, Parameter)
    /// The elements along `axis` in another order.
    case reordered(Parameter, axis: Int, AxisOrder)
  }

  package let shape: [Int]
  package let expression: Expression

  private init(_ shape: [Int], _ expression: Expression) {
    self.shape = shape
    self.expression = expression
  }

  package var rowCount: Int { shape.count == 2 ? shape[0] : 1 }
  package var columnCount: Int { shape.count == 2 ? shape[1] : shape.reduce(1, *) }
  package var elementCount: Int { shape.reduce(1, *) }

  // MARK: Leaves

  /// A stored vector or matrix, as it lies in its file.
  package static func stored(_ tensor: Tensor) -> Parameter { Parameter(tensor.shape, .stored(tensor)) }

  package static func constant(_ value: Double, shape: [Int]) -> Parameter { Parameter(shape, .constant(value)) }

  // MARK: Views

  package func transposed() -> Parameter {
    precondition(shape.count == 2)
    let transposed = [shape[1], shape[0]]
    switch expression {
    case .constant: return Parameter(transposed, expression)
    case .transposed(let inner): return inner
    case .stored, .product: return Parameter(transposed, .transposed(self))
    case .slice(let inner, let axis, let range): return inner.transposed().sliced(axis: 1 - axis, range)
    case .concatenation(let parts, let axis): return .concatenating(parts.map { $0.transposed() }, axis: 1 - axis)
    case .scaled(let inner, let by, let axis): return inner.transposed().scaled(by: by, axis: 1 - axis)
    case .multiplied(let inner, let factor): return inner.transposed().multiplied(by: factor)
    case .quotient(let a, let b): return a.transposed().divided(by: b.transposed())
    case .sum(let a, let b): return a.transposed().adding(b.transposed())
    case .centred(let inner, let axis): return inner.transposed().centred(axis: 1 - axis)
    case .compressed(let inner, let axis): return inner.transposed().compressed(axis: 1 - axis)
    case .projection: preconditionFailure("a projection is a vector")
    case .reordered(let inner, let axis, let order): return inner.transposed().reordered(axis: 1 - axis, order)
    }
  }

  /// The elements along `axis` in another order. Whatever treats all elements along it alike, or does something along the
  /// other axis, is done to the reordered numbers, so that an order and its inverse meet and vanish.
  package func reordered(axis: Int, _ order: AxisOrder) -> Parameter {
    switch expression {
    case .constant: return self
    case .reordered(let inner, axis, order.inverse): return inner
    case .multiplied(let inner, let factor): return inner.reordered(axis: axis, order).multiplied(by: factor)
    case .scaled(let inner, let by, let other) where other != axis:
      return inner.reordered(axis: axis, order).scaled(by: by, axis: other)
    case .centred(let inner, let other): return inner.reordered(axis: axis, order).centred(axis: other)
    case .sum(let a, let b): return a.reordered(axis: axis, order).adding(b.reordered(axis: axis, order))
    case .projection(let vector, let matrix): return vector.projected(through: matrix.reordered(axis: 1, order))
    default: return Parameter(shape, .reordered(self, axis: axis, order))
    }
  }

  package func sliced(axis: Int, _ range: Range<Int>) -> Parameter {
    precondition(range.lowerBound >= 0 && range.upperBound <= shape[axis])
    if range == 0..<shape[axis] { return self }
    var part = shape
    part[axis] = range.count
    switch expression {
    case .constant: return Parameter(part, expression)
    case .slice(let inner, axis, let outer):
      return inner.sliced(axis: axis, outer.lowerBound + range.lowerBound..<outer.lowerBound + range.upperBound)
    case .concatenation(let parts, axis):
      // Of a single part, where the range lies in one.
      var start = 0
      for part in parts {
        let end = start + part.shape[axis]
        if start <= range.lowerBound && range.upperBound <= end {
          return part.sliced(axis: axis, range.lowerBound - start..<range.upperBound - start)
        }
        start = end
      }
      return Parameter(part, .slice(self, axis: axis, range: range))
    // What was done along the other axis was done to each part alike.
    case .centred(let inner, let other) where other != axis:
      return inner.sliced(axis: axis, range).centred(axis: other)
    case .compressed(let inner, let other) where other != axis:
      return inner.sliced(axis: axis, range).compressed(axis: other)
    case .scaled(let inner, let by, let other):
      return inner.sliced(axis: axis, range).scaled(by: other == axis ? by.sliced(axis: 0, range) : by, axis: other)
    case .multiplied(let inner, let factor): return inner.sliced(axis: axis, range).multiplied(by: factor)
    case .quotient(let a, let b): return a.sliced(axis: axis, range).divided(by: b.sliced(axis: axis, range))
    case .sum(let a, let b): return a.sliced(axis: axis, range).adding(b.sliced(axis: axis, range))
    case .projection(let vector, let matrix): return vector.projected(through: matrix.sliced(axis: 1, range))
    case .reordered(let inner, let other, let order) where other != axis:
      return inner.sliced(axis: axis, range).reordered(axis: other, order)
    default: return Parameter(part, .slice(self, axis: axis, range: range))
    }
  }

  package static func concatenating(_ parts: [Parameter], axis: Int) -> Parameter {
    precondition(!parts.isEmpty)
    if parts.count == 1 { return parts[0] }
    if let fused = fusing(parts, axis: axis) { return fused }
    var shape = parts[0].shape
    shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
    return Parameter(shape, .concatenation(parts, axis: axis))
  }

  /// One recipe for parts that were all made the same way from parts of one thing.
  private static func fusing(_ parts: [Parameter], axis: Int) -> Parameter? {
    switch parts[0].expression {
    case .slice(let whole, axis, let first):
      var end = first.lowerBound
      for part in parts {
        guard case .slice(whole, axis, let range) = part.expression, range.lowerBound == end else { return nil }
        end = range.upperBound
      }
      return whole.sliced(axis: axis, first.lowerBound..<end)
    case .centred(_, let centredAxis) where centredAxis != axis:
      return fusing(parts, axis: axis) {
        if case .centred(let inner, centredAxis) = $0.expression { inner } else { nil }
      }?.centred(axis: centredAxis)
    case .compressed(_, let compressedAxis) where compressedAxis != axis:
      return fusing(parts, axis: axis) {
        if case .compressed(let inner, compressedAxis) = $0.expression { inner } else { nil }
      }?.compressed(axis: compressedAxis)
    case .scaled(_, let by, let scaledAxis) where scaledAxis != axis:
      return fusing(parts, axis: axis) {
        if case .scaled(let inner, by, scaledAxis) = $0.expression { inner } else { nil }
      }?.scaled(by: by, axis: scaledAxis)
    case .multiplied(_, let factor):
      return fusing(parts, axis: axis) {
        if case .multiplied(let inner, factor) = $0.expression { inner } else { nil }
      }?.multiplied(by: factor)
    case .projection(let vector, _):
      return fusing(parts, axis: 1) {
        if case .projection(vector, let matrix) = $0.expression { matrix } else { nil }
      }.map { vector.projected(through: $0) }
    case .sum:
      let left = fusing(parts, axis: axis) { if case .sum(let a, _) = $0.expression { a } else { nil } }
      let right = fusing(parts, axis: axis) { if case .sum(_, let b) = $0.expression { b } else { nil } }
      guard let left, let right else { return nil }
      return left.adding(right)
    default: return nil
    }
  }

  private static func fusing(
    _ parts: [Parameter], axis: Int, _ inner: (Parameter) -> Parameter?
  ) -> Parameter? {
    let inners = parts.compactMap(inner)
    return inners.count == parts.count ? concatenating(inners, axis: axis) : nil
  }

  /// A vector several times, one behind the other.
  package func repeated(_ count: Int) -> Parameter {
    if let constantValue { return .constant(constantValue, shape: [elementCount * count]) }
    return .concatenating(Array(repeating: self, count: count), axis: 0)
  }

  /// The elements of a contiguous stored tensor, or of a constant, counted along other axes.
  package func reshaped(_ shape: [Int]) -> Parameter {
    switch expression {
    case .stored(let tensor): return .stored(tensor.reshaped(shape))
    case .constant(let value): return .constant(value, shape: shape)
    default: preconditionFailure("not a stored tensor: \(self)")
    }
  }

  // MARK: Arithmetic

  /// diag(v)·M for axis 0, M·diag(v) for axis 1; the product element by element for vectors.
  package func scaled(by vector: Parameter, axis: Int) -> Parameter {
    precondition(vector.elementCount == shape[axis])
    if case .constant(let value) = vector.expression { return multiplied(by: value) }
    return Parameter(shape, .scaled(self, by: vector, axis: axis))
  }

  package func multiplied(by factor: Double) -> Parameter {
    switch expression {
    case _ where factor == 1: self
    case .constant(let value): .constant(value * factor, shape: shape)
    case .multiplied(let inner, let other): inner.multiplied(by: other * factor)
    case .quotient(let inner, let divisor) where divisor.constantValue == factor: inner
    default: Parameter(shape, .multiplied(self, by: factor))
    }
  }

  package func divided(by other: Parameter) -> Parameter {
    precondition(shape == other.shape)
    switch (expression, other.expression) {
    case (.constant(let a), .constant(let b)): return .constant(a / b, shape: shape)
    case (_, .constant(1)): return self
    case (.multiplied(let inner, let factor), .constant(let divisor)) where factor == divisor: return inner
    default: return Parameter(shape, .quotient(self, other))
    }
  }

  package func adding(_ other: Parameter) -> Parameter {
    precondition(shape == other.shape)
    if case .constant(0) = other.expression { return self }
    if case .constant(0) = expression { return other }
    // Numbers that are added one after the other are one number, which may be zero.
    switch (expression, other.expression) {
    case (.constant(let a), .constant(let b)): return .constant(a + b, shape: shape)
    case (.sum(let inner, let last), .constant(let b)):
      if case .constant(let a) = last.expression { return inner.adding(.constant(a + b, shape: shape)) }
    default: break
    }
    return Parameter(shape, .sum(self, other))
  }

  package func centred(axis: Int) -> Parameter {
    switch expression {
    case .centred(_, axis): self
    case .constant: .constant(0, shape: shape)
    default: Parameter(shape, .centred(self, axis: axis))
    }
  }

  /// Minus its last element along `axis`, which is left out: for axis 0, M[:−1] − M[−1].
  package func compressed(axis: Int) -> Parameter {
    precondition(shape[axis] > 1)
    var part = shape
    part[axis] -= 1
    if case .constant = expression { return .constant(0, shape: part) }
    return Parameter(part, .compressed(self, axis: axis))
  }

  /// vᵀM for a vector v [rows of M].
  package func projected(through matrix: Parameter) -> Parameter {
    precondition(elementCount == matrix.shape[0])
    if case .constant(0) = expression { return .constant(0, shape: [matrix.shape[1]]) }
    return Parameter([matrix.shape[1]], .projection(of: self, through: matrix))
  }

  package func multiplied(byMatrix other: Parameter) -> Parameter {
    precondition(shape.count == 2 && other.shape.count == 2 && shape[1] == other.shape[0])
    return Parameter([shape[0], other.shape[1]], .product(self, other))
  }

  // MARK: Inspection

  /// The stored tensor, where the recipe is nothing but that.
  package var storedTensor: Tensor? { if case .stored(let tensor) = expression { tensor } else { nil } }

  /// The value of every element, where the recipe says it without reading anything.
  package var constantValue: Double? { if case .constant(let value) = expression { value } else { nil } }

  /// Returns whether the recipe itself says that its mean over `axis` is zero. Nothing is read.
  package func isCentred(axis: Int) -> Bool {
    switch expression {
    case .centred(_, axis): true
    // The means of the rows of such a matrix have mean zero themselves.
    case .centred(let inner, _), .multiplied(let inner, _): inner.isCentred(axis: axis)
    case .constant(let value): value == 0
    case .slice(let inner, let other, _), .scaled(let inner, _, let other), .compressed(let inner, let other):
      other != axis && inner.isCentred(axis: axis)
    case .concatenation(let parts, let other): other != axis && parts.allSatisfy { $0.isCentred(axis: axis) }
    case .sum(let a, let b): a.isCentred(axis: axis) && b.isCentred(axis: axis)
    case .reordered(let inner, _, _): inner.isCentred(axis: axis)
    case .stored, .transposed, .quotient, .projection, .product: false
    }
  }

  /// Every stored tensor that the recipe reads, in order of first mention.
  package var storedTensors: [Tensor] {
    var result: [Tensor] = []
    collectStoredTensors(into: &result)
    return result
  }

  private func collectStoredTensors(into result: inout [Tensor]) {
    switch expression {
    case .stored(let tensor): if !result.contains(tensor) { result.append(tensor) }
    case .constant: break
    case .transposed(let inner), .slice(let inner, _, _), .multiplied(let inner, _), .centred(let inner, _),
      .compressed(let inner, _), .reordered(let inner, _, _):
      inner.collectStoredTensors(into: &result)
    case .concatenation(let parts, _): for part in parts { part.collectStoredTensors(into: &result) }
    case .scaled(let a, let b, _), .quotient(let a, let b), .sum(let a, let b), .projection(let a, let b),
      .product(let a, let b):
      a.collectStoredTensors(into: &result)
      b.collectStoredTensors(into: &result)
    }
  }
}

extension Parameter: CustomStringConvertible {
  /// The formula, with tensors by name: `centre(diag(h.0.ln_2.weight / 1e+06) · h.0.mlp.c_fc.weight)`.
  package var description: String {
    switch expression {
    case .stored(let tensor): tensor.name
    case .constant(let value): value.formula
    case .transposed(let inner): "\(inner.factor)ᵀ"
    case .slice(let inner, let axis, let range):
      inner.shape.count == 2 && axis == 1
        ? "\(inner.factor)[:, \(range.lowerBound):\(range.upperBound)]"
        : "\(inner.factor)[\(range.lowerBound):\(range.upperBound)]"
    case .concatenation(let parts, _) where parts.count > 3: "[\(parts[0]) | … | \(parts[parts.count - 1])]"
    case .concatenation(let parts, _): "[" + parts.map(\.description).joined(separator: " | ") + "]"
    case .scaled(let inner, let by, 0) where inner.shape.count == 2: "diag(\(by)) · \(inner.factor)"
    case .scaled(let inner, let by, _):
      inner.shape.count == 2 ? "\(inner.factor) · diag(\(by))" : "\(inner.factor) ⊙ \(by.factor)"
    case .multiplied(let inner, let factor): "\(factor.formula) · \(inner.factor)"
    case .quotient(let a, let b): "\(a.factor) / \(b.factor)"
    case .sum(let a, let b): "\(a) + \(b)"
    case .centred(let inner, _): "centre(\(inner))"
    case .compressed(let inner, _): "compress(\(inner))"
    case .projection(let vector, let matrix): "\(vector.factor)ᵀ · \(matrix.factor)"
    case .product(let a, let b): "\(a.factor) · \(b.factor)"
    case .reordered(let inner, _, let order): "reorder(\(inner), \(order))"
    }
  }

  /// The formula as it stands in a product: a sum in parentheses.
  private var factor: String { if case .sum = expression { "(\(description))" } else { description } }
}

extension Double {
  /// The number as a short text without loss: `1`, `0.125`, `1e+12`.
  package var formula: String {
    let short = text(.significant(6))
    return Double(short) == self ? short : String(self)
  }
}
