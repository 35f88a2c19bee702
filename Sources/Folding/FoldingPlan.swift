import NormFoldFormats
import NormFoldNetworks

/// The decisions of a fold: which norms go where, without numbers. Printing a plan reads no weight.
package struct FoldingPlan: Sendable {
  /// One norm and the maps that absorb it.
  package struct Step: Sendable {
    /// The name of the norm as the tensors spell it, with its readers where not all of them read it alike.
    package let norm: String
    package let path: Path
    /// The maps that absorb it: all that read the norm. Of a bias alone also maps that are added to the norm.
    /// Where the norm stands behind a branch, and something else reads it, the map that it reads and that nothing else reads.
    package let readers: [Path]
    package let absorbed: Absorbed

    /// The part of a norm that went into maps.
    package enum Absorbed: String, Sendable {
      /// All of it: the norm is gone.
      case whole
      /// Its gain and bias: its deviation is still computed.
      case gainAndBias = "gain-and-bias"
      /// Its bias: something besides linear maps reads it, or the target has no place for its gain.
      case bias
    }

    package var isWhole: Bool { absorbed == .whole }
  }

  /// A norm that stays in the network, and why.
  package struct Kept: Sendable {
    package enum Reason: Sendable {
      /// Its deviation is computed from the activations; its gain and bias are gone where a step says so.
      case isComputed
      /// The target has no place for what folding it needs.
      case target
      /// Folding its gain into the unembedding would untie that from the embedding.
      case tie
      /// An operation that is no linear map reads it, so that it keeps its gain and bias.
      case reader(Path, kind: String)
      /// It is what the network computes.
      case output
    }

    /// The name of the norm as the tensors spell it, with its readers where not all of them read it alike.
    package let norm: String
    package let path: Path
    package let reason: Reason
  }

  /// The network before.
  package let source: Network
  /// The network after, every parameter a recipe over the source's tensors.
  package let folded: Network
  /// The norms that were folded, each with the maps that absorb it, in the order of computation.
  package let steps: [Step]
  /// The norms that stay in the network, be it without gain and bias, in the order of computation.
  package let kept: [Kept]
  /// The names of the norms whose scale became part of their gain and bias.
  package let scaledNorms: [String]
  /// The maps that took the scale of their branch.
  package let scaledMaps: [Path]
  /// The rules that were applied besides folding norms, in this order.
  package let rules: [FoldingRule]
  /// The form that the norms that are still computed were brought into; nil where none was asked for.
  package let normForm: NormForm?

  /// Is true if the logits of each position differ from the source's by a constant.
  package var shiftsLogits: Bool { rules.contains { $0.shiftsLogits } }

  package struct Options: Sendable {
    /// Norms that stay in the network as they are, because the target cannot hold what their folding needs.
    package var keptNorms: Set<Path> = []

    /// Computed norms that keep their gains, because these would untie the unembedding; their biases move.
    package var tiedNorms: Set<Path> = []

    /// Norms that must be folded: where one of them cannot be, the plan is refused.
    package var requiredNorms: Set<Path> = []

    /// Is true if norms that cannot be removed may stay: stripped of gain and bias where their readers are linear maps.
    package var allowsPartial = false

    /// The form that norms whose deviation is computed are to have; nil where nobody asked for one.
    package var normForm: NormForm?

    /// The name that people call the network by: `GPT-2`.
    package var networkName = "network"

    /// The rules that are to be applied besides folding norms.
    package var rules: [FoldingRule] = []

    fileprivate var keepsNorms: Bool { allowsPartial || normForm != nil }

    package init(
      keptNorms: Set<Path> = [], tiedNorms: Set<Path> = [], requiredNorms: Set<Path> = [], allowsPartial: Bool = false,
      rules: [FoldingRule] = [], normForm: NormForm? = nil, networkName: String = "network"
    ) {
      self.keptNorms = keptNorms
      self.tiedNorms = tiedNorms
      self.requiredNorms = requiredNorms
      self.allowsPartial = allowsPartial
      self.rules = rules
      self.normForm = normForm
      self.networkName = networkName
    }
  }

  /// - Throws: `.notFoldable` with every norm that cannot become part of a linear map, and why; `.nonFinite` for a
  ///   deviation that is not a positive number; `.unsupported` for a rule or form of norms that would not be exact; `.usage`
  ///   for a form of norms where none is computed.
  package init(folding source: Network, options: Options = .init()) throws(Refusal) {
    let (network, scaled) = source.absorbingScales()
    scaledNorms = scaled.compactMap { source[norm: $0]?.displayName }
    scaledMaps = scaled.filter { source[linear: $0] != nil }
    // That may be all there is to do.
    let keepsComputed = options.keepsNorms || !scaled.isEmpty
    if let form = options.normForm, !network.norms.contains(where: { $0.norm.isComputed }) {
      throw Refusal(
        .usage, subject: "\(.normForm, form)", "there is no computed norm in this network to convert",
        advice: "leave it out: norms that are fixed fold into the weights and are gone")
    }
    var folded = network
    var steps: [Step] = []
    var kept: [Kept] = []
    var obstacles: [Obstacle] = []
    func moveBias(of path: Path, named name: String) {
      guard let receivers = folded.receivers(ofBiasOf: path) else { return }
      folded.moveBias(of: path, to: receivers)
      steps.append(Step(norm: name, path: path, readers: receivers, absorbed: .bias))
    }
    for (path, norm) in network.norms {
      let name = norm.displayName
      if case .fixed(let deviation) = norm.deviation { try Self.check(deviation, of: norm) }
      let readers = network.readers(of: path)
      let obstacle = network.obstacle(to: path)
      let isRequired = options.requiredNorms.contains(path)
      // Others than the last are kept because a type has blocks, which a form that was asked for outweighs.
      if options.keptNorms.contains(path), !isRequired,
        norm.isFixed || options.keepsNorms && (options.normForm == nil || path.block == nil)
      {
        kept.append(Kept(norm: name, path: path, reason: .target))
        continue
      }
      if options.tiedNorms.contains(path), !isRequired, norm.isComputed, options.keepsNorms, obstacle == nil {
        kept.append(Kept(norm: name, path: path, reason: .tie))
        moveBias(of: path, named: name)
        continue
      }
      if case .fixed(let deviation) = norm.deviation, obstacle != nil, let map = network.soleMap(before: path) {
        let heads = norm.headCount
        folded[linear: map] = folded[linear: map]?.followed(
          by: norm.kind, gain: norm.gain.repeated(heads), deviation: deviation.repeated(heads),
          bias: norm.bias?.repeated(heads))
        folded[norm: path] = nil
        steps.append(Step(norm: name, path: path, readers: [map], absorbed: .whole))
        continue
      }
      switch (norm.deviation, obstacle) {
      case (.fixed, let reason?), (.computed, let reason?):
        if options.keepsNorms, !isRequired {
          kept.append(Kept(norm: name, path: path, reason: reason))
          moveBias(of: path, named: name)
        } else {
          obstacles.append(.init(norm: name, reason: .reader(reason)))
        }
      case (.fixed(let deviation), nil):
        for reader in readers {
          folded[linear: reader.path] = folded[linear: reader.path]?.absorbing(
            kind: norm.kind, gain: norm.gain, deviation: deviation, bias: norm.bias)
        }
        folded[norm: path] = nil
        steps.append(Step(norm: name, path: path, readers: readers.map(\.path), absorbed: .whole))
      case (.computed, nil) where options.keepsNorms:
        for reader in readers {
          folded[linear: reader.path] = folded[linear: reader.path]?.absorbing(gain: norm.gain, bias: norm.bias)
        }
        folded[norm: path]?.gain = .constant(1, shape: norm.gain.shape)
        folded[norm: path]?.bias = nil
        kept.append(Kept(norm: name, path: path, reason: .isComputed))
        steps.append(Step(norm: name, path: path, readers: readers.map(\.path), absorbed: .gainAndBias))
      case (.computed, nil) where keepsComputed && !isRequired:
        kept.append(Kept(norm: name, path: path, reason: .isComputed))
      case (.computed(let epsilon), nil): obstacles.append(.init(norm: name, reason: .computed(epsilon: epsilon)))
      case (.perPosition(let vector), _):
        let values = ParameterReader(vector).values()
        obstacles.append(
          .init(norm: name, reason: .perPosition(first: values[0], second: values[min(1, values.count - 1)])))
      case (.perToken(let usual, let endOfText), _):
        let (a, b) = (ParameterReader(usual).values(), ParameterReader(endOfText).values())
        let feature = a.indices.first { a[$0] != b[$0] } ?? 0
        obstacles.append(.init(norm: name, reason: .perToken(usual: a[feature], endOfText: b[feature])))
      }
    }
    guard obstacles.isEmpty else { throw Obstacle.refusal(obstacles, of: network, named: options.networkName) }
    rules = FoldingRule.allCases.filter(options.rules.contains)
    for rule in rules { folded = try folded.applying(rule) }
    normForm = options.normForm
    if let normForm { folded = try folded.converting(to: normForm) }
    self.source = source
    self.folded = folded
    self.steps = steps
    self.kept = kept
  }

  /// σ must be positive and finite in every feature: dividing by anything else is not a norm.
  private static func check(_ deviation: Parameter, of norm: Norm) throws(Refusal) {
    for (feature, value) in ParameterReader(deviation).values().enumerated() where !(value > 0 && value.isFinite) {
      throw Refusal(
        .nonFinite, subject: norm.name, "the deviation of feature \(feature) is \(value), expected a positive number",
        advice: "the training run that wrote it may have diverged, or was not finished")
    }
  }
}

extension Network {
  /// The linear map that a norm reads, where nothing else reads it; nil for a norm that centres each head by itself, which
  /// is no centring of the map.
  fileprivate func soleMap(before path: Path) -> Path? {
    guard let norm = self[norm: path], norm.headCount == 1 || norm.kind == .rms,
      let operand = node(at: path)?.operands.first, self[linear: operand] != nil, users(of: operand).count == 1,
      !isGivenAway(operand), !isGivenAway(path)
    else { return nil }
    return operand
  }

  /// Returns the reason that keeps a norm from becoming part of its readers; nil where all of them are linear maps.
  package func obstacle(to norm: Path) -> FoldingPlan.Kept.Reason? {
    if isGivenAway(norm) { return .output }
    for reader in readers(of: norm) {
      if case .linear = reader.operation { continue }
      return .reader(reader.path, kind: reader.operation.kind)
    }
    return nil
  }
}

extension FoldingPlan.Kept.Reason: CustomStringConvertible {
  package var description: String {
    switch self {
    case .isComputed: "its deviation is computed from the activations"
    case .target: "the target has no place for what folding it needs"
    case .tie: "folding its gain would untie the unembedding from the embedding"
    case .reader(let path, let kind): "it is read by \(path), \(kind), which is no linear map"
    case .output: "it is the output of the network"
    }
  }
}

/// A norm that cannot be removed, and why.
private struct Obstacle {
  enum Reason {
    case computed(epsilon: Double)
    /// The deviations at the first two positions.
    case perPosition(first: Double, second: Double)
    case perToken(usual: Double, endOfText: Double)
    case reader(FoldingPlan.Kept.Reason)
  }

  let norm: String
  let reason: Reason

  private var description: String {
    switch reason {
    case .computed(let epsilon): "its deviation is still computed (epsilon \(epsilon.formula))"
    case .perPosition(let first, let second):
      "its deviation depends on the position (\(Float(first)) at 0, \(Float(second)) at 1)"
    case .perToken(let usual, let endOfText):
      "its deviation depends on the token (\(Float(usual)), but \(Float(endOfText)) for the end of text)"
    case .reader(let reader): reader.description
    }
  }

  private var dependsOnPosition: Bool { if case .perPosition = reason { true } else { false } }
  private var dependsOnToken: Bool { if case .perToken = reason { true } else { false } }
  private var isReader: Bool { if case .reader = reason { true } else { false } }

  /// Every obstacle in one sentence, and what would remove it.
  static func refusal(_ obstacles: [Obstacle], of network: Network, named name: String) -> Refusal {
    // A network whose removal was not begun: all that is read of the stream goes through a norm, and none is fixed.
    let isOrdinary =
      network.norms.allSatisfy(\.norm.isComputed)
      && network.streamReaders.allSatisfy { if case .norm = $0.operation { true } else { false } }
      && !obstacles.contains(where: \.isReader)
    if isOrdinary {
      if let lost = network.noteOnLostEpsilon { return Refusal(.notFoldable, lost.problem, advice: lost.advice) }
      let isLayerNorm = network.norms.allSatisfy { $0.norm.kind == .layer }
      return Refusal(
        .notFoldable,
        "this is an ordinary \(name): the deviations of all its norms are computed, so none is a linear map",
        advice: isLayerNorm
          ? "remove its LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with \(.deviations), or keep "
            + "the norms in another form with \(.normForm)"
          : "pass \(.allowsPartial) to fold the gains alone, \(.normScaling, NormScaling.lns) for one that was trained with "
            + "LayerNorm Scaling, or \(.deviations) to fix the deviations")
    }
    let list = obstacles.map { "\($0.norm): \($0.description)" }.joined(separator: "; ")
    let advice: Message =
      if obstacles.contains(where: \.dependsOnPosition) {
        "finish the training phase that gives all positions one deviation (disable_bos)"
      } else if obstacles.contains(where: \.dependsOnToken) {
        "finish the training phase that treats the end of text like any token (disable_eot), or pass \(.assumesEndOfTextDisabled)"
      } else {
        "finish the removal, or pass \(.allowsPartial) to fold the rest and keep these"
      }
    return Refusal(
      .notFoldable, "\(obstacles.count) norm\(obstacles.count == 1 ? " is" : "s are") not a linear map: \(list)",
      advice: advice)
  }
}
