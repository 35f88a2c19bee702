import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The loss of one optimiser step and its derivatives by all parameters, which are added up in
/// ``TrainedParameters/gradients`` micro-batch by micro-batch.
///
/// Work is cut at fixed sizes, and sums are taken in a fixed order, whoever does the work: the result has the same bits with
/// any number of threads.
struct TrainingStep<Scalar: ArithmeticScalar> {
  /// The network of this step, some of its norms fixed.
  let network: Network
  let parameters: TrainedParameters<Scalar>
  let workers: Workers
  /// The targets of the whole step that count, which the loss is the mean over.
  let targetCount: Int
  let microBatchCount: Int
  let maskedTarget: Int?
  let auxiliary: AuxiliaryLoss?
  /// The norms to measure, each with its ε, by name.
  let measured: [String: Double]
  let recomputesBlocks: Bool
  /// The integers that products are in; nil for floating point.
  var integers: TrainingIntegers?

  /// Sums of a step so far.
  struct Sums {
    var loss = 0.0
    var auxiliary = 0.0
    /// By the name of the norm: Σ √(variance + ε) and the number of tokens.
    var deviations: [String: (sum: Double, count: Int)] = [:]
  }

  func passes(of sequences: [[Int]], from first: Int) -> [SequencePass<Scalar>] {
    sequences.enumerated().map { index, tokens in
      SequencePass<Scalar>(network, tokens: tokens, workers: workers, integers: integers, number: first + index)
    }
  }

  /// Adds a micro-batch: sequences of one length.
  ///
  /// - Parameter first: the number of the first of them within the step.
  func add(_ sequences: [[Int]], from first: Int, to sums: inout Sums) throws(Refusal) {
    let passes = passes(of: sequences, from: first)
    let kept = network.keptValues(recomputesBlocks: recomputesBlocks)
    let records = passes.map { _ in DeviationSums() }
    try workers.forEach(passes.count) { (index) throws(Refusal) in
      try passes[index].run(keeping: kept) { _, norm, x in
        if let epsilon = measured[norm.name] { records[index].add(x, of: norm, epsilon: epsilon, workers: workers) }
      }
    }
    for record in records {
      for (name, value) in record.sums {
        let old = sums.deviations[name] ?? (0, 0)
        sums.deviations[name] = (old.sum + value.sum, old.count + value.count)
      }
    }
    sums.loss += try pullBackHead(passes)
    if let auxiliary {
      sums.auxiliary += try auxiliary.pullBack(passes, share: 1 / Double(microBatchCount)) / Double(microBatchCount)
    }
    // While derivatives by values go on to the norm before, those by the parameters that lie behind it are added up.
    var behind: [Found] = []
    for part in network.partsOnTheWayBack {
      let last = behind
      let (found, _) = try workers.both { () throws(Refusal) in
        try pullBack(part, passes)
      } _: { () throws(Refusal) in
        addDerivatives(last, of: passes)
      }
      behind = found
    }
    addDerivatives(behind, of: passes)
  }

  /// Runs the pullbacks of some operations, one behind the other.
  private func pullBack(_ nodes: [Network.Node], _ passes: [SequencePass<Scalar>]) throws(Refusal) -> [Found] {
    var found: [Found] = []
    for node in nodes {
      try workers.forEach(passes.count) { (index) throws(Refusal) in
        try passes[index].pullBack(node, parameters: parameters)
      }
      found.append((node, passes.map(\.found)))
    }
    return found
  }

  /// An operation and what its pullbacks found, one for each sequence.
  typealias Found = (node: Network.Node, derivatives: [ParameterDerivatives<Scalar>])
}

extension Network {
  /// The operations behind which logits are computed, from the last one back, in parts that end at a norm.
  fileprivate var partsOnTheWayBack: [[Node]] {
    var parts: [[Node]] = [[]]
    for node in nodes.reversed() where node.path != output {
      parts[parts.count - 1].append(node)
      if case .norm = node.operation { parts.append([]) }
    }
    return parts
  }

  /// Returns how many derivatives by a token's values there are at a time: those of the part that is on its way back, and
  /// those of the part behind it, which are still being multiplied.
  package var derivativeWidth: Int {
    let widths = partsOnTheWayBack.map { part in part.reduce(0) { $0 + width(of: $1.path) } }
    return zip(widths, widths.dropFirst()).map(+).max() ?? widths.reduce(0, +)
  }
}
