import Formats
import Networks

/// Which norms go where: decisions, no numbers. Printing it reads no weight.
package struct FoldingPlan: Sendable {
  /// One norm and the maps that absorb it.
  package struct Step: Sendable {
    /// As the tensors spell it, with the path where the two paths of an attention part ways.
    package let norm: String
    package let sites: [NormSite]
    /// The maps that read the norm. All of them absorb it, or none does.
    package let readers: [Role.Map]
    /// Whether the whole norm went, or only its gain and bias: its deviation is still computed.
    package let isWhole: Bool
  }

  /// The network before.
  package let source: Network
  /// The network after, every parameter a recipe over the source's tensors.
  package let folded: Network
  /// What was folded, in the order of computation.
  package let steps: [Step]
  /// The names of the norms that stay in the network, be it without gain and bias.
  package let kept: [String]
  /// The names of the norms whose scale became part of their gain and bias.
  package let scaledNorms: [String]
  /// The output maps that took the scale of their branch.
  package let scaledBranches: [Role.Map]
  /// What was done besides, in this order.
  package let rules: [FoldingRule]
  /// What the norms that are still computed were made to be.
  package let normForm: NormForm?

  /// Whether the logits of each position differ from the source's by a constant.
  package var shiftsLogits: Bool { rules.contains { $0.shiftsLogits } }

  package struct Options: Sendable {
    /// Fixed norms that stay in the network, because the target cannot hold what their folding needs: a vocabulary
    /// bias for the last norm.
    package var keptSites: Set<NormSite> = []

    /// Whether norms whose deviation is still computed may stay, stripped of gain and bias.
    package var allowsPartial = false

    /// What such norms are to be; nil where nobody asked for them to be anything.
    package var normForm: NormForm?

    fileprivate var keepsComputedNorms: Bool { allowsPartial || normForm != nil }

    /// What is to be done besides.
    package var rules: [FoldingRule] = []

    package init(
      keptSites: Set<NormSite> = [], allowsPartial: Bool = false, rules: [FoldingRule] = [], normForm: NormForm? = nil
    ) {
      self.keptSites = keptSites
      self.allowsPartial = allowsPartial
      self.rules = rules
      self.normForm = normForm
    }
  }

  /// - Throws: `.notFoldable` with every norm that cannot become part of a linear map, and why; `.nonFinite` for a
  ///   deviation that is not a positive number; `.unsupported` for a rule or form of norms that would not be exact; `.usage`
  ///   for a form of norms where none is computed.
  package init(folding network: Network, options: Options = .init()) throws(Refusal) {
    let source = network
    scaledBranches = source.scaledBranches
    scaledNorms = source.norms.filter { $0.norm.outputScale != 1 }.map { $0.norm.name(at: $0.site, in: source) }.reduce(
      into: []
    ) { if $0.last != $1 { $0.append($1) } }
    let network = source.absorbingScales()
    // That may be all there is to do.
    let keepsComputed = !scaledBranches.isEmpty || !scaledNorms.isEmpty
    if let form = options.normForm, !network.norms.contains(where: { $0.norm.isComputed }) {
      throw Refusal(
        .usage, subject: "--to-norm \(form.rawValue)", "there is no computed norm in this network to convert",
        advice: "leave it out: norms that are fixed fold into the weights and are gone")
    }
    var folded = network
    var steps: [Step] = []
    var kept: [String] = []
    var obstacles: [(norm: String, reason: String)] = []
    for (site, norm) in network.norms {
      let name = norm.name(at: site, in: network)
      // Others than the last are kept because a type has blocks, which a form that was asked for outweighs.
      if options.keptSites.contains(site),
        norm.isFixed || options.keepsComputedNorms && (options.normForm == nil || site == .final)
      {
        if case .fixed(let deviation) = norm.deviation { try Self.check(deviation, of: norm) }
        kept.append(name)
        continue
      }
      switch norm.deviation {
      case .fixed(let deviation):
        try Self.check(deviation, of: norm)
        for reader in network.readers(of: site) {
          folded[reader] = folded[reader].absorbing(
            kind: norm.kind, gain: norm.gain, deviation: deviation, bias: norm.bias)
        }
        folded[site] = nil
        steps.append(Step(norm: name, sites: [site], readers: network.readers(of: site), isWhole: true))
      case .computed where options.keepsComputedNorms:
        for reader in network.readers(of: site) {
          folded[reader] = folded[reader].absorbing(gain: norm.gain, bias: norm.bias)
        }
        folded[site]?.gain = .constant(1, shape: norm.gain.shape)
        folded[site]?.bias = nil
        kept.append(name)
        steps.append(Step(norm: name, sites: [site], readers: network.readers(of: site), isWhole: false))
      case .computed where keepsComputed: kept.append(name)
      case .computed(let epsilon):
        obstacles.append((name, "its deviation is still computed (epsilon \(epsilon.formula))"))
      case .perPosition(let vector):
        let values = ParameterReader(vector).values()
        obstacles.append(
          (
            name,
            "its deviation depends on the position (\(Float(values[0])) at 0, \(Float(values[min(1, values.count - 1)])) at 1)"
          ))
      case .perToken(let usual, let endOfText):
        let (a, b) = (ParameterReader(usual).values(), ParameterReader(endOfText).values())
        let feature = a.indices.first { a[$0] != b[$0] } ?? 0
        obstacles.append(
          (
            name,
            "its deviation depends on the token (\(Float(a[feature])), but \(Float(b[feature])) for the end of text)"
          ))
      }
    }
    guard obstacles.isEmpty else { throw Self.refusal(obstacles, of: network) }
    rules = FoldingRule.allCases.filter(options.rules.contains)
    for rule in rules { folded = try folded.applying(rule) }
    normForm = options.normForm
    if let normForm { folded = try folded.converting(to: normForm) }
    self.source = source
    self.folded = folded
    self.steps = Self.merged(steps)
    self.kept = kept.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
  }

  /// σ must be positive and finite in every feature: dividing by anything else is not a norm.
  private static func check(_ deviation: Parameter, of norm: Norm) throws(Refusal) {
    for (feature, value) in ParameterReader(deviation).values().enumerated() where !(value > 0 && value.isFinite) {
      throw Refusal(
        .nonFinite, subject: norm.name, "the deviation of feature \(feature) is \(value), expected a positive number",
        advice: "the training run that wrote it diverged or was not finished")
    }
  }

  /// Every obstacle in one sentence, and what would remove it.
  private static func refusal(_ obstacles: [(norm: String, reason: String)], of network: Network) -> Refusal {
    let isOrdinary = network.norms.count == network.sites.count && network.norms.allSatisfy(\.norm.isComputed)
    let architecture = Architecture(of: network)
    if isOrdinary, architecture != .gpt2 {
      return Refusal(
        .notFoldable,
        "this is an ordinary \(architecture.name): the deviations of all its norms are computed, so none is a linear map",
        advice: "pass --allow-partial to fold the gains alone, --norm-scaling lns for one that was trained with "
          + "LayerNorm Scaling, or --deviations to fix the deviations")
    }
    if isOrdinary {
      return Refusal(
        .notFoldable,
        "this is an ordinary GPT-2: the deviations of all its norms are computed, so none is a linear map",
        advice:
          "remove its LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with --deviations, or keep "
          + "the norms in another form with --to-norm")
    }
    // The paths of an attention that are in one state are one obstacle.
    let distinct = obstacles.reduce(into: [(norm: String, reason: String)]()) {
      if $0.last?.norm != $1.norm { $0.append($1) }
    }
    let list = distinct.map { "\($0.norm): \($0.reason)" }.joined(separator: "; ")
    let dependsOnPosition = distinct.contains { $0.reason.contains("position") }
    let dependsOnToken = distinct.contains { $0.reason.contains("token") }
    let advice =
      if dependsOnPosition {
        "finish the training phase that gives all positions one deviation (disable_bos)"
      } else if dependsOnToken {
        "finish the training phase that treats the end of text like any token (disable_eot), or pass --assume-eot-disabled"
      } else {
        "finish the removal, or pass --allow-partial to fold the rest and keep these"
      }
    return Refusal(
      .notFoldable, "\(distinct.count) norm\(distinct.count == 1 ? " is" : "s are") not a linear map: \(list)",
      advice: advice)
  }

  /// The two paths of an attention that were folded alike are one step.
  private static func merged(_ steps: [Step]) -> [Step] {
    var result: [Step] = []
    for step in steps {
      if let last = result.last, last.norm == step.norm {
        result[result.count - 1] = Step(
          norm: last.norm, sites: last.sites + step.sites, readers: last.readers + step.readers, isWhole: last.isWhole)
      } else {
        result.append(step)
      }
    }
    return result
  }
}

extension Network {
  /// The linear maps that read the output of a norm at a site.
  package func readers(of site: NormSite) -> [Role.Map] {
    switch site {
    case .attentionQueryKey(let block): [.query(block: block), .key(block: block)]
    case .attentionValue(let block): [.value(block: block)]
    case .mlp(let block):
      blocks[block].mlp.gate == nil ? [.mlpInput(block: block)] : [.mlpInput(block: block), .mlpGate(block: block)]
    case .final: [.unembedding]
    }
  }
}

extension Norm {
  /// The name, with the path where the two paths of an attention are in different states.
  package func name(at site: NormSite, in network: Network) -> String {
    switch site {
    case .attentionQueryKey(let block) where network[.attentionValue(block: block)] != self:
      "\(name) (queries and keys)"
    case .attentionValue(let block) where network[.attentionQueryKey(block: block)] != self: "\(name) (values)"
    default: name
    }
  }
}
