import Formats
import Networks

/// The three claims of a conversion, each with its numbers.
///
/// 1. *Algebra.* The source and the folded network, both in double precision, differ by rounding only.
/// 2. *File.* What was written holds, bit for bit, what was meant; whoever wrote it has checked that.
/// 3. *Arithmetic.* The written file, run in the precision that it is for, is as close to the source in double
///    precision as the source itself is in that precision, its matrices rounded to the types of the file: the limits (on
///    logits, Kullback-Leibler divergence and likeliest tokens) are measured on the precise probes, not picked. A program
///    is run on one of them, and so is the source that it is measured by.
package struct Verification: Sendable, Codable {
  /// The limit of the algebra claim, over the largest logit. Double rounding through the deepest GPT-2 stays
  /// four orders below it, a wrong fold eight above.
  package static let algebraLimit = 1e-9
  /// How many times the source's own rounding noise the written file may be off. Both are extremes of the same
  /// kind of noise over the same tokens; over the fixtures their ratio stays below 2.
  package static let noiseFactor = 4.0

  /// What holds of one output.
  package struct TargetClaims: Sendable, Codable {
    package var target: String
    /// The folded network against the source, both in double precision.
    package var algebra: Comparison.Outcome
    package var algebraHolds: Bool
    /// The written file against the source in double precision.
    package var written: Comparison.Outcome
    /// The source in the same precision, its weights rounded to the same types, against itself in double precision.
    package var noise: Comparison.Outcome
    /// On ``written``.
    package var limits: Limits
    /// Whether the file holds the source's own matrices in blocks, whose rounding costs both the same.
    package var holdsSourceMatrices: Bool
    package var arithmeticHolds: Bool
    /// Whether the logits of each position may all be off by one constant, which no probability can see: the limits are
    /// then on ``LogitDifference/largestLogProbability``.
    package var isUpToShift: Bool
    /// The written file against the source on the long probes, both in single precision; nil without such probes, and for
    /// a program.
    package var long: LongOutcome?
  }

  /// What was found on the probes that are run in single precision only.
  package struct LongOutcome: Sendable, Codable {
    package var written: Comparison.Outcome
    /// What the precise probes allow, plus what single precision costs the source on them.
    package var limits: Limits

    package var holds: Bool { limits.hold(for: written.logits) }
  }

  package var targets: [TargetClaims]
  /// How far the source as its own runtime computes it (with its large epsilon) is from the fixed norms that it means.
  package var literal: Comparison.Outcome?
  /// Tokens on which the source itself overflows.
  package var overflows: [String]
  package var largestLogit: Double
  package var tokenCount: Int
  package var probes: [String]

  package var holds: Bool { !targets.isEmpty && targets.allSatisfy { $0.algebraHolds && $0.arithmeticHolds } }

  /// Files that were written, opened again.
  package struct Written: Sendable {
    package let target: String
    /// The recipes that were written, before any rounding.
    package let folded: Network
    package let model: WrittenModel
    /// The type its matrices are stored in, where it is a program that does not say.
    package let type: ElementType
    /// What the runtime computes instead of the source's activation, where it was allowed to.
    package let approximation: Activation?
    /// Whether the logits of each position may differ from the source's by a constant.
    package let isUpToShift: Bool

    package init(
      target: String, folded: Network, model: WrittenModel, type: ElementType, approximation: Activation? = nil,
      isUpToShift: Bool = false
    ) {
      self.target = target
      self.folded = folded
      self.model = model
      self.type = type
      self.approximation = approximation
      self.isUpToShift = isUpToShift
    }

    /// What the file is held against: the source in its types, and where it holds the source's own matrices in blocks, in
    /// single precision.
    fileprivate func yardsticks(of source: Network) -> [Yardstick] {
      guard case .network(let network) = model else {
        return [Yardstick(storage: Storage(type).ofFoldedWeights, approximation: approximation, isOfProgram: true)]
      }
      let storage = Storage(of: network)
      // Types without blocks may round vectors, too, which a storage does not.
      guard storage.hasBlocks, folded.hasMatrices(of: source), network.hasAttentionScales(of: source) else {
        return [Yardstick(storage: storage.ofFoldedWeights, approximation: approximation)]
      }
      return [storage, Storage(.f32)].map { Yardstick(storage: $0, approximation: approximation) }
    }
  }

  /// What may cost the source as much as it costs a written file: the types of the file, and the activation of its runtime
  /// where that is another.
  fileprivate struct Yardstick: Hashable {
    let storage: Storage
    let approximation: Activation?
    /// Whether it measures a program: on the probe that the program is run on.
    var isOfProgram = false

    func contender(_ source: Network, name: String, programProbe: Int) -> Comparison.Contender {
      var network = source
      if let approximation {
        for block in network.blocks.indices { network.blocks[block].mlp.activation = approximation }
      }
      var contender = Comparison.Contender(
        name: name, network: network, precision: .single,
        rounding: storage.isSinglePrecision ? nil : storage)
      contender.isReference = true
      if isOfProgram { contender.onlyProbe = programProbe }
      return contender
    }
  }

  /// Tokens that a program is run on at most, which computes node by node, and the source as it is stored: a few show as
  /// much as more.
  private static let shortTokenCount = 16

  /// - Parameters:
  ///   - source: the network that the input means.
  ///   - name: what messages call it.
  ///   - literal: the network that the input's own runtime computes, where that differs.
  /// - Throws: what the networks throw; `.nonFinite` where the source overflows on every token, or on every token
  ///   that a program is run on.
  package init(
    source: Network, named name: String = "the source", literal: Network?, written: [Written], probes: ProbeSet,
    workers: Workers = .all, progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let run = Run(source: source, name: name, literal: literal, written: written, workers: workers)
    var precise = probes.precise
    let programProbe = written.contains { $0.isProgram } ? precise.shortProbe(ofAtMost: Self.shortTokenCount) : 0
    var outcome = try run.outcome(of: precise, long: probes.long, programProbe: programProbe, progress: progress)
    if outcome.targets.contains(where: { $0.long?.holds == false }) {
      // Beyond the limit in single precision, where the source rounds too: what is right is said by double precision.
      precise += probes.long
      outcome = try run.outcome(of: precise, programProbe: programProbe, progress: progress)
    }
    targets = outcome.targets
    overflows = outcome.overflows.map(\.description)
    largestLogit = outcome.largestLogit
    let isLong = targets.contains { $0.long != nil }
    let judged = isLong ? precise + probes.long : precise
    self.literal = outcome.literal
    tokenCount = judged.reduce(0) { $0 + $1.tokens.count } - overflows.count
    self.probes = judged.map { "\($0.name) (\($0.tokens.count))" }
    guard tokenCount > 0, targets.allSatisfy({ $0.written.logits.judgedTokenCount > 0 }) else {
      throw Refusal(
        .nonFinite,
        "the logits of \(name) are themselves NaN or infinite on every probe, in double or single precision, so there is "
          + "nothing to hold another network against",
        advice: "check the weights")
    }
  }

  /// What came of the probes.
  private struct Outcome {
    var targets: [TargetClaims]
    let literal: Comparison.Outcome?
    let overflows: [Comparison.Overflow]
    let largestLogit: Double
  }

  /// Everything that takes part.
  private struct Run {
    let source: Network
    let name: String
    let literal: Network?
    let written: [Written]
    let workers: Workers
    let reference: Comparison.Contender
    let perFile: [[Yardstick]]
    let yardsticks: [Yardstick]

    init(source: Network, name: String, literal: Network?, written: [Written], workers: Workers) {
      self.source = source
      self.name = name
      self.literal = literal
      self.written = written
      self.workers = workers
      reference = Comparison.Contender(name: name, network: source, precision: .double)
      perFile = written.map { $0.yardsticks(of: source) }
      yardsticks = perFile.joined().reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// All three claims; the third, for each file that is read as a network, on more tokens, too.
    /// - Parameters:
    ///   - long: what is run in single precision only.
    ///   - programProbe: the place of the probe that programs are run on.
    func outcome(
      of precise: [Probe], long: [Probe] = [], programProbe: Int,
      progress: @Sendable (_ done: Int, _ total: Int) -> Void
    ) throws(Refusal) -> Outcome {
      let noises = yardsticks.map { $0.contender(source, name: name, programProbe: programProbe) }
      let files = written.map { $0.contender(ofProgram: programProbe) }
      let folded = written.map { Comparison.Contender(name: $0.target, network: $0.folded, precision: .double) }
      let stored = literal.map {
        var contender = Comparison.Contender(name: "\(name) as stored", network: $0, precision: .double)
        contender.onlyProbe = precise.farProbe(ofAtMost: Verification.shortTokenCount)
        return contender
      }
      var questions = [
        Comparison.Question(of: folded + files + noises + (stored.map { [$0] } ?? []), with: reference, on: precise)
      ]
      let networks = written.filter { !$0.isProgram }.map { $0.contender() }
      if !long.isEmpty, !networks.isEmpty {
        questions.append(
          .init(
            of: networks, with: Comparison.Contender(name: name, network: source, precision: .single), on: long))
      }
      let answers = try Comparison.answers(to: questions, workers: workers, progress: progress)
      let whole = answers[0]
      var longOutcomes = answers.dropFirst().first?.outcomes[...]
      let targets = written.enumerated().map { index, file in
        let algebra = whole.outcomes[index]
        let outcome = whole.outcomes[written.count + index]
        func noise(_ yardstick: Yardstick) -> Comparison.Outcome {
          whole.outcomes[2 * written.count + (yardsticks.firstIndex(of: yardstick) ?? 0)]
        }
        let rounded = noise(perFile[index][0])
        let limits = Limits(
          noise: noise(perFile[index][perFile[index].count - 1]).logits,
          rounded: perFile[index].count > 1 ? rounded.logits : nil, factor: Verification.noiseFactor,
          largestLogit: whole.largestLogit, isUpToShift: file.isUpToShift)
        return TargetClaims(
          target: file.target, algebra: algebra,
          algebraHolds: algebra.logits.isWithin(
            Verification.algebraLimit * whole.largestLogit, upToShift: file.isUpToShift),
          written: outcome, noise: rounded, limits: limits, holdsSourceMatrices: perFile[index].count > 1,
          arithmeticHolds: limits.hold(for: outcome.logits), isUpToShift: file.isUpToShift,
          long: file.isProgram
            ? nil
            : longOutcomes?.popFirst().map { .init(written: $0, limits: limits.widened(by: rounded.logits)) })
      }
      return Outcome(
        targets: targets, literal: stored == nil ? nil : whole.outcomes.last, overflows: whole.overflows,
        largestLogit: whole.largestLogit)
    }
  }
}

extension Verification.Written {
  fileprivate var isProgram: Bool { if case .program = model { true } else { false } }

  /// What takes part for the file: a network in single precision, or a program on one probe.
  fileprivate func contender(ofProgram probe: Int? = nil) -> Comparison.Contender {
    switch model {
    case .network(let network): return .init(name: target, network: network, precision: .single)
    case .program(let program):
      var contender = Comparison.Contender(name: target, program: program)
      contender.onlyProbe = probe
      return contender
    }
  }
}

extension [Probe] {
  /// The place of a probe of at most `count` tokens that goes as far as any. Where there is none, the longest is added
  /// once more, cut to so many tokens from the whole of it.
  fileprivate mutating func shortProbe(ofAtMost count: Int) -> Int {
    if let found = farProbe(ofAtMost: count) { return found }
    guard let longest = self.max(by: { $0.tokens.count < $1.tokens.count }) else { return 0 }
    let indices = (0..<count).map { $0 * (longest.tokens.count - 1) / Swift.max(1, count - 1) }
    append(
      Probe(
        name: longest.name + ", in steps", tokens: indices.map { longest.tokens[$0] },
        positions: indices.map { longest.positions[$0] }))
    return self.count - 1
  }

  /// The place of a probe of at most `count` tokens that goes as far as any.
  fileprivate func farProbe(ofAtMost count: Int) -> Int? {
    let farthest = compactMap(\.positions.last).max()
    return firstIndex { $0.tokens.count <= count && $0.positions.last == farthest }
  }
}

extension LogitDifference {
  /// The largest difference that counts: of any logit, or, where the logits of a position may all shift by one constant,
  /// of any log-probability.
  package func largest(upToShift: Bool) -> Double { upToShift ? largestLogProbability : largest }

  /// Whether every judged token is finite and within `limit`. NaN is not within anything.
  package func isWithin(_ limit: Double, upToShift: Bool = false) -> Bool {
    tokenCount > 0 && nonFiniteTokenCount == 0 && largest(upToShift: upToShift) <= limit
  }
}

extension Network {
  /// Whether every map inside the blocks multiplies by the same recipe.
  fileprivate func hasMatrices(of other: Network) -> Bool {
    blocks.count == other.blocks.count
      && zip(blocks, other.blocks).allSatisfy { mine, theirs in
        mine.attention.query.weight == theirs.attention.query.weight
          && mine.attention.key.weight == theirs.attention.key.weight
          && mine.attention.value.weight == theirs.attention.value.weight
          && mine.attention.output.weight == theirs.attention.output.weight
          && mine.mlp.input.weight == theirs.mlp.input.weight && mine.mlp.output.weight == theirs.mlp.output.weight
          && mine.mlp.gate?.weight == theirs.mlp.gate?.weight
      } && unembedding.weight == other.unembedding.weight
  }

  /// Whether attention multiplies its scores by the same factors: others are in the queries of one of the two.
  fileprivate func hasAttentionScales(of other: Network) -> Bool {
    blocks.map(\.attention.scale) == other.blocks.map(\.attention.scale)
  }
}
