import Formats

/// A table between the roles of a network's parameters and tensors: names, fused parts, orientation. The same table
/// reads and writes.
package struct Layout: Sendable {
  /// Which way a stored matrix lies. Said here, never guessed from a shape: a square matrix looks the same both ways.
  package enum Orientation: Sendable {
    /// Conv1D: [in, out], as in the network.
    case inOut
    /// Linear: [out, in].
    case outIn
    /// Linear: [out, in], or a bias [out], the two features of a rotary pair side by side.
    case outInPairs
    /// A map into the heads, each with a matrix of its own: [head, in, dHead]; its bias [head, dHead].
    case intoHeads
    /// A map out of the heads: [head, dHead, out].
    case outOfHeads

    /// What the axes of a stored matrix are.
    package var axes: String {
      switch self {
      case .inOut: "[in, out]"
      case .outIn, .outInPairs: "[out, in]"
      case .intoHeads: "[head, in, dHead]"
      case .outOfHeads: "[head, dHead, out]"
      }
    }
  }

  /// One tensor of the layout.
  package struct Slot: Sendable {
    /// With `#` for the number of the block.
    package let pattern: String
    /// The roles that the tensor holds, side by side along the output axis.
    package let roles: [Role]
    package let orientation: Orientation

    package var name: String { roles.first?.block.map { pattern.replacing("#", with: String($0)) } ?? pattern }
  }

  package let name: String
  /// What stands before every name but those of the unembedding, in files that hold the whole model.
  package let prefix: String
  private let patterns: [(pattern: String, orientation: Orientation, roles: @Sendable (Int) -> [Role])]

  /// A name with `#` for the number of the block, and the roles for that number.
  typealias Pattern = (String, Orientation, @Sendable (Int) -> [Role])

  init(name: String, prefix: String = "", _ patterns: [Pattern]) {
    self.name = name
    self.prefix = prefix
    self.patterns = patterns.map { ($0.0, $0.1, $0.2) }
  }

  /// Every tensor that the layout knows for a network of this depth, required or not.
  package func slots(blockCount: Int) -> [Slot] {
    patterns.flatMap { pattern in
      let isPerBlock = pattern.pattern.contains("#")
      return (0..<(isPerBlock ? blockCount : 1)).map { block in
        Slot(pattern: pattern.pattern, roles: pattern.roles(block), orientation: pattern.orientation)
      }
    }
  }

  /// The name of a slot's tensor in a file that holds the whole model.
  package func fullName(of slot: Slot) -> String { slot.roles[0].isOfUnembedding ? slot.name : prefix + slot.name }

  /// The name of a norm: that of its gain's tensor without `.weight`.
  package func normName(at place: Role.NormPlace) -> String? {
    let block = Role.normGain(place).block ?? 0
    return slots(blockCount: block + 1).first { $0.roles == [.normGain(place)] }.map {
      $0.name.hasSuffix(".weight") ? String($0.name.dropLast(7)) : $0.name
    }
  }

  /// How many blocks the names speak of: one more than the highest number in a name that fits a pattern.
  package func blockCount(in names: some Sequence<String>) -> Int {
    let affixes = patterns.compactMap { pattern -> (Substring, Substring)? in
      guard let mark = pattern.pattern.firstIndex(of: "#") else { return nil }
      return (pattern.pattern[..<mark], pattern.pattern[pattern.pattern.index(after: mark)...])
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

  /// The tensors that hold `network`: each with the recipe for what is to be stored, in the layout's order. Roles that
  /// the network leaves empty have none. A recipe has two axes at most: where ``storedShape(of:dimensions:)`` has three,
  /// its first two are counted as one.
  package func parameters(of network: Network) -> [(name: String, value: Parameter)] {
    slotParameters(of: network).map { ($0.slot.name, $0.value) }
  }

  /// The same, by slot.
  package func slotParameters(of network: Network) -> [(slot: Slot, value: Parameter)] {
    slots(blockCount: network.blocks.count).compactMap { slot in
      guard slot.roles.contains(where: { network[$0] != nil }) else { return nil }
      // Of fused biases some may be there because a norm left them behind: the others are zero.
      let parts = slot.roles.map { network[$0] ?? .constant(0, shape: network.dimensions.shape(of: $0)) }
      let axis = parts[0].shape.count - 1
      var fused = Parameter.concatenating(parts, axis: axis)
      if slot.orientation == .outInPairs {
        fused = fused.reordered(axis: axis, .pairsTogether(dHead: network.dimensions.dHead))
      }
      guard fused.shape.count == 2 else { return (slot, fused) }
      switch slot.orientation {
      case .inOut, .outOfHeads: return (slot, fused)
      case .outIn, .outInPairs: return (slot, fused.transposed())
      case .intoHeads:
        // The heads stand side by side in the network, one below the other in the file.
        let width = network.dimensions.dHead
        let heads = (0..<network.dimensions.headCount).map { fused.sliced(axis: 1, $0 * width..<($0 + 1) * width) }
        return (slot, .concatenating(heads, axis: 0))
      }
    }
  }

  /// What the tensor of a slot holds for each of its roles, in the network's orientation.
  /// - Precondition: it has the ``storedShape(of:dimensions:)``, and is contiguous where that has heads.
  package func parts(of tensor: Parameter, in slot: Slot, dimensions: Dimensions) -> [(role: Role, value: Parameter)] {
    let whole = Self.turned(tensor, from: slot, dimensions: dimensions)
    let axis = whole.shape.count - 1
    var start = 0
    return slot.roles.map { role in
      let width = dimensions.shape(of: role)[axis]
      defer { start += width }
      return (role, whole.sliced(axis: axis, start..<start + width))
    }
  }

  /// A slot's tensor in the network's orientation: [in, out], or a vector.
  private static func turned(_ tensor: Parameter, from slot: Slot, dimensions: Dimensions) -> Parameter {
    let shape = dimensions.shape(of: slot.roles[0])
    switch slot.orientation {
    case .inOut: return tensor
    case .outIn: return shape.count == 2 ? tensor.transposed() : tensor
    case .outInPairs:
      return (shape.count == 2 ? tensor.transposed() : tensor).reordered(
        axis: shape.count - 1, .pairsApart(dHead: dimensions.dHead))
    case .outOfHeads: return tensor.reshaped(shape)
    case .intoHeads:
      guard shape.count == 2 else { return tensor.reshaped(shape) }
      let rows = tensor.reshaped([dimensions.headCount * shape[0], dimensions.dHead])
      let heads = (0..<dimensions.headCount).map { rows.sliced(axis: 0, $0 * shape[0]..<($0 + 1) * shape[0]) }
      return .concatenating(heads, axis: 1)
    }
  }

  /// The shape in which a slot's tensor is stored.
  package func storedShape(of slot: Slot, dimensions: Dimensions) -> [Int] {
    var shape = dimensions.shape(of: slot.roles[0])
    shape[shape.count - 1] = slot.roles.reduce(0) { $0 + dimensions.shape(of: $1)[shape.count - 1] }
    switch slot.orientation {
    case .inOut: return shape
    case .outIn, .outInPairs: return shape.reversed()
    case .intoHeads: return [dimensions.headCount] + shape.dropLast() + [dimensions.dHead]
    case .outOfHeads: return [dimensions.headCount, dimensions.dHead, shape[1]]
    }
  }
}

extension Role {
  package var isOfUnembedding: Bool { self == .weight(.unembedding) || self == .bias(.unembedding) }

  /// The number of the block that the role belongs to.
  package var block: Int? {
    switch self {
    case .tokenEmbedding, .positionEmbedding: nil
    case .normGain(let place), .normBias(let place):
      switch place {
      case .attention(let block), .mlp(let block): block
      case .final: nil
      }
    case .weight(let map), .bias(let map):
      switch map {
      case .query(let block), .key(let block), .value(let block), .attentionOutput(let block), .mlpInput(let block),
        .mlpGate(let block), .mlpOutput(let block):
        block
      case .unembedding: nil
      }
    }
  }
}
