import NormFoldNetworks

/// The way of a value to an operation that reads it: the norms, maps and products with a number between the two. What
/// leads to a wire is a table, a sum, attention, an activation, a rotation or a product of values; so is what it leads to.
///
/// A wire is cut at its norms with a computed deviation into affine groups. Where the groups of two wires compute the same,
/// and so do the norms between them, the wires do, whatever value enters.
struct Wire {
  /// A norm that divides by what it computes, or by something that is no constant: what is left of it without gain and
  /// bias, which belong to the group behind it.
  struct Core {
    let path: Path
    let kind: Norm.Kind
    let headCount: Int
    let deviation: Norm.Deviation
  }

  /// The value that enters.
  let origin: Path
  private(set) var groups: [AffineGroup]
  /// Between the groups.
  let cores: [Core]
  /// The rows of the sequence that are read in the place of each: groups and cores are of one token each, so that it does
  /// not matter where between them.
  let selections: [Operation.Selection]

  fileprivate mutating func multiplyOutput(by factor: Double) { groups[groups.count - 1].outputFactor *= factor }
}

/// y = f · ((x · C ⊙ γ/σ + β) · W + b), where C subtracts the mean over the features if there is one; without W where no
/// map is in it. The numbers are those of a network, none of them computed yet.
struct AffineGroup {
  /// The place of the matrix in the network, or of the last norm.
  var path: Path
  var centresInput = false
  /// The vectors that the input is multiplied by and divided by, [in] each.
  var gains: [Parameter] = []
  var divisors: [Parameter] = []
  /// β [in]
  var inputBias: Parameter?
  /// The factor that the input is multiplied by besides the gains.
  var inputFactor = 1.0
  /// W [in, out]; a table is one whose input is a unit vector.
  var weight: Parameter?
  var isTable = false
  /// b [out]
  var bias: Parameter?
  /// f
  var outputFactor = 1.0

  var isIdentity: Bool {
    !centresInput && gains.isEmpty && divisors.isEmpty && inputBias == nil && weight == nil
      && inputFactor * outputFactor == 1
  }
}

/// Why a network cannot be cut into parts.
struct CuttingFailure: Error {
  let path: Path
  let reason: String
}

extension Network {
  /// The values that wires begin at.
  private func isOrigin(_ node: Node) -> Bool {
    switch node.operation {
    case .norm, .linear, .scale, .scaleFeatures, .select: false
    case .embed, .patches, .features, .rotate, .attend, .activate, .add, .multiply: true
    }
  }

  /// The operations that wires lead to, in the order of computation.
  var junctions: [Node] {
    nodes.filter { node in
      if case .embed = node.operation { return false }
      return isOrigin(node)
    }
  }

  /// The wires to an operation, by operand.
  ///
  /// What attention multiplies its scores by belongs to the queries, in front of their rotation if there is one.
  func wires(to node: Node) throws(CuttingFailure) -> [Wire] {
    var result: [Wire] = []
    for operand in node.operands { result.append(try wire(endingAt: operand)) }
    switch node.operation {
    case .attend(let attention) where !isRotation(node.operands[0]): result[0].multiplyOutput(by: attention.scale)
    case .rotate:
      for user in users(of: node.path) {
        if case .attend(let attention) = user.operation, user.operands[0] == node.path {
          result[0].multiplyOutput(by: attention.scale)
        }
      }
    default: break
    }
    return result
  }

  private func isRotation(_ path: Path) -> Bool { if case .rotate = self[path] { true } else { false } }

  /// The wire that ends at a value.
  func wire(endingAt end: Path) throws(CuttingFailure) -> Wire {
    var steps: [Node] = []
    var path = end
    while let node = node(at: path), !isOrigin(node), let operand = node.operands.first {
      steps.append(node)
      path = operand
    }
    var groups = [AffineGroup(path: path)]
    var cores: [Wire.Core] = []
    var selections: [Operation.Selection] = []
    for step in steps.reversed() {
      var group = groups[groups.count - 1]
      switch step.operation {
      case .select(let selection): selections.append(selection)
      case .scale(let factor):
        if group.weight != nil { group.outputFactor *= factor } else { group.multiplyInput(by: factor) }
      case .scaleFeatures(let vector):
        guard group.weight == nil, group.inputBias == nil else {
          throw CuttingFailure(path: step.path, reason: "a product with a vector follows a map or a norm")
        }
        group.gains.append(vector)
        group.path = step.path
      case .linear(let map):
        guard group.weight == nil else {
          throw CuttingFailure(path: step.path, reason: "two maps follow each other")
        }
        (group.weight, group.bias, group.path) = (map.weight, map.bias, step.path)
      case .norm(let norm):
        if case .fixed(let deviation) = norm.deviation {
          if let weight = group.weight, group.outputFactor == 1, norm.headCount == 1 || norm.kind == .rms {
            group.append(norm, to: weight, deviation: deviation)
            groups[groups.count - 1] = group
            continue
          }
          guard group.weight == nil, group.gains.isEmpty, norm.headCount == 1 else {
            throw CuttingFailure(path: step.path, reason: "a norm with a fixed deviation follows another one")
          }
          group.divisors = [deviation]
        } else {
          cores.append(
            .init(path: step.path, kind: norm.kind, headCount: norm.headCount, deviation: norm.deviation))
          groups[groups.count - 1] = group
          groups.append(AffineGroup(path: step.path))
          group = groups[groups.count - 1]
        }
        group.path = step.path
        group.centresInput = norm.isFixed && norm.kind == .layer
        group.gains = [norm.gain.repeated(norm.headCount)]
        group.inputBias = norm.bias?.repeated(norm.headCount)
      default: preconditionFailure("no step of a wire: \(step.path)")
      }
      groups[groups.count - 1] = group
    }
    return Wire(origin: path, groups: groups, cores: cores, selections: selections)
  }
}

extension Wire {
  /// The name of the rows of the sequence that the wire reads, for messages.
  var selectionName: String {
    selections.isEmpty ? "each token" : "the \(selections.map(\.rawValue).joined(separator: ", ")) token"
  }
}

extension AffineGroup {
  /// Makes a norm behind the map, which is linear, part of it: W · C ⊙ γ/σ and b · C ⊙ γ/σ + β.
  fileprivate mutating func append(_ norm: Norm, to weight: Parameter, deviation: Parameter) {
    let factor = norm.gain.divided(by: deviation).repeated(norm.headCount)
    let isCentred = norm.kind == .layer
    self.weight = (isCentred ? weight.centred(axis: 1) : weight).scaled(by: factor, axis: 1)
    let shift = bias.map { (isCentred ? $0.centred(axis: 0) : $0).scaled(by: factor, axis: 0) }
    let added = norm.bias?.repeated(norm.headCount)
    bias = shift.map { shift in added.map { shift.adding($0) } ?? shift } ?? added
  }

  fileprivate mutating func multiplyInput(by factor: Double) {
    inputFactor *= factor
    inputBias = inputBias?.multiplied(by: factor)
  }
}
