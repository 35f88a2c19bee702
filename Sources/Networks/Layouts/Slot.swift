/// A size that an axis of a parameter can have.
package enum Extent: Hashable, Sendable {
  /// The width of the residual stream.
  case model
  /// The width of an MLP's hidden layer.
  case hidden
  /// The heads of the queries side by side.
  case heads
  /// One for each head of the queries.
  case headCount
  /// The heads of keys or values side by side.
  case keyValueHeads
  /// One head.
  case head
  case vocabulary
  /// The number of positions that a sequence may have.
  case positions
  /// The number of texts that a sequence may be made of, whose tokens are told apart.
  case tokenTypes
  /// The number of labels that a classifier chooses from.
  case labels
  /// One row.
  case single
  /// The numbers of a patch of an image.
  case patch
  /// A size that only the architecture itself knows, by the key of its config.
  case own(String)
}

/// A factor that an axis of a stored tensor is made of. Transposition, fusion, interleaved heads and the order of rotary
/// pairs are all one statement: which factors each axis has, outermost first. Nothing is guessed from a shape: a square
/// matrix looks the same both ways.
package enum Factor: Hashable, Sendable {
  /// The whole input axis of a matrix, or the rows of a table.
  case input
  /// The whole output axis of one part.
  case output
  /// One for each parameter that the tensor holds.
  case part
  case head
  case headFeature
  /// The first or the second features of a head's rotary pairs.
  case side
  /// The pairs of features of a head that rotary positions rotate.
  case pair
}

/// One tensor of a layout: which parameters it holds, and what its axes are made of.
package struct Slot: Sendable {
  /// When a checkpoint has the tensor.
  package enum Presence: Hashable, Sendable {
    case always
    /// Perhaps: something else can stand for the tensor.
    case perhaps
    /// Always if this key of the config is true, and never if it is false; perhaps if the config does not say so.
    case ifSaid(String)
    /// Perhaps, though this class, which the tensors are named for, has no such parameter and would leave it out.
    case beyond(className: String)
  }

  /// The name in the file without the layout's prefix.
  package let name: String
  /// The names of the parameters, `blocks.0.attention.query.weight`, in the order of the factor ``Factor/part``.
  package let parameters: [String]
  /// The size of the input axis; nil for a vector.
  package let input: Extent?
  /// The sizes of the output axes of the parameters.
  package let outputs: [Extent]
  package let axes: [[Factor]]
  package let presence: Presence
  /// The number that is added to the stored numbers.
  package let offset: Double
  /// The number of axes of extent one that the stored tensor has before the others; -1 where a table of one row is
  /// stored as a vector.
  package let leadingAxes: Int
  /// Is true if the layout's prefix stands before the name.
  package let hasPrefix: Bool
  /// The number of the block, where the tensor belongs to one.
  package let block: Int?

  /// Is true if the tensor is left out where the unembedding is tied to the embedding.
  package var isOmittedWhereTied: Bool { parameters == ["unembedding.weight"] && presence != .always }

  /// The name under which one head of a parameter is known until all of them stand side by side:
  /// `blocks.0.attention.query.head.3.weight`.
  static func headPart(_ number: Int, of parameter: String) -> String {
    let dot = parameter.lastIndex(of: ".") ?? parameter.endIndex
    return "\(parameter[..<dot]).head.\(number)\(parameter[dot...])"
  }

  /// The parameter of which a name means one head, and the number of the head; nil for any other name.
  static func headPart(of name: String) -> (whole: String, number: Int)? {
    let parts = name.split(separator: ".")
    guard parts.count > 3, parts[parts.count - 3] == "head", let number = Int(parts[parts.count - 2]) else {
      return nil
    }
    return ((parts.dropLast(3) + parts.suffix(1)).joined(separator: "."), number)
  }

  /// Is true if the tensor holds a gain or a bias of a norm.
  var isOfNorm: Bool { parameters[0].contains(".norm.") }

  /// A description of the axes, for messages: `[out, in]`.
  package var axesDescription: String {
    let words = axes.map { axis in
      if axis.contains(.input) { return "in" }
      if axis == [.head] { return "head" }
      if axis == [.headFeature] { return "dHead" }
      return "out"
    }
    return "[\(words.joined(separator: ", "))]"
  }
}

/// Tensors of a layout, with `#` for the number of the block.
package struct SlotPattern: Sendable {
  let tensor: String
  let parameters: [String]
  let input: Extent?
  let outputs: [Extent]
  let axes: [[Factor]]
  var presence = Slot.Presence.always
  var offset = 0.0
  var leadingAxes = 0
  var hasPrefix = true

  var isPerBlock: Bool { tensor.contains("#") }

  func slot(block: Int?) -> Slot {
    func numbered(_ name: String) -> String {
      guard let block else { return name }
      return name.split(separator: "#", omittingEmptySubsequences: false).joined(separator: String(block))
    }
    return Slot(
      name: numbered(tensor), parameters: parameters.map(numbered), input: input, outputs: outputs, axes: axes,
      presence: presence, offset: offset, leadingAxes: leadingAxes, hasPrefix: hasPrefix, block: block)
  }

  // MARK: The usual ones

  /// An embedding: [count, width].
  package static func table(
    _ tensor: String, _ path: String, rows: Extent, presence: Slot.Presence = .always
  ) -> SlotPattern {
    SlotPattern(
      tensor: tensor, parameters: [path + ".weight"], input: rows, outputs: [.model], axes: [[.input], [.output]],
      presence: presence)
  }

  /// The gain of a norm, and its bias.
  ///
  /// - Parameter offset: what is added to the stored gain.
  package static func norm(
    _ tensor: String, _ path: String, hasBias: Bool = true, of width: Extent = .model,
    presence: Slot.Presence = .always, biasPresence: Slot.Presence? = nil, offset: Double = 0
  ) -> [SlotPattern] {
    let gain = SlotPattern(
      tensor: tensor + ".weight", parameters: [path + ".weight"], input: nil, outputs: [width], axes: [[.output]],
      presence: presence, offset: offset)
    guard hasBias else { return [gain] }
    return [
      gain,
      SlotPattern(
        tensor: tensor + ".bias", parameters: [path + ".bias"], input: nil, outputs: [width], axes: [[.output]],
        presence: biasPresence ?? presence),
    ]
  }

  /// Numbers that features, or heads, are multiplied by.
  package static func vector(
    _ tensor: String, _ parameter: String, of width: Extent, presence: Slot.Presence
  ) -> SlotPattern {
    SlotPattern(
      tensor: tensor, parameters: [parameter], input: nil, outputs: [width], axes: [[.output]], presence: presence)
  }

  /// The weight of a linear map, or of several that one tensor holds.
  ///
  /// - Parameter axes: of the stored matrix.
  package static func weight(
    _ tensor: String, _ paths: [String], from input: Extent, to outputs: [Extent], axes: [[Factor]],
    presence: Slot.Presence = .always
  ) -> SlotPattern {
    SlotPattern(
      tensor: tensor, parameters: paths.map { $0 + ".weight" }, input: input, outputs: outputs, axes: axes,
      presence: presence)
  }

  /// The bias of a linear map, or of several that one tensor holds.
  package static func bias(
    _ tensor: String, _ paths: [String], to outputs: [Extent], axes: [[Factor]] = [[.part, .output]],
    presence: Slot.Presence = .always
  ) -> SlotPattern {
    SlotPattern(
      tensor: tensor, parameters: paths.map { $0 + ".bias" }, input: nil, outputs: outputs, axes: axes,
      presence: presence)
  }

  /// Weight and bias of linear maps whose tensors are called `tensor.weight` and `tensor.bias`.
  ///
  /// - Parameters:
  ///   - output: the factors of the output axis.
  ///   - isTransposed: whether the matrix is stored [out, in], as torch's Linear does.
  ///   - biasPresence: nil where there is no bias.
  package static func linear(
    _ tensor: String, _ paths: String..., from input: Extent, to outputs: Extent...,
    output: [Factor] = [.part, .output],
    isTransposed: Bool = true, biasPresence: Slot.Presence? = .always
  ) -> [SlotPattern] {
    let weight = weight(
      tensor + ".weight", paths, from: input, to: outputs,
      axes: isTransposed ? [output, [.input]] : [[.input], output])
    guard let biasPresence else { return [weight] }
    return [weight, bias(tensor + ".bias", paths, to: outputs, axes: [output], presence: biasPresence)]
  }

  /// The unembedding.
  ///
  /// - Parameters:
  ///   - presence: that of the weight, which most programs leave out where it is tied to the embedding.
  ///   - bias: nil where there is no place for one.
  package static func unembedding(
    _ tensor: String, presence: Slot.Presence = .perhaps, bias: Slot.Presence?
  ) -> [SlotPattern] {
    linear(tensor, "unembedding", from: .model, to: .vocabulary, biasPresence: bias).map {
      var pattern = $0
      if pattern.input != nil { pattern.presence = presence }
      pattern.hasPrefix = false
      return pattern
    }
  }

  /// The unembedding, whose bias may be missing and has a name of its own.
  package static func unembedding(_ tensor: String, biasNamed bias: String) -> [SlotPattern] {
    [
      weight(
        tensor + ".weight", ["unembedding"], from: .model, to: [.vocabulary], axes: [[.part, .output], [.input]],
        presence: .perhaps
      ).withoutPrefix,
      self.bias(bias, ["unembedding"], to: [.vocabulary], presence: .perhaps).withoutPrefix,
    ]
  }

  /// The same tensor, named without the layout's prefix.
  package var withoutPrefix: SlotPattern {
    var pattern = self
    pattern.hasPrefix = false
    return pattern
  }

  /// The same tensor, stored with so many axes of extent one before the others.
  package func withLeadingAxes(_ count: Int) -> SlotPattern {
    var pattern = self
    pattern.leadingAxes = count
    return pattern
  }

  /// The same tensor, present at other times.
  package func with(_ presence: Slot.Presence) -> SlotPattern {
    var pattern = self
    pattern.presence = presence
    return pattern
  }
}
