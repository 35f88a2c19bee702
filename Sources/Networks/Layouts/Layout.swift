import NormFoldFormats

/// A table between the parameters of a network and tensors: names, fused parts, axes. The same table reads and writes.
package struct Layout: Sendable {
  package let name: String
  /// The prefix of names in files that hold the whole model. A slot may be named without it: see ``Slot/hasPrefix``.
  package let prefix: String
  /// Tensors that are no parameters, by the end of their name: constants that some versions of a program save.
  let buffers: [(start: String, end: String, rule: String)]
  /// Names without the prefix that some versions of a program give to tensors, each with the name that the layout has.
  let otherNames: [String: String]
  /// Ends of names that some versions of a program give to tensors, each with the end that the layout has.
  let otherEndings: [(old: String, new: String)]
  /// Names under which a program stores a tensor once more, each with the first name. Where both are there, the tensor of the
  /// second name counts; both are written where the unembedding is not tied.
  package let secondNames: [String: String]
  /// The number of rows of the table of positions before that of the first position. No token but a masked one reads
  /// these rows; they are written as zeros.
  let positionOffset: Int
  /// The file that the user wrote the layout in; nil for one of ours.
  let path: String?
  /// Names of tensors, with `*` for any part, that the user's file leaves out.
  let ignoredNames: [String]
  private let patterns: [SlotPattern]

  package init(
    name: String, prefix: String = "", buffers: [(start: String, end: String, rule: String)] = [],
    otherNames: [String: String] = [:], otherEndings: [(old: String, new: String)] = [],
    secondNames: [String: String] = [:], positionOffset: Int = 0, path: String? = nil, ignoredNames: [String] = [],
    _ patterns: [[SlotPattern]]
  ) {
    self.name = name
    self.prefix = prefix
    self.buffers = buffers
    self.otherNames = otherNames
    self.otherEndings = otherEndings
    self.secondNames = secondNames
    self.positionOffset = positionOffset
    self.path = path
    self.ignoredNames = ignoredNames
    self.patterns = patterns.flatMap { $0 }
  }

  /// Every tensor that the layout knows for a network of this depth, required or not.
  package func slots(blockCount: Int) -> [Slot] {
    patterns.flatMap { pattern in
      pattern.isPerBlock ? (0..<blockCount).map { pattern.slot(block: $0) } : [pattern.slot(block: nil)]
    }
  }

  /// The same layout, in which any norm may be missing as a whole.
  var withOptionalNorms: Layout {
    var patterns = patterns
    for index in patterns.indices where patterns[index].slot(block: 0).isOfNorm {
      patterns[index].presence = .perhaps
    }
    return Layout(
      name: name, prefix: prefix, buffers: buffers, otherNames: otherNames, otherEndings: otherEndings,
      secondNames: secondNames, positionOffset: positionOffset, path: path, ignoredNames: ignoredNames, [patterns])
  }

  /// - Throws: `.malformed` where a user's layout names a tensor twice, or more tensors than there are for the blocks that
  ///   names speak of: it may name each head's, and so many that listing them all would take long.
  func requireRoom(in tensors: NamedTensors) throws(Refusal) {
    guard let path else { return }
    let blockCount = blockCount(in: tensors.names)
    let perBlock = patterns.count { $0.isPerBlock }
    guard blockCount * perBlock <= tensors.names.count + patterns.count else {
      throw Refusal(
        .malformed, file: tensors.checkpoint.path,
        "\(path) names \(perBlock) tensors of each of \(blockCount) blocks, but there are \(tensors.names.count) tensors",
        advice: "name in it what the checkpoint has, and nothing else")
    }
    var seen: Set<String> = []
    for slot in slots(blockCount: blockCount) where !seen.insert(slot.name).inserted {
      throw Refusal(
        .malformed, file: path, subject: slot.name, "two names of the file mean this tensor",
        advice: "a tensor is named once, with all that it holds")
    }
  }

  /// The slot that holds a parameter and nothing else.
  package func slot(of parameter: String, blockCount: Int) -> Slot? {
    let parts = parameter.split(separator: ".", maxSplits: 2)
    let block = parts.count == 3 && parts[0] == "blocks" ? Int(parts[1]) : nil
    for pattern in patterns where pattern.parameters.count == 1 {
      if pattern.isPerBlock, !(0..<blockCount).contains(block ?? -1) { continue }
      let slot = pattern.slot(block: pattern.isPerBlock ? block : nil)
      if slot.parameters == [parameter] { return slot }
    }
    return nil
  }

  /// The name of a slot's tensor in a file that holds the whole model.
  package func fullName(of slot: Slot) -> String { slot.hasPrefix ? prefix + slot.name : slot.name }

  /// The name of a norm: that of its gain's tensor without `.weight`.
  package func normName(at path: Path) -> String? {
    slot(of: "\(path).weight", blockCount: (path.block ?? 0) + 1).map { slot in
      if slot.name.hasSuffix(".weight") { return String(slot.name.dropLast(7)) }
      // At home gains have other names.
      guard self.path != nil, let dot = slot.name.lastIndex(of: ".") else { return slot.name }
      return String(slot.name[..<dot])
    }
  }

  /// Returns the number of blocks that the names speak of: one more than the highest number in a name that fits a
  /// pattern.
  package func blockCount(in names: some Sequence<String>) -> Int {
    let affixes = patterns.compactMap { pattern -> (Substring, Substring)? in
      guard let mark = pattern.tensor.firstIndex(of: "#") else { return nil }
      return (pattern.tensor[..<mark], pattern.tensor[pattern.tensor.index(after: mark)...])
    }
    var count = 0
    for name in names {
      for (prefix, suffix) in affixes where name.hasPrefix(prefix) && name.hasSuffix(suffix) {
        let digits = name.dropFirst(prefix.count).dropLast(suffix.count)
        if digits.utf8.count < 6, let block = Int(digits), block >= 0, String(block) == digits {
          count = max(count, block + 1)
        }
      }
    }
    return count
  }

  /// The name that the layout has for a tensor of this one.
  func ownName(of name: Substring) -> String {
    if let own = otherNames[String(name)] { return own }
    guard let ending = otherEndings.first(where: { name.hasSuffix($0.old) }) else { return String(name) }
    return name.dropLast(ending.old.count) + ending.new
  }

  /// Why a tensor of this name, without the prefix, is no parameter; nil where it may be one.
  func droppingRule(for name: Substring) -> String? {
    buffers.first { name.hasPrefix($0.start) && name.hasSuffix($0.end) }?.rule
  }

  // MARK: Writing

  /// The tensors that hold `network`: each with the recipe for what is to be stored, in the layout's order. Slots of which
  /// the network has no parameter are left out. A recipe has two axes at most: where ``storedShape(of:in:)`` has three, its
  /// first two are counted as one.
  package func tensors(of network: Network, sizes: Hyperparameters) -> [(slot: Slot, value: Parameter)] {
    slots(blockCount: network.blockCount).compactMap { slot in
      let found = slot.parameters.map { network.parameter(named: $0) }
      guard found.contains(where: { $0 != nil }) else { return nil }
      // Some of several fused biases may be there because a norm left them behind: the others are zero.
      let parts = zip(found, slot.outputs).map { part, output in
        part
          ?? .constant(
            0, shape: slot.input.map { [sizes[extent: $0], sizes[extent: output]] } ?? [sizes[extent: output]])
      }
      return (slot, stored(parts, in: slot, sizes: sizes))
    }
  }

  private func stored(_ parts: [Parameter], in slot: Slot, sizes: Hyperparameters) -> Parameter {
    let axis = parts[0].shape.count - 1
    var whole = Parameter.concatenating(parts, axis: axis)
    if slot.offset != 0 { whole = whole.adding(.constant(-slot.offset, shape: whole.shape)) }
    if slot.input == .positions, positionOffset > 0 {
      whole = .concatenating([.constant(0, shape: [positionOffset, whole.shape[1]]), whole], axis: 0)
    }
    if let order = slot.outputOrder(sizes) { whole = whole.reordered(axis: axis, order.inverse) }
    switch slot.form {
    case .matrix(isTransposed: true): return whole.transposed()
    case .matrix(isTransposed: false), .vector, .outOfHeads: return whole
    case .intoHeads:
      // The heads stand side by side in the network, one below the other in the file.
      let width = sizes.dHead
      return .concatenating(
        (0..<whole.shape[1] / width).map { whole.sliced(axis: 1, $0 * width..<($0 + 1) * width) }, axis: 0)
    }
  }

  // MARK: Reading

  /// Returns what the tensor of a slot holds, by the names of the parameters: matrices [in, out], vectors [out].
  ///
  /// - Precondition: the tensor has the ``storedShape(of:in:)``, and is contiguous where that shape has heads for axes.
  package func parts(
    of tensor: Parameter, in slot: Slot, sizes: Hyperparameters
  ) -> [(name: String, value: Parameter)] {
    var whole: Parameter
    let shape = shape(of: slot, sizes)
    switch slot.form {
    case .matrix(isTransposed: true):
      whole = (slot.isReshaped ? tensor.reshaped(shape.reversed()) : tensor).transposed()
    case .matrix(isTransposed: false): whole = slot.isReshaped ? tensor.reshaped(shape) : tensor
    case .vector, .outOfHeads: whole = tensor.shape == shape ? tensor : tensor.reshaped(shape)
    case .intoHeads:
      let (height, count) = (shape[0], shape[1] / sizes.dHead)
      let rows = tensor.reshaped([count * height, sizes.dHead])
      whole = .concatenating((0..<count).map { rows.sliced(axis: 0, $0 * height..<($0 + 1) * height) }, axis: 1)
    }
    if slot.offset != 0 { whole = whole.adding(.constant(slot.offset, shape: shape)) }
    let axis = shape.count - 1
    if let order = slot.outputOrder(sizes) { whole = whole.reordered(axis: axis, order) }
    if slot.input == .positions, positionOffset > 0 { whole = whole.sliced(axis: 0, positionOffset..<shape[0]) }
    var start = 0
    return zip(slot.parameters, slot.outputs).map { name, output in
      let width = sizes[extent: output]
      defer { start += width }
      return (name, whole.sliced(axis: axis, start..<start + width))
    }
  }

  /// All parameters of a slot side by side: [in, out] or [out].
  private func shape(of slot: Slot, _ sizes: Hyperparameters) -> [Int] {
    let width = slot.outputs.reduce(0) { $0 + sizes[extent: $1] }
    return slot.input.map { [sizes[extent: $0] + ($0 == .positions ? positionOffset : 0), width] } ?? [width]
  }

  /// The shape in which a slot's tensor is stored.
  package func storedShape(of slot: Slot, in sizes: Hyperparameters) -> [Int] {
    let shape = shape(of: slot, sizes)
    let dHead = sizes.dHead
    if slot.input == .patch, let image = sizes.imageGrid {
      return [shape[1], image.channels, image.patchHeight, image.patchWidth]
    }
    if slot.leadingAxes < 0 { return Array(shape.dropFirst(-slot.leadingAxes)) }
    if slot.leadingAxes > 0 { return [Int](repeating: 1, count: slot.leadingAxes) + shape }
    switch slot.form {
    case .matrix(isTransposed: true): return shape.reversed()
    case .matrix(isTransposed: false): return shape
    case .vector: return slot.axes.count == 1 ? shape : [shape[0] / max(1, dHead), dHead]
    case .intoHeads: return [shape[1] / max(1, dHead), shape[0], dHead]
    case .outOfHeads: return [shape[0] / max(1, dHead), dHead, shape[1]]
    }
  }
}

extension Slot {
  /// The arrangement of the axes of the stored tensor, which their factors say.
  fileprivate enum Form {
    case matrix(isTransposed: Bool)
    /// One axis, or one for the heads and one for their features.
    case vector
    /// A matrix for each head: [head, in, dHead].
    case intoHeads
    /// A matrix for each head: [head, dHead, out].
    case outOfHeads
  }

  fileprivate var form: Form {
    if input == nil { return .vector }
    if axes.count == 2 { return .matrix(isTransposed: axes[1] == [.input]) }
    precondition(axes.count == 3 && axes[0] == [.head], "axes that no layout has: \(axes)")
    return axes[1] == [.input] ? .intoHeads : .outOfHeads
  }

  /// Is true if heads are an axis of the stored tensor.
  package var hasHeadAxis: Bool { axes.contains([.head]) }

  /// Is true if the stored tensor has axes of extent one before the others, is a table of one row stored as a vector,
  /// or has the axes of an image's patches. An axis of heads does not count: see ``hasHeadAxis``.
  package var isReshaped: Bool { leadingAxes != 0 || input == .patch }

  /// From the factors of the stored output axis to those of the network: part, head, side, pair or feature. Nil where they
  /// stand in this order already.
  fileprivate func outputOrder(_ sizes: Hyperparameters) -> AxisOrder? {
    guard let stored = axes.first(where: { $0.count > 1 }) else { return nil }
    let usual: [Factor] = [.part, .head, .side, .pair, .headFeature, .output].filter(stored.contains)
    guard stored != usual else { return nil }
    func extent(_ factor: Factor) -> Int {
      switch factor {
      case .part: parameters.count
      case .head: sizes[extent: outputs[0]] / sizes.dHead
      case .headFeature: sizes.dHead
      case .side: 2
      case .pair: sizes.dHead / 2
      case .input, .output: preconditionFailure("\(name): a whole axis is no factor")
      }
    }
    // What encloses all others in both stays where it is.
    let skipped = zip(stored, usual).prefix { $0 == $1 }.count
    let factors = stored[skipped...]
    return AxisOrder(
      extents: factors.map(extent),
      order: usual[skipped...].map { factor in (factors.firstIndex(of: factor) ?? 0) - skipped })
  }
}
