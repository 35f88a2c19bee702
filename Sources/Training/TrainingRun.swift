import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses
import Numerics

/// A record of one step of a run.
///
///     for record in report.records where !record.fixed.isEmpty { print(record.step, record.fixed, record.loss) }
public struct TrainingRecord: Sendable, Equatable, Encodable {
  public let step: Int
  public let rate: Double
  /// The cross entropy, in nats, without the auxiliary term.
  public let loss: Double
  /// The auxiliary term without its weight.
  public let auxiliary: Double
  /// Before clipping.
  public let gradientNorm: Double
  /// The sites that were fixed before the step.
  public let fixed: [String]
}

/// A network on its way through a removal, step by step. Everything that a step does follows from the recipe, the tokens
/// and the state: parameters, moments, deviations, and the number of steps that were taken.
package final class TrainingRun<Scalar: ArithmeticScalar> {
  package let recipe: Recipe
  package let parameters: TrainedParameters<Scalar>
  package private(set) var step: Int
  /// By the norm's name: the moving mean of √(variance + ε), or where the norm is fixed what it divides by.
  package private(set) var deviations: [String: Double]
  private let tokens: TrainingTokens
  /// Sequences at the end of the text that are not trained on.
  private let heldOutCount: Int
  private let order: TokenOrder
  let workers: Workers
  private let recomputesBlocks: Bool
  package let processes: any ProcessGroup
  /// The integers that linear maps, embeddings and norms are computed in, forward and back; nil for floating point.
  private let integers: IntegerArithmetic?
  private let optimizer: AdamW
  /// Every site, in the order of the schedule's kinds and of the layers.
  private let sites: [Site]
  /// Each step makes matrices like those of the step before.
  private let memory = KeptMemory()
  /// The text that stands before the names of norms, and not before those of sites.
  private let prefix: String
  private let epsilons: [String: Double]

  /// - Parameters:
  ///   - network: every norm of which is computed.
  ///   - prefix: what stands before the names of norms.
  ///   - processes: those that share the micro-batches of a step.
  ///   - sharesMoments: whether each process keeps its share of the optimiser's moments only.
  ///   - integers: what linear maps, embeddings and norms are computed in; nil for floating point.
  /// - Throws: `.unsupported` for a network that cannot be trained; `.usage` where recipe, tokens, network, processes and
  ///   integers do not fit.
  package init(
    _ network: Network, namesAfter prefix: String, recipe: Recipe, tokens: TrainingTokens, workers: Workers,
    recomputesBlocks: Bool = false, processes: any ProcessGroup = SingleProcess(), sharesMoments: Bool = false,
    integers: IntegerArithmetic? = nil
  ) throws(Refusal) {
    try recipe.require(trainable: network)
    try integers?.requireForm(ofTraining: network, context: recipe.context)
    self.integers = integers
    guard processes.count <= recipe.microBatches else {
      throw Refusal(
        .usage, subject: "micro_batches",
        "expected one for each of the \(processes.count) processes, found \(recipe.microBatches)",
        advice: "start fewer processes, or cut a step into more micro-batches")
    }
    self.processes = processes
    self.recipe = recipe
    self.tokens = tokens
    // A run gives the same bits on any machine of its kind.
    self.workers = workers.cut(for: ProductTile.manyThreads)
    self.recomputesBlocks = recomputesBlocks
    self.prefix = prefix
    heldOutCount = recipe.validation?.sequences ?? 0
    guard heldOutCount == 0 || heldOutCount < tokens.count / recipe.context else {
      throw Refusal(
        .malformed, file: tokens.source,
        "has \(tokens.count / recipe.context) sequences, and \(heldOutCount) of them would be held out",
        advice: "give more text, or hold out less")
    }
    order = try TokenOrder(
      tokenCount: tokens.count - heldOutCount * recipe.context, context: recipe.context, shuffle: recipe.shuffle,
      source: tokens.source)
    optimizer = AdamW(
      betas: (recipe.betas[0], recipe.betas[1]), epsilon: recipe.adamEpsilon, weightDecay: recipe.weightDecay)
    (step, deviations) = (0, [:])
    let all = Self.sites(of: network, prefix: prefix)
    sites = Schedule.Kind.allCases.flatMap { kind in all.filter { $0.kind == kind } }
    epsilons = Dictionary(
      network.norms.compactMap { path, norm in
        if case .computed(let epsilon) = norm.deviation { (norm.name, epsilon) } else { nil }
      }
    ) { first, _ in first }
    parameters = TrainedParameters(
      of: network, workers: workers, momentShare: sharesMoments ? (processes.rank, processes.count) : (0, 1))
  }

  /// Goes on from a state that was saved, whose numbers are in ``parameters`` already.
  package func restore(step: Int, deviations: [String: Double]) { (self.step, self.deviations) = (step, deviations) }

  private static func sites(of network: Network, prefix: String) -> [Site] {
    var sites: [Site] = []
    for (path, norm) in network.norms {
      let name = norm.name.hasPrefix(prefix) ? String(norm.name.dropFirst(prefix.count)) : norm.name
      for reader in network.users(of: path) {
        let site = Site(norm: path, named: name, reader: reader.path)
        if !sites.contains(site) { sites.append(site) }
      }
    }
    return sites
  }

  private func site(_ norm: Path, _ reader: Path) -> Site {
    let name = parameters.network[norm: norm]?.name ?? ""
    return Site(
      norm: norm, named: name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name, reader: reader)
  }

  private func isFixed(_ site: Site, atStep step: Int) -> Bool {
    recipe.schedule?.step(of: site).map { $0 <= step } ?? false
  }

  /// The names of the sites that are fixed before a step.
  package func fixed(before step: Int) -> [String] {
    sites.filter { recipe.schedule?.step(of: $0) == step }.map(\.name)
  }

  /// Returns whether the deviation that a norm divides by does not change any more. Where values read the norm, the
  /// deviation changes until the norm is fixed for them.
  package func isFrozen(_ norm: String, atStep step: Int) -> Bool {
    let own = sites.filter { prefix + $0.norm == norm || $0.norm == norm }
    return (own.first { $0.kind == .values } ?? own.first).map { isFixed($0, atStep: step) } ?? false
  }

  /// The network as a step computes it.
  package func network(atStep step: Int) throws(Refusal) -> Network {
    var network = try parameters.network.settingDeviations { (path, reader) throws(Refusal) in
      guard let norm = parameters.network[norm: path] else { preconditionFailure("no norm at \(path)") }
      guard isFixed(site(path, reader), atStep: step) else { return norm.deviation }
      guard let deviation = deviations[norm.name] else { preconditionFailure("\(norm.name) was not measured") }
      return .fixed(.constant(deviation, shape: norm.gain.shape))
    }
    guard recipe.taper > 0 else { return network }
    for (path, norm) in network.norms where norm.isFixed {
      guard let reader = network.users(of: path).first, let start = recipe.schedule?.step(of: site(path, reader.path)),
        let epsilon = epsilons[norm.name]
      else { continue }
      let share = Self.taperedShare(of: step - start, in: recipe.taper)
      if share > 0 { network.blend(path, withComputed: share, epsilon: epsilon) }
    }
    return network
  }

  /// The share that the computed form still has in a norm that is going over to its constant: half a cosine, from below 1
  /// to above 0.
  static func taperedShare(of step: Int, in count: Int) -> Double {
    guard (0..<count).contains(step) else { return 0 }
    return (1 + .cos(.pi * Double(step + 1) / Double(count + 1))) / 2
  }

  /// Returns whether a norm is fixed for queries and keys, and for values, behind the steps that were taken.
  package func flags(of norm: String) -> (isFixed: Bool, isValueFixed: Bool) {
    let own = sites.filter { prefix + $0.norm == norm || $0.norm == norm }
    let others = own.filter { $0.kind != .values }.allSatisfy { isFixed($0, atStep: step - 1) }
    let values = own.filter { $0.kind == .values }.allSatisfy { isFixed($0, atStep: step - 1) }
    return (others, values)
  }

  /// The sequences of a micro-batch of a step.
  private func sequences(ofStep step: Int, microBatch: Int) throws(Refusal) -> [[Int]] {
    let first = (step * recipe.microBatches + microBatch) * recipe.batch
    return try sequences(at: (first..<first + recipe.batch).map { order.range(ofSequence: $0) })
  }

  private func sequences(at ranges: [Range<Int>]) throws(Refusal) -> [[Int]] {
    let vocabularySize = parameters.network.vocabularySize
    var sequences: [[Int]] = []
    for range in ranges {
      let sequence = tokens[range]
      if let place = sequence.firstIndex(where: { $0 >= vocabularySize }) {
        throw Refusal(
          .malformed, file: tokens.source,
          "token \(range.lowerBound + place) is \(sequence[place]), the model's vocabulary has \(vocabularySize)",
          advice: "use the ids of the model's own tokenizer")
      }
      sequences.append(sequence)
    }
    return sequences
  }

  /// The integers of the step that is next, with the weights as they are now.
  private var trainingIntegers: TrainingIntegers? { integers.flatMap { TrainingIntegers($0, step: step) } }

  /// The mean cross entropy of the sequences that are held out, every token counted, in the network as the last step
  /// computed it; nil where none are.
  package func heldOutLoss() throws(Refusal) -> Double? {
    guard heldOutCount > 0 else { return nil }
    let first = tokens.count / recipe.context - heldOutCount
    let ranges = processes.share(of: heldOutCount, rank: processes.rank).map { index in
      (first + index) * recipe.context..<(first + index + 1) * recipe.context
    }
    let measurement = TrainingStep(
      network: try network(atStep: step - 1), parameters: parameters, workers: workers,
      targetCount: heldOutCount * (recipe.context - 1), microBatchCount: 1, maskedTarget: nil, auxiliary: nil,
      measured: [:], recomputesBlocks: recomputesBlocks, integers: trainingIntegers)
    var sum = 0.0
    for start in stride(from: 0, to: ranges.count, by: recipe.batch) {
      sum += try measurement.loss(of: sequences(at: Array(ranges[start..<min(start + recipe.batch, ranges.count)])))
    }
    return try processes.sums(of: [sum])[0]
  }

  /// Computes the loss of the next step and its derivatives, which are then in ``parameters``. Each process runs a row of
  /// micro-batches; sums over processes follow.
  package func computeGradients() throws(Refusal) -> (loss: Double, auxiliary: Double, deviations: [String: Double]) {
    let network = try network(atStep: step)
    var batches: [[[Int]]] = []
    for microBatch in 0..<recipe.microBatches {
      batches.append(try sequences(ofStep: step, microBatch: microBatch))
    }
    let targetCount = batches.joined().reduce(0) { count, sequence in
      count + sequence.dropFirst().count { $0 != recipe.maskedTarget }
    }
    guard targetCount > 0 else {
      throw Refusal(.malformed, file: tokens.source, "step \(step) reads no token that is to be predicted")
    }
    parameters.beginGradients()
    let own = TrainingStep(
      network: network, parameters: parameters, workers: workers, targetCount: targetCount,
      microBatchCount: recipe.microBatches, maskedTarget: recipe.maskedTarget,
      auxiliary: recipe.auxiliaryWeight > 0
        ? parameters.network.node(at: "final.norm").map {
          AuxiliaryLoss(stream: $0.operands[0], weight: recipe.auxiliaryWeight, endOfText: recipe.endOfText)
        } : nil,
      measured: epsilons.filter { !isFrozen($0.key, atStep: step) }, recomputesBlocks: recomputesBlocks,
      integers: trainingIntegers)
    var sums = TrainingStep<Scalar>.Sums()
    for microBatch in processes.share(of: batches.count, rank: processes.rank) {
      try own.add(batches[microBatch], from: microBatch * recipe.batch, to: &sums)
    }
    parameters.endGradients(workers: workers)
    sums = try processes.sum(sums)
    unsafe try processes.sum(all: parameters.gradients.values)
    return (sums.loss, sums.auxiliary, sums.deviations.mapValues { $0.sum / Double($0.count) })
  }

  /// Takes the next step of the optimiser.
  ///
  /// - Throws: `.nonFinite` where loss or gradient are no numbers, and the parameters are as they were.
  package func advance() throws(Refusal) -> TrainingRecord {
    let fixed = fixed(before: step)
    let (loss, auxiliary, measured) = try computeGradients()
    let norm = AdamW.norm(ofGradientsOf: parameters, workers: workers)
    guard loss.isFinite, norm.isFinite else {
      throw Refusal(
        .nonFinite, subject: "step \(step)", "the loss is \(loss), the norm of the gradient \(norm)",
        advice: Message(lastSwitch.map { "the last norm that was fixed is \($0); " } ?? "")
          + "go on from an earlier checkpoint with a lower rate or larger gaps")
    }
    let rate = recipe.rate(atStep: step)
    optimizer.step(
      parameters, number: step + 1, rate: rate, clipping: min(1, recipe.clip / (norm + 1e-6)), workers: workers)
    try exchangeParameters()
    for (name, value) in measured {
      deviations[name] = deviations[name].map { recipe.momentum * $0 + (1 - recipe.momentum) * value } ?? value
    }
    defer { step += 1 }
    return TrainingRecord(
      step: step, rate: rate, loss: loss, auxiliary: auxiliary, gradientNorm: norm, fixed: fixed)
  }

  /// The site that was fixed last.
  package var lastSwitch: String? {
    sites.filter { isFixed($0, atStep: step) }.max {
      (recipe.schedule?.step(of: $0) ?? 0) < (recipe.schedule?.step(of: $1) ?? 0)
    }?.name
  }
}

extension Recipe {
  /// - Throws: `.unsupported` for a network that cannot be trained; `.usage` where recipe and network do not fit.
  package func require(trainable network: Network) throws(Refusal) {
    try network.requireTrainable()
    try require(fitting: network)
  }

  /// - Throws: `.usage` where a network cannot be trained so.
  private func require(fitting network: Network) throws(Refusal) {
    guard context <= network.contextLength else {
      throw Refusal(
        .usage, subject: "context",
        "expected at most \(network.contextLength) tokens, the model's context, found \(context)"
      )
    }
    if auxiliaryWeight > 0, network[norm: "final.norm"] == nil {
      throw Refusal(.usage, subject: "aux_weight", "expected 0, since the model has no last norm")
    }
    guard let schedule else { return }
    let present = Set(TrainingRun<Float>.kinds(of: network))
    if let kind = Schedule.Kind.allCases.first(where: { schedule.starts[$0] != nil && !present.contains($0) }) {
      throw Refusal(.usage, subject: "schedule.\(kind.rawValue)", "the model has no norm of this kind")
    }
    let layers = network.blockCount
    for (kind, start) in schedule.starts {
      let last = start.step + (kind == .last ? 0 : (layers - 1) * start.gap)
      guard last + taper < steps else {
        throw Refusal(
          .usage, subject: "schedule.\(kind.rawValue)",
          "the last of \(layers) layers would be fixed at step \(last + taper), and the run has \(steps)")
      }
    }
  }
}

extension TrainingRun {
  fileprivate static func kinds(of network: Network) -> [Schedule.Kind] { sites(of: network, prefix: "").map(\.kind) }
}

extension Network {
  /// - Throws: `.unsupported` where a part of the network has no pullback, or a norm would not become a part of linear maps
  ///   when it is fixed.
  func requireTrainable() throws(Refusal) {
    guard self[linear: output] != nil else {
      throw Refusal(.unsupported, subject: output.description, "the logits are no linear map of a residual stream")
    }
    for (path, norm) in norms {
      guard case .computed = norm.deviation, norm.kind != .crms else {
        throw Refusal(
          .unsupported, subject: norm.name, norm.kind == .crms ? "a CRMSNorm is not trained" : "is fixed already",
          advice: "start from the checkpoint from before the removal")
      }
      for reader in users(of: path) where self[linear: reader.path] == nil {
        throw Refusal(
          .unsupported, subject: norm.name,
          "is read by \(reader.operation.kind), which no fixed norm can be folded into",
          advice: "this works for networks whose norms stand before linear maps")
      }
    }
  }
}
