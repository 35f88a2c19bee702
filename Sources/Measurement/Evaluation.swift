import Glibc
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldProcesses

/// The cross-entropy of a text under a model, and how far another model is from it.
///
///     var evaluation = Evaluation(input)
///     evaluation.other = "out"
///     let report = try evaluation.run()
///     print(report.loss.perplexity, report.comparison?.meanDivergence ?? 0)
public struct Evaluation: Sendable, Encodable {
  public var input: MeasurementInput
  /// Another checkpoint that is run on the same tokens.
  public var other: String?
  /// Is true if norms are computed as the checkpoint's own runtime computes them, with the large epsilon of the published
  /// form, instead of as the linear maps that they mean.
  public var computesNormsAsStored = false
  /// Integers that the checkpoint is computed in. It is then held against itself in floating point.
  public var integers: IntegerArithmetic?
  /// Other integers beside those, each held against floating point likewise: what the width does.
  public var otherIntegers: [IntegerArithmetic] = []

  public init(_ input: MeasurementInput) { self.input = input }

  /// - Throws: what opening the checkpoints and reading the text throw; `.unsupported` for two vocabularies, and for integers
  ///   that the network cannot be computed in; `.usage` for integers and another checkpoint.
  public func run(progress: @escaping MeasurementInput.Progress = { _, _ in }) throws(Refusal) -> EvaluationReport {
    try run(in: SingleProcess(), progress: progress)
  }

  /// Runs the measurement as one of several processes, each of which has been given the same settings and gets the report.
  package func run(
    in processes: any ProcessGroup, progress: @escaping MeasurementInput.Progress = { _, _ in }
  ) throws(Refusal) -> EvaluationReport {
    let start = ContinuousClock.now
    let (models, networks, text) = try processes.together { () throws(Refusal) in try opened() }
    let scored =
      networks.map { ScoredNetwork(network: $0, precision: input.precision) }
      + arithmetics.map { ScoredNetwork(network: networks[0], precision: input.precision, integers: $0) }
    let groups = try text.concurrentlyByGroup(in: processes, workers: input.workers, progress: progress) {
      (chunks, workers, advance) throws(Refusal) in
      try GroupScores(of: chunks, under: scored, workers: workers, advance: advance)
    }
    try processes.together { () throws(Refusal) in
      for model in models { try model.checkpoint.requireIntact() }
    }
    let positions = groups.flatMap(\.positions)
    let statistics = scored.indices.map { network in
      LossStatistics(losses: groups.flatMap { $0.losses[network] }, positions: positions)
    }
    let comparisons = statistics.indices.dropFirst().map { number in
      Self.comparison(of: number, named: other ?? input.model, statistics, groups)
    }
    let comparison = comparisons.first
    func overflows(of number: Int) -> [IntegerOverflow] { groups.flatMap { $0.overflows[number] } }
    return EvaluationReport(
      model: input.model, texts: input.text.files, chunking: text.chunking, precision: input.precision,
      chunkCount: text.chunks.count, droppedTokenCount: text.droppedCount,
      loss: integers == nil ? statistics[0] : statistics[1], comparison: integers == nil ? comparison : nil,
      integers: integers.flatMap { arithmetic in
        comparison.map {
          IntegerEvaluation(
            arithmetic: arithmetic, floatLoss: statistics[0], differences: $0, overflows: overflows(of: 1))
        }
      },
      otherIntegers: arithmetics.indices.dropFirst().map { index in
        OtherIntegers(
          arithmetic: arithmetics[index], differences: comparisons[index], overflows: overflows(of: index + 1))
      },
      warnings: models.flatMap(\.warnings), seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// The integers that the checkpoint is computed in.
  private var arithmetics: [IntegerArithmetic] { integers.map { [$0] + otherIntegers } ?? [] }

  /// Opens the checkpoints and the text.
  private func opened() throws(Refusal) -> (models: [Model], networks: [Network], text: MeasuredText) {
    guard integers == nil || other == nil else {
      throw Refusal(
        .usage, subject: other, "is not compared in integers",
        advice: "leave out \(.other) or \(.integers): in integers, a model is compared with itself in floating point")
    }
    let second = try other.map { (path) throws(Refusal) in try openOther(path) }
    let text = try MeasuredText(input, fitting: second?.network.contextLength ?? .max)
    let models = [text.model] + (second.map { [$0] } ?? [])
    let networks = models.map { computesNormsAsStored ? $0.literalNetwork ?? $0.network : $0.network }
    guard Set(networks.map(\.vocabularySize)).count == 1 else {
      throw Refusal(
        .unsupported, file: other,
        "has a vocabulary of \(networks[1].vocabularySize), "
          + "\(input.model) of \(networks[0].vocabularySize)",
        advice: "only models with the same vocabulary can be compared")
    }
    for arithmetic in arithmetics { try arithmetic.requireForm(of: networks[0]) }
    return (models, networks, text)
  }

  /// Opens the other model. The reading options are about the model itself, and are not used for it.
  private func openOther(_ path: String) throws(Refusal) -> Model {
    var options = ReadingOptions()
    options.temporaryDirectory = input.readingOptions.temporaryDirectory
    let model = try Model(continuing: path, options: options)
    try model.checkpoint.checkIntegrity()
    return model
  }

  /// The difference of a network from the first.
  private static func comparison(
    of number: Int, named name: String, _ statistics: [LossStatistics], _ groups: [GroupScores]
  ) -> EvaluationReport.ModelComparison {
    let differences = groups.map { $0.differences[number - 1] }
    let judged = differences.reduce(0) { $0 + $1.judgedCount }
    func mean(_ value: (ModelDifference) -> Double) -> Double {
      differences.reduce(0) { $0 + value($1) } / Double(judged)
    }
    return EvaluationReport.ModelComparison(
      model: name, loss: statistics[number], lossDifference: statistics[number].mean - statistics[0].mean,
      meanDivergence: mean(\.divergenceSum),
      largestDivergence: differences.reduce(0) { max($0, $1.largestDivergence) },
      meanJensenShannon: mean(\.jensenShannonSum), top1Agreement: mean { Double($0.agreementCount) },
      unjudgedTokenCount: statistics[0].tokenCount - judged)
  }
}

/// A network, and what it is computed in.
private struct ScoredNetwork: Sendable {
  let network: Network
  let precision: Precision
  var integers: IntegerArithmetic?
  /// The integers of the weights, for all groups of chunks.
  private let known = IntegerWeights()

  init(network: Network, precision: Precision, integers: IntegerArithmetic? = nil) {
    (self.network, self.precision, self.integers) = (network, precision, integers)
  }

  func run(_ probes: [Probe], workers: Workers) -> any NetworkRun {
    if let integers { return integers.run(network, probes: probes, precision: precision, known: known) }
    return switch precision {
    case .single: ScalarRun<Float>(network, probes: probes, workers: workers)
    case .double: ScalarRun<Double>(network, probes: probes, workers: workers)
    }
  }
}

/// Sums over tokens of how two networks' distributions differ.
private struct ModelDifference {
  var judgedCount = 0
  var divergenceSum = 0.0
  var largestDivergence = 0.0
  var jensenShannonSum = 0.0
  var agreementCount = 0
}

/// The scores of one group of chunks under each network.
private struct GroupScores: MeasuredGroup {
  /// The position of each scored token.
  let positions: [Int]
  /// [network][scored token]; NaN where the network is not finite.
  let losses: [[Double]]
  /// The differences of the other networks from the first.
  private(set) var differences: [ModelDifference]
  /// By network: the overflows of those that are computed in integers.
  let overflows: [[IntegerOverflow]]

  /// Logits of this many vocabulary entries are in memory at a time: with the 4,096 tokens of a group, 16 MiB for each
  /// network in single precision.
  private static let vocabularyBlock = 1_024

  init(
    of chunks: [Chunk], under networks: [ScoredNetwork], workers: Workers, advance: MeasuredText.Advance
  ) throws(Refusal) {
    let probes = chunks.map(\.probe)
    // The last step is the unembedding.
    let stepCount = networks.reduce(1) { $0 + $1.network.blockCount }
    var step = 0
    var runs: [any NetworkRun] = []
    for network in networks {
      let run = network.run(probes, workers: workers)
      try run.embed()
      for block in 0..<run.blockCount {
        try run.run(block: block)
        step += 1
        advance(step, stepCount)
      }
      try run.finish()
      runs.append(run)
    }
    // Rows that predict nothing scored are left out.
    var rows: [ScoredRow] = []
    var start = 0
    for chunk in chunks {
      for position in chunk.firstScored..<chunk.tokens.count {
        rows.append(
          ScoredRow(
            row: start + position - 1, position: position, target: chunk.tokens[position], networkCount: networks.count)
        )
      }
      start += chunk.tokens.count
    }
    positions = rows.map(\.position)

    let vocabularySize = networks[0].network.vocabularySize
    unsafe Self.forEachRow(&rows, of: runs, vocabularySize: vocabularySize, workers: workers) {
      row, logits, range, weights in
      // The first comes last, so that the weights are its own.
      for network in unsafe logits.indices.reversed() {
        unsafe row.distributions[network].add(
          logits[network], first: range.lowerBound, target: row.target, weights: weights)
      }
      guard row.isFinite else { return }
      for network in unsafe logits.indices.dropFirst() {
        unsafe row.differences[network - 1].add(
          reference: logits[0], candidate: logits[network], first: range.lowerBound,
          weights: UnsafeBufferPointer(weights), largestSoFar: row.distributions[0].largest)
      }
    }
    losses = networks.indices.map { network in
      rows.map { $0.distributions[network].isFinite ? $0.distributions[network].loss ?? .nan : .nan }
    }
    // Before logits are computed once more.
    overflows = runs.map { ($0 as? any IntegerNetworkRun)?.overflows ?? [] }
    differences = networks.dropFirst().map { _ in ModelDifference() }
    guard networks.count > 1 else {
      advance(stepCount, stepCount)
      return
    }

    var judged = rows.filter(\.isFinite)
    for index in differences.indices {
      for row in judged {
        let (first, second) = (row.distributions[0], row.distributions[index + 1])
        let divergence = row.differences[index].divergence(shift: first.logSum - second.logSum)
        differences[index].divergenceSum += divergence
        differences[index].largestDivergence = max(differences[index].largestDivergence, divergence)
        differences[index].agreementCount += first.topToken == second.topToken ? 1 : 0
      }
      differences[index].judgedCount = judged.count
    }
    // Half of both are mixed as probabilities, for which the sums over the whole vocabulary must be known: the logits
    // are computed again, since those of all tokens would not fit into memory.
    unsafe Self.forEachRow(&judged, of: runs, vocabularySize: vocabularySize, workers: workers) { row, logits, _, _ in
      unsafe row.jensenShannon += Self.jensenShannon(
        logits[0], row.distributions[0].logSum, logits[1], row.distributions[1].logSum)
    }
    differences[0].jensenShannonSum = judged.reduce(0) { $0 + $1.jensenShannon }
    advance(stepCount, stepCount)
  }

  var numbers: [Double] {
    var result = [Double(losses.count), Double(positions.count)] + positions.map { Double($0) } + losses.joined()
    for difference in differences {
      result += [
        Double(difference.judgedCount), difference.divergenceSum, difference.largestDivergence,
        difference.jensenShannonSum, Double(difference.agreementCount),
      ]
    }
    for overflows in overflows {
      result.append(Double(overflows.count))
      for overflow in overflows {
        result.append(Double(overflow.count))
        result.append(text: overflow.path)
      }
    }
    return result
  }

  init(numbers: [Double]) {
    var reader = NumberReader(numbers[...])
    let (networkCount, count) = (reader.int(), reader.int())
    positions = reader.array(of: count).map { Int($0) }
    losses = (0..<networkCount).map { _ in reader.array(of: count) }
    differences = (1..<networkCount).map { _ in
      ModelDifference(
        judgedCount: reader.int(), divergenceSum: reader.number(), largestDivergence: reader.number(),
        jensenShannonSum: reader.number(), agreementCount: reader.int())
    }
    overflows = (0..<networkCount).map { _ in
      (0..<reader.int()).map { _ in
        let count = reader.int()
        return IntegerOverflow(path: reader.text(), count: count)
      }
    }
  }

  /// One token's logits, and the token that they predict.
  private struct ScoredRow {
    /// The index of the token's row among the rows of the group.
    let row: Int
    let position: Int
    let target: Int
    /// By network.
    var distributions: [DistributionAccumulator]
    /// The differences of the other networks from the first.
    var differences: [DifferenceAccumulator]
    var jensenShannon = 0.0

    init(row: Int, position: Int, target: Int, networkCount: Int) {
      (self.row, self.position, self.target) = (row, position, target)
      distributions = Array(repeating: .init(), count: networkCount)
      differences = Array(repeating: .init(), count: networkCount - 1)
    }

    var isFinite: Bool { distributions.allSatisfy(\.isFinite) }
  }

  /// Rows that one task goes through.
  private static let rowsPerTask = 16

  /// Calls `body` with each row, its logits under each network, the range of the vocabulary that these are of, and memory for
  /// as many numbers, one range after the other.
  private static func forEachRow(
    _ rows: inout [ScoredRow], of runs: [any NetworkRun], vocabularySize: Int, workers: Workers,
    _ body:
      @Sendable (
        _ row: inout ScoredRow, _ logits: [UnsafeBufferPointer<Double>], _ range: Range<Int>,
        _ memory: UnsafeMutableBufferPointer<Double>
      ) -> Void
  ) {
    for start in stride(from: 0, to: vocabularySize, by: vocabularyBlock) {
      let range = start..<min(start + vocabularyBlock, vocabularySize)
      let logits = runs.map { $0.logits(of: range) }
      unsafe rows.withUnsafeMutableBufferPointer { rows in
        // Each row is one thread's alone.
        nonisolated(unsafe) let rows = unsafe rows
        unsafe workers.forEachPart(of: rows.count, size: rowsPerTask) { part in
          let capacity = (logits.count + 1) * vocabularyBlock
          unsafe withUnsafeTemporaryAllocation(of: Double.self, capacity: capacity) { memory in
            let rooms = unsafe (0...logits.count).map {
              unsafe UnsafeMutableBufferPointer(rebasing: memory[$0 * vocabularyBlock..<($0 + 1) * vocabularyBlock])
            }
            for index in part {
              let lines = unsafe logits.indices.map { unsafe logits[$0].row(rows[index].row, room: rooms[$0]) }
              unsafe body(&rows[index], lines, range, rooms[logits.count])
            }
          }
        }
      }
    }
  }

  /// The part of ½KL(p ‖ m) + ½KL(q ‖ m), m = (p + q)/2, that a range of the vocabulary adds.
  private static func jensenShannon(
    _ first: UnsafeBufferPointer<Double>, _ firstLogSum: Double, _ second: UnsafeBufferPointer<Double>,
    _ secondLogSum: Double
  ) -> Double {
    var sum = 0.0
    for index in 0..<first.count {
      let p = unsafe exp(first[index] - firstLogSum)
      let q = unsafe exp(second[index] - secondLogSum)
      guard p + q > 0 else { continue }
      let logMixture = log((p + q) / 2)
      // The limit of p·ln p at 0 is 0.
      if p > 0 { unsafe sum += p * (first[index] - firstLogSum - logMixture) }
      if q > 0 { unsafe sum += q * (second[index] - secondLogSum - logMixture) }
    }
    return sum / 2
  }
}
