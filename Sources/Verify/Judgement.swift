import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// A candidate held against a reference: how far the two are apart in double precision, how far the candidate is in the
/// precision that it is for, and whether that is within what rounding costs the reference itself.
///
///     let judgement = report.judgement
///     print(judgement.holds, judgement.single.logits.largest, judgement.limits.logits)
public struct Judgement: Sendable, Codable {
  /// The candidate may be off by so many times the reference's own rounding noise. Its difference and that noise are
  /// extremes of the same kind of noise over the same tokens; over the fixtures their ratio stays below 2.
  public static let noiseFactor = 4.0

  /// Every part of the candidate as it is stored against the reference's; nil for a program whose numbers are not known.
  package var parts: PartsClaim?
  /// The candidate before any rounding against the reference, both in double precision.
  public var double: NetworkDifference
  /// The candidate as its runtime computes it against the reference in double precision.
  public var single: NetworkDifference
  /// The reference in the candidate's precision, its weights rounded to the same types, against itself in double precision.
  public var noise: NetworkDifference
  /// On ``single``.
  public var limits: Limits
  /// Is true if the candidate holds the reference's own matrices in blocks, whose rounding costs both the same.
  public var holdsReferenceMatrices: Bool
  /// Is true if the logits of each position may all be off by one constant, which no probability can see: the limits
  /// are then on ``LogitDifference/largestLogProbability``.
  public var isUpToShift: Bool
  /// The task, which says what the compared outputs are.
  package var task: Task
  /// The candidate against the reference on the long probes, both in single precision; nil without such probes, and for a
  /// program.
  public var long: LongOutcome?

  /// The candidate as its runtime computes it against its own weights in double precision, where it is beyond ``limits`` and
  /// every part is proved: what rounding did to the weights is known then, and the arithmetic alone is left to look at. Nil
  /// elsewhere.
  public var ownWeights: LongOutcome?

  /// The first number that is too large for the type which a program computes in, where its run does not hold; nil where
  /// all of them fit.
  public var overflow: ProgramOverflow?

  /// Is true if every part that was compared holds.
  package var partsHold: Bool { parts?.holds ?? true }
  /// Is true if every part was compared, so that nothing depends on the choice of probes.
  package var isComplete: Bool { parts?.isComplete ?? false }
  /// Is true if the candidate as its runtime computes it is within ``limits`` on the precise probes, or if
  /// ``ownWeights`` holds: the candidate is then off by nothing but what its proved weights are off by.
  public var runHolds: Bool { limits.hold(for: single.logits) || ownWeights?.holds == true }
  public var holds: Bool { partsHold && runHolds }

  /// The noun for one of the compared numbers, for messages.
  package var noun: String { task == .features ? "state" : "logit" }

  /// The difference that was found in one run, and its limits: on the probes that are run in single precision only
  /// (``long``), or against the candidate's own weights on the precise probes (``ownWeights``).
  public struct LongOutcome: Sendable, Codable {
    public var single: NetworkDifference
    /// On ``single``: what the precise probes allow, plus what single precision costs the reference on them.
    public var limits: Limits

    public var holds: Bool { limits.hold(for: single.logits) }

    private enum CodingKeys: String, CodingKey {
      case single = "written"
      case limits
    }
  }

  /// A network or program that is held against a reference.
  package struct Candidate: Sendable {
    package let name: String
    /// The recipes before any rounding.
    package let exact: Network
    /// The network or program that the runtime computes.
    package let model: WrittenModel
    /// The type its matrices are stored in, where it is a program that does not say.
    package let type: ElementType
    /// The activation that the runtime computes instead of the reference's, where it was allowed to; nil elsewhere.
    package let approximation: Activation?
    /// Is true if the logits of each position may differ from the reference's by a constant.
    package let isUpToShift: Bool
    /// The differences that are allowed besides the rounding of the candidate's weights.
    package let allowance: Allowance

    package init(
      name: String, exact: Network, model: WrittenModel, type: ElementType, approximation: Activation? = nil,
      isUpToShift: Bool = false, allowance: Allowance = .conversion
    ) {
      self.name = name
      self.exact = exact
      self.model = model
      self.type = type
      self.approximation = approximation
      self.isUpToShift = isUpToShift
      self.allowance = allowance
    }

    /// Is true if its runtime computes norms whose epsilon makes them nearly linear, where linear ones are meant.
    fileprivate var isLiteral: Bool {
      guard case .network(let network, let meant) = model else { return false }
      return network.norms.map(\.norm.deviation) != meant.norms.map(\.norm.deviation)
    }

    /// The network that the candidate's parts are read from; nil for a program whose numbers are not known.
    var stored: Network? {
      switch model {
      case .network(_, let meant): meant
      case .program(let program): program.storing(exact)
      }
    }
  }
}

extension Judgement {
  /// Is true if the run is beyond its limits although every weight is the reference's up to the rounding of its type.
  fileprivate var isExplainedByParts: Bool { partsHold && isComplete && !limits.hold(for: single.logits) }

  /// Returns a note for readers about a network that amplifies the rounding of its weights; nil where it does not.
  package func noteOnRounding(of name: String, largestLogit: Double) -> Message? {
    guard let ownWeights, ownWeights.holds else { return nil }
    let found = single.logits.largest(upToShift: isUpToShift)
    let times = found / noise.logits.largest(upToShift: isUpToShift)
    return
      "\(name): rounding moves a \(noun) by up to \((found / largestLogit).text(.significant(2))) of the largest, \(times.text(.significant(2))) times as far "
      + "as it moves the source's; every weight is within the rounding of its type, so that it is the network that "
      + "amplifies it: take \(.type, "f32") where that matters"
  }
}

/// Judgements of several candidates against one reference, on the same tokens.
package struct Judgements: Sendable {
  package var judgements: [Judgement]
  /// The difference of the reference, as its own runtime computes it, from what the reference means; nil where the two
  /// are the same.
  package var literal: NetworkDifference?
  /// The tokens on which the reference itself overflows.
  package var overflows: [String]
  package var largestLogit: Double
  package var tokenCount: Int
  package var probes: [String]

  /// The number of tokens that a program is run on at most, which computes node by node, and the reference as it is stored:
  /// a few show as much as more.
  private static let shortTokenCount = 16

  /// - Parameters:
  ///   - reference: the network that the others are held against.
  ///   - name: what messages call it.
  ///   - literal: the network that the reference's own runtime computes, where that differs.
  /// - Throws: what the networks throw; `.nonFinite` where the reference overflows on every token, or on every token
  ///   that a program is run on.
  package init(
    of candidates: [Judgement.Candidate], against reference: Network, named name: String, literal: Network?,
    on probes: ProbeSet, workers: Workers = .all, progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(Refusal) {
    let run = JudgementRun(reference, named: name, literal: literal, candidates: candidates, workers: workers)
    var precise = probes.precise
    // A program that is not causal counts positions by itself, so that none can be left out; among its probes is a short
    // one.
    let shortProbe = precise.lastIndex { $0.tokens.count <= Self.shortTokenCount } ?? 0
    let programProbe: Int
    if let lengths = candidates.compactMap(\.lengthsWithoutPositions).first {
      programProbe = precise.probeFromStart(ofAbout: Self.shortTokenCount, within: lengths)
    } else if candidates.contains(where: \.isProgram), reference.isCausal {
      programProbe = precise.shortProbe(ofAtMost: Self.shortTokenCount)
    } else {
      programProbe = shortProbe
    }
    // Where candidates are computed as they are stored, too, what that costs the reference is a part of their limits.
    let literalProbe =
      candidates.contains(where: \.isLiteral) ? nil : precise.farProbe(ofAtMost: Self.shortTokenCount)
    func outcome(_ precise: [Probe], long: [Probe]) throws(Refusal) -> JudgementRun.Result {
      try run.result(
        on: precise, long: long, programProbe: programProbe, literalProbe: literalProbe, progress: progress)
    }
    var result = try outcome(precise, long: probes.long)
    if result.judgements.contains(where: { $0.long?.holds == false }) {
      // Beyond the limit in single precision, where the reference rounds too: double precision says what is right.
      precise += probes.long
      result = try outcome(precise, long: [])
    }
    judgements = result.judgements
    if let literal = result.literal {
      for index in candidates.indices where candidates[index].isLiteral {
        judgements[index].limits = judgements[index].limits.widened(by: literal.logits)
      }
    }
    for (index, candidate) in candidates.enumerated() {
      judgements[index].parts = candidate.stored.map {
        // What one of the two does not give away is no part of what both compute.
        let isShared = $0.sideOutputs.count == reference.sideOutputs.count
        return PartsClaim(
          of: isShared ? $0 : $0.withoutSideOutputs(), against: isShared ? reference : reference.withoutSideOutputs(),
          allowance: candidate.allowance, approximation: candidate.approximation,
          isUpToShift: candidate.isUpToShift, workers: workers)
      }
      if case .program(let program) = candidate.model, let limitation = program.limitation {
        judgements[index].parts?.notCompared.append(limitation)
      }
      if case .program(let program as any CuttableProgram) = candidate.model, var parts = judgements[index].parts {
        try CutComparison(program: program, network: program.network).add(to: &parts)
        judgements[index].parts = parts
      }
    }
    for (index, candidate) in candidates.enumerated() where judgements[index].isExplainedByParts {
      guard let stored = candidate.stored else { continue }
      var own = try JudgementRun.againstOwnWeights(
        candidate, stored: stored, on: precise, programProbe: programProbe, workers: workers)
      // A program computes in the type of its weights, too, which costs about what rounding these costs.
      if candidate.isProgram { own.limits = judgements[index].limits.widened(by: own.noise) }
      // Norms that are nearly linear cost its own weights what they cost the reference's.
      if candidate.isLiteral, let literal = result.literal { own.limits = own.limits.widened(by: literal.logits) }
      judgements[index].ownWeights = .init(single: own.single, limits: own.limits)
    }
    for (index, candidate) in candidates.enumerated() where !judgements[index].runHolds {
      guard case .program(let program) = candidate.model else { continue }
      judgements[index].overflow = unsafe try program.overflow(
        on: precise[programProbe], product: workers.matrixProduct)
    }
    self.literal = result.literal
    overflows = result.overflows.map(\.description)
    largestLogit = result.largestLogit
    let judged = judgements.contains { $0.long != nil } ? precise + probes.long : precise
    tokenCount = judged.reduce(0) { $0 + $1.tokens.count } - overflows.count
    self.probes = judged.map { "\($0.name) (\($0.tokens.count))" }
    guard tokenCount > 0, judgements.allSatisfy({ $0.single.logits.judgedTokenCount > 0 }) else {
      throw Refusal(
        .nonFinite,
        "the logits of \(name) are themselves NaN or infinite on every probe, in double or single precision, so there is "
          + "nothing to hold another network against",
        advice: "check the weights")
    }
  }
}

/// A source of noise that may cost the reference as much as it costs a candidate: the types that the candidate is
/// stored in, and the activation of its runtime where that is not the reference's.
private struct NoiseSource: Hashable {
  let storage: Storage
  let approximation: Activation?
  /// Is true if the noise is measured for a program: the reference is then run on the probe that the program is run on.
  var isForProgram = false

  func candidate(_ reference: Network, name: String, programProbe: Int) -> Comparison.Candidate {
    var network = reference
    if let approximation {
      network = network.mappingOperations { _, operation in
        if case .activate = operation { .activate(approximation) } else { operation }
      }
    }
    var candidate = Comparison.Candidate(
      name: name, network: network, precision: .single,
      rounding: storage.isSinglePrecision ? nil : storage)
    candidate.isReference = true
    if isForProgram { candidate.onlyProbe = programProbe }
    return candidate
  }
}

/// Everything that takes part in a judgement.
private struct JudgementRun {
  struct Result {
    let judgements: [Judgement]
    let literal: NetworkDifference?
    let overflows: [Comparison.Overflow]
    let largestLogit: Double
  }

  let reference: Network
  let name: String
  let literal: Network?
  let candidates: [Judgement.Candidate]
  let workers: Workers
  /// By candidate: what its noise is measured by, the types of the file first.
  let noisesOfCandidates: [[NoiseSource]]
  let noises: [NoiseSource]

  init(
    _ reference: Network, named name: String, literal: Network?, candidates: [Judgement.Candidate], workers: Workers
  ) {
    self.reference = reference
    self.name = name
    self.literal = literal
    self.candidates = candidates
    self.workers = workers
    noisesOfCandidates = candidates.map { $0.noiseSources(of: reference) }
    noises = noisesOfCandidates.joined().reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }

  /// Holds what a runtime computes of a candidate against what its weights mean.
  static func againstOwnWeights(
    _ candidate: Judgement.Candidate, stored: Network, on probes: [Probe], programProbe: Int, workers: Workers
  ) throws(Refusal) -> (single: NetworkDifference, limits: Limits, noise: LogitDifference) {
    let own = Judgement.Candidate(name: candidate.name, exact: stored, model: candidate.model, type: .f32)
    let run = JudgementRun(stored, named: candidate.name, literal: nil, candidates: [own], workers: workers)
    let found = try run.result(
      on: probes, long: [], programProbe: programProbe, literalProbe: nil, progress: { _, _ in }
    ).judgements[0]
    return (found.single, found.limits, found.noise.logits)
  }

  /// Runs all candidates on the precise probes, and those that are networks on more tokens, too.
  ///
  /// - Parameters:
  ///   - long: what is run in single precision only.
  ///   - programProbe: the index of the probe that programs are run on.
  ///   - literalProbe: the index of the probe that the reference as it is stored is run on; nil for all.
  func result(
    on precise: [Probe], long: [Probe], programProbe: Int, literalProbe: Int?,
    progress: @Sendable (_ done: Int, _ total: Int) -> Void
  ) throws(Refusal) -> Result {
    let exact = candidates.map { Comparison.Candidate(name: $0.name, network: $0.exact, precision: .double) }
    let rounded = candidates.map { $0.comparisonCandidate(programProbe: programProbe) }
    let noisy = noises.map { $0.candidate(reference, name: name, programProbe: programProbe) }
    let stored = literal.map {
      var candidate = Comparison.Candidate(name: "\(name) as stored", network: $0, precision: .double)
      candidate.onlyProbe = literalProbe
      return candidate
    }
    var requests = [
      Comparison.Request(
        of: exact + rounded + noisy + (stored.map { [$0] } ?? []),
        with: Comparison.Candidate(name: name, network: reference, precision: .double), on: precise)
    ]
    let networks = candidates.filter { !$0.isProgram }.map { $0.comparisonCandidate(programProbe: nil) }
    if !long.isEmpty, !networks.isEmpty {
      requests.append(
        .init(of: networks, with: Comparison.Candidate(name: name, network: reference, precision: .single), on: long))
    }
    let results = try Comparison.results(of: requests, workers: workers, progress: progress)
    let whole = results[0]
    var longOutcomes = results.dropFirst().first?.outcomes[...]
    let judgements = candidates.enumerated().map { index, candidate in
      let single = whole.outcomes[candidates.count + index]
      let sources = noisesOfCandidates[index]
      func noise(_ source: NoiseSource) -> NetworkDifference {
        whole.outcomes[2 * candidates.count + (noises.firstIndex(of: source) ?? 0)]
      }
      let ofTypes = noise(sources[0])
      let limits = Limits(
        noise: noise(sources[sources.count - 1]).logits, rounded: sources.count > 1 ? ofTypes.logits : nil,
        factor: Judgement.noiseFactor, largestLogit: whole.largestLogit, isUpToShift: candidate.isUpToShift,
        task: reference.task)
      return Judgement(
        double: whole.outcomes[index], single: single, noise: ofTypes, limits: limits,
        holdsReferenceMatrices: sources.count > 1, isUpToShift: candidate.isUpToShift, task: reference.task,
        long: candidate.isProgram
          ? nil
          : longOutcomes?.popFirst().map { .init(single: $0, limits: limits.widened(by: ofTypes.logits)) })
    }
    return Result(
      judgements: judgements, literal: stored == nil ? nil : whole.outcomes.last, overflows: whole.overflows,
      largestLogit: whole.largestLogit)
  }
}

extension Judgement.Candidate {
  fileprivate var isProgram: Bool { if case .program = model { true } else { false } }

  /// The lengths of sequences, in tokens, that are taken by a program that counts positions by itself; nil for all
  /// other candidates.
  fileprivate var lengthsWithoutPositions: ClosedRange<Int>? {
    guard case .program(let program) = model, !program.takesPositions else { return nil }
    return program.sequenceLengths
  }

  /// Returns the candidate as it takes part in a comparison: a network in single precision, or a program on one probe.
  fileprivate func comparisonCandidate(programProbe: Int?) -> Comparison.Candidate {
    switch model {
    case .network(let network, _): return .init(name: name, network: network, precision: .single)
    case .program(let program):
      var candidate = Comparison.Candidate(name: name, program: program)
      candidate.onlyProbe = programProbe
      return candidate
    }
  }

  /// Returns the sources of noise that the candidate's limits are measured by: the reference in the candidate's types,
  /// and, where the candidate holds the reference's own matrices in blocks, the reference in single precision.
  fileprivate func noiseSources(of reference: Network) -> [NoiseSource] {
    guard case .network(let network, _) = model else {
      return [NoiseSource(storage: Storage(type).ofFoldedWeights, approximation: approximation, isForProgram: true)]
    }
    let storage = Storage(of: network)
    // Types without blocks may round vectors, too, which a storage does not.
    guard storage.hasBlocks, exact.hasMatrices(of: reference), network.hasAttentionScales(of: reference) else {
      return [NoiseSource(storage: storage.ofFoldedWeights, approximation: approximation)]
    }
    return [storage, Storage(.f32)].map { NoiseSource(storage: $0, approximation: approximation) }
  }
}

extension [Probe] {
  /// Returns the index of a probe of at most `count` tokens that goes as far as any. Where there is none, the longest is
  /// added once more, cut to so many tokens from the whole of it.
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

  /// Adds a probe whose tokens stand at their places in the sequence: the first ones of the longest probe, again and again
  /// where the sequence must be longer. An image has all its patches at their places already.
  fileprivate mutating func probeFromStart(ofAbout count: Int, within lengths: ClosedRange<Int>) -> Int {
    if let image = firstIndex(where: { !$0.pixels.isEmpty }) { return image }
    guard let longest = self.max(by: { $0.tokens.count < $1.tokens.count }), !longest.tokens.isEmpty else { return 0 }
    let length = Swift.max(Swift.min(count, longest.tokens.count, lengths.upperBound), lengths.lowerBound)
    let tokens = (0..<length).map { longest.tokens[$0 % longest.tokens.count] }
    append(Probe(name: longest.name + ", from its start", tokens: tokens))
    return self.count - 1
  }

  /// Returns the index of a probe of at most `count` tokens that goes as far as any.
  fileprivate func farProbe(ofAtMost count: Int) -> Int? {
    let farthest = compactMap(\.positions.last).max()
    return firstIndex { $0.tokens.count <= count && $0.positions.last == farthest }
  }
}

extension LogitDifference {
  /// The largest difference that counts: of any logit, or, where the logits of a position may all shift by one constant,
  /// of any log-probability.
  package func largest(upToShift: Bool) -> Double { upToShift ? largestLogProbability : largest }

  /// Returns whether every judged token is finite and off by at most `limit`. NaN is not within anything.
  package func isWithin(_ limit: Double, upToShift: Bool = false) -> Bool {
    tokenCount > 0 && nonFiniteTokenCount == 0 && largest(upToShift: upToShift) <= limit
  }
}

extension Network {
  /// Returns whether every map multiplies by the same recipe as in another network.
  fileprivate func hasMatrices(of other: Network) -> Bool {
    linearMaps.map(\.map.weight) == other.linearMaps.map(\.map.weight)
  }

  /// Returns whether attention multiplies its scores by the same factors as in another network. Where they differ, a
  /// factor has become part of the queries of one of the two.
  fileprivate func hasAttentionScales(of other: Network) -> Bool {
    attentions.map(\.attention.scale) == other.attentions.map(\.attention.scale)
  }
}
