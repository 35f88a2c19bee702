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
    package let reason: String
  }

  /// The network before.
  package let source: Network
  /// The network after, every parameter a recipe over the source's tensors.
  package let folded: Network
  /// What was folded, in the order of computation.
  package let steps: [Step]
  /// Sites whose norm stays, because the target has it stay.
  package let kept: [NormSite]

  package struct Options: Sendable {
    /// Fixed norms that stay in the network, because the target cannot hold what their folding needs: a vocabulary
    /// bias for the last norm.
    package var keptSites: Set<NormSite> = []

    package init(keptSites: Set<NormSite> = []) { self.keptSites = keptSites }
  }

  /// - Throws: `.notFoldable` with every site whose norm cannot become part of a linear map, and why; `.nonFinite`
  ///   for a deviation that is not a positive number.
  package init(folding network: Network, options: Options = .init()) throws(Refusal) {
    var folded = network
    var steps: [Step] = []
    var kept: [NormSite] = []
    var obstacles: [(norm: String, reason: String)] = []
    for (site, norm) in network.norms {
      if options.keptSites.contains(site) {
        kept.append(site)
        continue
      }
      switch norm.deviation {
      case .fixed(let deviation):
        try Self.check(deviation, of: norm)
        for reader in site.readers {
          folded[reader] = folded[reader].absorbing(
            kind: norm.kind, gain: norm.gain, deviation: deviation, bias: norm.bias)
        }
        folded[site] = nil
        steps.append(Step(norm: norm.name, sites: [site], readers: site.readers, reason: "deviation fixed"))
      case .computed(let epsilon):
        obstacles.append(
          (norm.name(at: site, in: network), "deviation computed from the activations (epsilon \(epsilon.formula))"))
      case .perPosition:
        obstacles.append((norm.name(at: site, in: network), "another deviation at each position"))
      case .perToken:
        obstacles.append((norm.name(at: site, in: network), "another deviation for the end-of-text token"))
      }
    }
    if let first = obstacles.first { throw Self.refusal(obstacles, of: network, first: first) }
    source = network
    self.folded = folded
    self.steps = Self.merged(steps)
    self.kept = kept
  }

  /// σ must be positive and finite in every feature: dividing by anything else is not a norm.
  private static func check(_ deviation: Parameter, of norm: Norm) throws(Refusal) {
    for (feature, value) in ParameterReader(deviation).values().enumerated() where !(value > 0 && value.isFinite) {
      throw Refusal(
        .nonFinite, subject: norm.name, "the deviation of feature \(feature) is \(value), expected a positive number",
        advice: "the training run that wrote it diverged or was not finished")
    }
  }

  private static func refusal(
    _ obstacles: [(norm: String, reason: String)], of network: Network, first: (norm: String, reason: String)
  ) -> Refusal {
    let isOrdinary = network.norms.allSatisfy { if case .computed = $0.norm.deviation { true } else { false } }
    if isOrdinary {
      return Refusal(
        .notFoldable, subject: first.norm,
        "this is an ordinary GPT-2: all its norms are computed (\(first.reason)), so none is a linear map",
        advice: "remove its LayerNorms by fine-tuning first (arXiv 2409.13710)")
    }
    let list = obstacles.map { "\($0.norm): \($0.reason)" }.joined(separator: "; ")
    return Refusal(
      .notFoldable, "\(obstacles.count) norm\(obstacles.count == 1 ? " is" : "s are") not a linear map: \(list)",
      advice: "finish the removal")
  }

  /// The two paths of an attention that were folded alike are one step.
  private static func merged(_ steps: [Step]) -> [Step] {
    var result: [Step] = []
    for step in steps {
      if let last = result.last, last.norm == step.norm {
        result[result.count - 1] = Step(
          norm: last.norm, sites: last.sites + step.sites, readers: last.readers + step.readers, reason: last.reason)
      } else {
        result.append(step)
      }
    }
    return result
  }
}

extension NormSite {
  /// The linear maps that read the output of a norm at this site.
  package var readers: [Role.Map] {
    switch self {
    case .attentionQueryKey(let block): [.query(block: block), .key(block: block)]
    case .attentionValue(let block): [.value(block: block)]
    case .mlp(let block): [.mlpInput(block: block)]
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
