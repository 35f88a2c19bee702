import NormFoldFormats
import NormFoldNetworks

/// Operators on the axes of any tensor, as the specification of ONNX defines them.
extension NodeEvaluation {
  // MARK: Attributes and operands

  /// An operand that may be left out; nil where it is.
  func optionalTensor(_ index: Int) throws(Refusal) -> ONNXTensor? {
    guard index < operands.count else { return nil }
    if case .absent = operands[index] { return nil }
    return try tensor(index)
  }

  func integers(_ index: Int) throws(Refusal) -> [Int] {
    guard let values = try tensor(index).integers else { throw refusal("input \(index): expected integers") }
    return values
  }

  func integer(_ index: Int) throws(Refusal) -> Int {
    let values = try integers(index)
    guard values.count == 1 else { throw refusal("input \(index): expected one integer, found \(values.count)") }
    return values[0]
  }

  /// Whole numbers that are an attribute in older operator sets and an input in newer ones.
  private func list(_ name: String, input index: Int) throws(Refusal) -> [Int]? {
    switch node.attributes[name] {
    case .integers(let values)?: return values
    case .integer(let value)?: return [value]
    case nil: break
    default: throw refusal("attribute '\(name)': expected integers")
    }
    guard let tensor = try optionalTensor(index) else { return nil }
    guard let values = tensor.integers else { throw refusal("input \(index): expected integers") }
    return values
  }

  private func flag(_ name: String, default usual: Int) throws(Refusal) -> Int {
    switch node.attributes[name] {
    case nil: return usual
    case .integer(let value)?: return value
    default: throw refusal("attribute '\(name)': expected an integer")
    }
  }

  /// An axis counted from the front.
  private func place(_ axis: Int, rank: Int) throws(Refusal) -> Int {
    guard axis >= -rank, axis < rank else { throw refusal("axis \(axis) is none of \(rank)") }
    return axis < 0 ? axis + rank : axis
  }

  /// An attribute that stands for an axis, of a tensor with `rank` axes.
  func axis(_ name: String, rank: Int, default usual: Int?) throws(Refusal) -> Int {
    switch node.attributes[name] {
    case .integer(let value)?: return try place(value, rank: rank)
    case nil:
      guard let usual else { throw refusal("attribute '\(name)' is missing") }
      return try place(usual, rank: rank)
    default: throw refusal("attribute '\(name)': expected an integer")
    }
  }

  // MARK: Parts of tensors

  /// A range of each of some axes, in steps.
  func slice() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard let starts = try list("starts", input: 1), let ends = try list("ends", input: 2) else {
      throw refusal("expected where it starts and ends")
    }
    let axes = try list("axes", input: 3) ?? Array(starts.indices)
    let steps = try optionalTensor(4)?.integers ?? starts.map { _ in 1 }
    guard starts.count == ends.count, axes.count == starts.count, steps.count == starts.count else {
      throw refusal("starts, ends, axes and steps are not equally many")
    }
    var ranges = x.shape.map { Array(0..<$0) }
    for index in starts.indices {
      let axis = try place(axes[index], rank: x.shape.count)
      let (extent, step) = (x.shape[axis], steps[index])
      guard step != 0, step > .min else { throw refusal("a step of \(step) goes nowhere") }
      func clamped(_ bound: Int, _ range: ClosedRange<Int>) -> Int {
        min(max(bound < 0 ? max(bound, .min + extent) + extent : bound, range.lowerBound), range.upperBound)
      }
      ranges[axis] =
        step > 0
        ? Array(stride(from: clamped(starts[index], 0...extent), to: clamped(ends[index], 0...extent), by: step))
        : extent == 0
          ? []
          : Array(
            stride(from: clamped(starts[index], 0...extent - 1), to: clamped(ends[index], -1...extent - 1), by: step))
    }
    return x.selected(ranges)
  }

  /// Consecutive ranges of one axis.
  func split() throws(Refusal) -> [ONNXTensor] {
    let x = try tensor(0)
    let axis = try axis("axis", rank: x.shape.count, default: 0)
    let count = node.outputs.count
    let extent = x.shape[axis]
    let even = (extent + count - 1) / count
    let sizes =
      try list("split", input: 1) ?? (0..<count).map { max(0, min(even, extent - $0 * even)) }
    guard sizes.count == count, sizes.allSatisfy({ $0 >= 0 && $0 <= extent }), sizes.reduce(0, +) == extent else {
      throw refusal("parts of \(sizes) do not fill the \(extent) of axis \(axis)")
    }
    var start = 0
    return sizes.map { size in
      var ranges = x.shape.map { Array(0..<$0) }
      ranges[axis] = Array(start..<start + size)
      start += size
      return x.selected(ranges)
    }
  }

  /// Returns the elements that stand at some indices along an axis.
  func gather() throws(Refusal) -> ONNXTensor {
    let source = try operand(0)
    let shape = source.shape
    let axis = try axis("axis", rank: shape.count, default: 0)
    let places = try tensor(1)
    guard let found = places.integers else { throw refusal("input 1: expected integers") }
    let indices = found.map { $0 < 0 ? $0 + shape[axis] : $0 }
    for (index, value) in zip(indices, found) where index < 0 || index >= shape[axis] {
      throw refusal("index \(value) is not below \(shape[axis])")
    }
    let result = Array(shape[..<axis]) + places.shape + Array(shape[(axis + 1)...])
    guard case .weight(let value) = source, axis == 0, shape.count == 2 else {
      guard ONNXTensor.isPossible(result) else { throw refusal("a result of shape \(result) is too large") }
      var ranges = shape.map { Array(0..<$0) }
      ranges[axis] = indices
      return try tensor(0).selected(ranges).reshaped(result)
    }
    // Of a table, the rows that are asked for.
    guard ONNXTensor.isPossible(result) else { throw refusal("a result of shape \(result) is too large") }
    let reader = ParameterReader(value)
    return ONNXTensor(result, indices.flatMap { reader.values(rows: $0..<$0 + 1, columns: 0..<shape[1]) })
  }

  /// Returns the slices that stand at some places, each place given by its indices along the first axes.
  func gatherSlices() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let places = try tensor(1)
    guard try flag("batch_dims", default: 0) == 0, let found = places.integers, let depth = places.shape.last,
      0...x.shape.count ~= depth
    else { throw refusal("\(places.summary) are no places in shape \(x.shape)") }
    let width = x.shape[depth...].reduce(1, *)
    guard ONNXTensor.isPossible(places.shape.dropLast() + x.shape[depth...]) else {
      throw refusal("a result of \(places.shape) slices is too large")
    }
    var offsets: [Int] = []
    for start in stride(from: 0, to: found.count, by: max(1, depth)) {
      var offset = 0
      for axis in 0..<depth {
        let index = found[start + axis] < 0 ? found[start + axis] + x.shape[axis] : found[start + axis]
        guard 0..<x.shape[axis] ~= index else { throw refusal("index \(index) is not below \(x.shape[axis])") }
        offset = offset * x.shape[axis] + index
      }
      offsets += offset * width..<(offset + 1) * width
    }
    return x.gathered(offsets, shape: places.shape.dropLast() + x.shape[depth...])
  }

  func concatenate() throws(Refusal) -> ONNXTensor {
    var result = try tensor(0)
    let axis = try axis("axis", rank: result.shape.count, default: nil)
    for index in operands.indices.dropFirst() {
      let next = try tensor(index)
      guard let joined = result.appending(next, axis: axis) else {
        throw refusal("\(result.summary) and \(next.summary) do not fit along axis \(axis)")
      }
      result = joined
    }
    return result
  }

  /// Constants around a tensor.
  func pad() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard node.attributes["mode"] == nil || node.attributes["mode"] == .text("constant"),
      let amounts = try list("pads", input: 1)
    else { throw refusal("expected a padding by a constant") }
    let axes = try optionalTensor(3)?.integers ?? Array(x.shape.indices)
    guard amounts.count == 2 * axes.count, amounts.allSatisfy({ $0 >= 0 && $0 < 1 << 20 }) else {
      throw refusal("\(amounts) is no padding of \(x.shape)")
    }
    let fill = try optionalTensor(2) ?? x.filled(0, shape: [])
    var result = x
    for (index, axis) in axes.enumerated() {
      let axis = try place(axis, rank: x.shape.count)
      func border(_ extent: Int) -> ONNXTensor {
        var shape = result.shape
        shape[axis] = extent
        return fill.reshaped([]).stretched(to: shape)
      }
      var padded = result.shape
      padded[axis] += amounts[index] + amounts[index + axes.count]
      guard fill.elementCount == 1, ONNXTensor.isPossible(padded),
        let front = border(amounts[index]).appending(result, axis: axis),
        let padded = front.appending(border(amounts[index + axes.count]), axis: axis)
      else { throw refusal("\(fill.summary) is no padding of \(x.summary)") }
      result = padded
    }
    return result
  }

  // MARK: Shapes

  func unsqueeze() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard let axes = try list("axes", input: 1) else { throw refusal("expected axes") }
    var places: [Int] = []
    for axis in axes { places.append(try place(axis, rank: x.shape.count + axes.count)) }
    var shape = x.shape
    for axis in places.sorted() {
      guard axis <= shape.count else { throw refusal("axis \(axis) does not fit \(x.shape)") }
      shape.insert(1, at: axis)
    }
    return x.reshaped(shape)
  }

  func squeeze() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    var dropped = Set(x.shape.indices.filter { x.shape[$0] == 1 })
    if let axes = try list("axes", input: 1) {
      dropped = []
      for axis in axes {
        let axis = try place(axis, rank: x.shape.count)
        guard x.shape[axis] == 1 else { throw refusal("axis \(axis) of \(x.shape) is not 1") }
        dropped.insert(axis)
      }
    }
    return x.reshaped(x.shape.indices.filter { !dropped.contains($0) }.map { x.shape[$0] })
  }

  func flatten() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    var axis = try flag("axis", default: 1)
    if axis < 0 { axis += x.shape.count }
    guard 0...x.shape.count ~= axis else { throw refusal("axis \(axis) does not fit \(x.shape)") }
    return x.reshaped([x.shape[..<axis].reduce(1, *), x.shape[axis...].reduce(1, *)])
  }

  func expand() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let asked = try integers(1)
    guard let shape = ONNXTensor.broadcast(x.shape, asked), ONNXTensor.isPossible(shape) else {
      throw refusal("\(x.shape) does not stretch to \(asked)")
    }
    return x.stretched(to: shape)
  }

  func tile() throws(Refusal) -> ONNXTensor {
    var result = try tensor(0)
    let repeats = try integers(1)
    guard repeats.count == result.shape.count, repeats.allSatisfy({ 0...1 << 20 ~= $0 }),
      ONNXTensor.isPossible(zip(result.shape, repeats).map { $0 * $1 })
    else {
      throw refusal("\(repeats) does not fit \(result.shape)")
    }
    for (axis, count) in repeats.enumerated() where count != 1 {
      var ranges = result.shape.map { Array(0..<$0) }
      ranges[axis] = (0..<count).flatMap { _ in ranges[axis] }
      result = result.selected(ranges)
    }
    return result
  }

  func constantOfShape() throws(Refusal) -> ONNXTensor {
    let shape = try integers(0)
    guard ONNXTensor.isPossible(shape), let count = TensorInfo.checkedElementCount(shape) else {
      throw refusal("expected a shape, found \(shape)")
    }
    guard case .tensor(let value)? = node.attributes["value"] else {
      return ONNXTensor(shape, [Double](repeating: 0, count: count))
    }
    let tensor = Operand(value).tensor ?? ONNXTensor([0], [Double]())
    guard tensor.elementCount == 1 else { throw refusal("attribute 'value': expected one element") }
    return tensor.reshaped([]).stretched(to: shape)
  }

  /// The upper or lower triangle of each matrix; zeros elsewhere.
  func triangle() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard x.shape.count >= 2 else { throw refusal("expected matrices, found shape \(x.shape)") }
    let offset = try optionalTensor(1)?.integers?.first ?? 0
    let isUpper = try flag("upper", default: 1) != 0
    let (rows, columns) = (x.shape[x.shape.count - 2], x.shape[x.shape.count - 1])
    let isKept = (0..<rows).flatMap { row in
      (0..<columns).map { isUpper ? $0 - row >= offset : $0 - row <= offset }
    }
    let kept = ONNXTensor([rows, columns], isKept).stretched(to: x.shape)
    return kept.choosing(x, x.filled(0, shape: x.shape))
  }

  // MARK: Sums

  /// One number for all elements along some axes.
  func reduced(_ body: (_ row: ArraySlice<Double>) -> Double) throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    let rank = x.shape.count
    var axes: Set<Int> = []
    for axis in try list("axes", input: 1) ?? Array(x.shape.indices) { axes.insert(try place(axis, rank: rank)) }
    let kept = x.shape.indices.filter { !axes.contains($0) }
    let order = kept + axes.sorted()
    // Those that are reduced stand last then, so that they are a row.
    guard let values = (order == Array(x.shape.indices) ? x : x.transposed(order)).numbers else {
      throw refusal("expected numbers")
    }
    let width = axes.reduce(1) { $0 * x.shape[$1] }
    guard width > 0 else { throw refusal("axes \(axes.sorted()) of \(x.shape) are empty") }
    let results = stride(from: 0, to: values.count, by: width).map { body(values[$0..<$0 + width]) }
    let keepsAxes = try flag("keepdims", default: 1) != 0
    return ONNXTensor(
      x.shape.indices.compactMap { axes.contains($0) ? (keepsAxes ? 1 : nil) : x.shape[$0] }, results)
  }

  /// Running sums along an axis.
  func cumulativeSum() throws(Refusal) -> ONNXTensor {
    let x = try tensor(0)
    guard try flag("exclusive", default: 0) == 0, try flag("reverse", default: 0) == 0 else {
      throw refusal("expected sums that begin at the front and include each element")
    }
    let axis = try place(integer(1), rank: x.shape.count)
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    let extent = x.shape[axis]
    func sums<Number: AdditiveArithmetic>(_ values: [Number], _ add: (Number, Number) -> Number) -> [Number] {
      var result = values
      for index in values.indices where index / max(1, inner) % max(1, extent) != 0 {
        result[index] = add(result[index - inner], values[index])
      }
      return result
    }
    switch x.content {
    case .integers(let values): return ONNXTensor(x.shape, sums(values, &+))
    case .numbers(let values): return ONNXTensor(x.shape, sums(values, +))
    case .booleans: throw refusal("expected numbers")
    }
  }
}
