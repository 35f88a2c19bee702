import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// Statistics of every token of every run.
struct TokenStatistics {
  let probes: [Probe]
  /// For each token: its probe, its position, and the token that comes next.
  let places: [(probe: Probe, position: Int, next: Int?)]
  private var tokens: [Token]

  /// One token in every run.
  fileprivate struct Token {
    /// By run, the reference first.
    var distributions: [DistributionAccumulator]
    /// By candidate.
    var pairs: [DifferenceAccumulator]
    /// By candidate, where the numbers of a token are a direction; empty elsewhere.
    var angles: [AngleAccumulator]
  }

  /// The candidates that are the reference again.
  private let references: [Int]
  /// By run, the reference first.
  private let slices: [SharedRuns.RunSlice]
  /// Is true if the reference was computed in single precision: the exponentials of its logits are then computed in
  /// single precision, too, since they need not be known any better.
  private let isSingle: Bool
  /// The task, which says what the numbers of a token are.
  private let task: Task

  /// - Parameter slices: where the activations of the reference and the candidates are, the reference first.
  init(_ request: Comparison.Request, slices: [SharedRuns.RunSlice]) {
    probes = request.probes
    self.slices = slices
    isSingle = request.reference.isSingle
    let task = request.reference.task ?? .generation
    self.task = task
    let candidates = request.candidates
    references = candidates.indices.filter { candidates[$0].isReference }
    places = probes.flatMap { probe in
      probe.tokens.indices.map { index in
        (probe, probe.positions[index], index + 1 < probe.tokens.count ? probe.tokens[index + 1] : nil)
      }
    }
    tokens = Array(
      repeating: Token(
        distributions: Array(repeating: .init(), count: candidates.count + 1),
        pairs: Array(repeating: .init(), count: candidates.count),
        angles: task == .features ? Array(repeating: .init(), count: candidates.count) : []),
      count: places.count)
  }

  /// Tokens that one thread takes at a time, at most.
  private static let largestChunk = 8

  /// The logits of each run for a range of the vocabulary.
  typealias Block = (logits: [MatrixRows], range: Range<Int>)

  /// - Parameter blocks: one behind the other.
  mutating func add(_ blocks: [Block], workers: Workers) {
    if isSingle {
      add(blocks, workers: workers, weighedIn: Float.self)
    } else {
      add(blocks, workers: workers, weighedIn: Double.self)
    }
  }

  private mutating func add<Weight: ArithmeticScalar>(
    _ blocks: [Block], workers: Workers, weighedIn _: Weight.Type
  ) {
    let (places, slices) = (places, slices)
    let chunk = max(1, min(Self.largestChunk, tokens.count / (2 * workers.count)))
    unsafe tokens.withUnsafeMutableBufferPointer { tokens in
      // Each token is one thread's alone.
      nonisolated(unsafe) let tokens = unsafe tokens
      unsafe workers.forEach((tokens.count + chunk - 1) / chunk) { part in
        for (logits, range) in blocks {
          var workspace = TokenWorkspace<Weight>(runs: slices.count, width: range.count)
          defer { workspace.deallocate() }
          for token in unsafe part * chunk..<min((part + 1) * chunk, tokens.count) {
            for (run, slice) in slices.enumerated() {
              unsafe workspace.rows[run] =
                unsafe slice.tokens.contains(token)
                ? logits[slice.run].row(
                  slice.rows.lowerBound + token - slice.tokens.lowerBound, room: workspace.lines[run])
                : nil
            }
            unsafe tokens[token].add(workspace, first: range.lowerBound, target: places[token].next)
          }
        }
      }
    }
  }

  /// The tokens on which the reference is finite in every precision that it was run in.
  var judged: [Int] { places.indices.filter { isAnswer($0) && isJudged($0) } }

  /// Returns whether the token has an answer of its own. Where a network gives one answer for a sequence, every token
  /// has the answer of the first, and only the first one counts.
  private func isAnswer(_ token: Int) -> Bool {
    !task.isPerSequence || token == 0 || places[token].probe != places[token - 1].probe
  }

  private func isJudged(_ token: Int) -> Bool {
    tokens[token].distributions[0].isFinite
      && references.allSatisfy { tokens[token].distributions[$0 + 1].isFinite }
  }

  var overflows: [Comparison.Overflow] {
    places.indices.filter { isAnswer($0) && !isJudged($0) }.map {
      .init(probe: places[$0].probe.name, position: places[$0].position)
    }
  }

  var largestLogit: Double { judged.reduce(0) { max($0, tokens[$1].distributions[0].largestMagnitude) } }

  /// By candidate.
  var differences: [LogitDifference] { (0..<slices.count - 1).map(difference) }

  private func difference(_ candidate: Int) -> LogitDifference {
    let judged = judged.filter(slices[candidate + 1].tokens.contains)
    let finite = judged.filter { tokens[$0].distributions[candidate + 1].isFinite }
    let count = Double(finite.count)
    func pair(_ token: Int) -> DifferenceAccumulator { tokens[token].pairs[candidate] }
    func shift(_ token: Int) -> Double {
      tokens[token].distributions[0].logSum - tokens[token].distributions[candidate + 1].logSum
    }
    func largest(_ value: (Int) -> Double) -> Double { finite.reduce(0) { max($0, value($1)) } }
    func mean(_ value: (Int) -> Double) -> Double { finite.reduce(0) { $0 + value($1) } / count }
    func loss(_ run: Int) -> Double? {
      let losses = finite.compactMap { tokens[$0].distributions[run].loss }
      return losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count)
    }
    let worst = finite.max { pair($0).largest < pair($1).largest }
    // With nothing to judge every number is NaN, and no limit holds.
    let nothing = finite.isEmpty ? Double.nan : 0
    return LogitDifference(
      largest: largest { pair($0).largest } + nothing,
      relative: largest { pair($0).largest } / largestLogit + nothing,
      rootMeanSquare: mean { pair($0).meanSquare }.squareRoot(),
      largestLogProbability: largest { pair($0).largestLogProbability(shift: shift($0)) } + nothing,
      rootMeanSquareLogProbability: mean { pair($0).meanSquareLogProbability(shift: shift($0)) }.squareRoot(),
      meanDivergence: mean { pair($0).divergence(shift: shift($0)) },
      largestDivergence: largest { pair($0).divergence(shift: shift($0)) } + nothing,
      top1Agreement: mean {
        tokens[$0].distributions[0].topToken == tokens[$0].distributions[candidate + 1].topToken ? 1 : 0
      },
      cosineDistance: task == .features
        ? largest { tokens[$0].angles[candidate].cosineDistance } + nothing : nil,
      loss: task == .generation ? loss(candidate + 1) : nil, referenceLoss: task == .generation ? loss(0) : nil,
      worst: .init(
        probe: worst.map { places[$0].probe.name } ?? "none", position: worst.map { places[$0].position } ?? 0,
        token: worst.map { pair($0).worstToken } ?? 0, expected: worst.map { pair($0).worstExpected } ?? .nan,
        found: worst.map { pair($0).worstFound } ?? .nan),
      magnitudes: MagnitudeHistogram(
        counts: finite.reduce(into: MagnitudeHistogram().counts) { counts, token in
          for (bin, count) in pair(token).magnitudeCounts.enumerated() { counts[bin] += Int(count) }
        }),
      tokenCount: finite.count, nonFiniteTokenCount: judged.count - finite.count)
  }
}

/// Memory in which one thread looks at one token's logits.
@safe private struct TokenWorkspace<Weight: ArithmeticScalar> {
  /// By run: where its logits are converted to, if they have to be.
  let lines: [UnsafeMutableBufferPointer<Double>]
  /// By run; nil for one that does not see the token.
  var rows: [UnsafeBufferPointer<Double>?]
  /// exp(logit − the largest so far) of the reference, and of a network that is far from it.
  let weights: UnsafeMutableBufferPointer<Weight>
  let others: UnsafeMutableBufferPointer<Weight>

  init(runs: Int, width: Int) {
    unsafe lines = unsafe (0..<runs).map { _ in .allocate(capacity: width) }
    unsafe rows = unsafe Array(repeating: nil, count: runs)
    unsafe weights = .allocate(capacity: width)
    unsafe others = .allocate(capacity: width)
  }

  func deallocate() {
    unsafe lines.forEach { unsafe $0.deallocate() }
    unsafe weights.deallocate()
    unsafe others.deallocate()
  }
}

extension TokenStatistics.Token {
  fileprivate mutating func add<Weight: ArithmeticScalar>(_ workspace: TokenWorkspace<Weight>, first: Int, target: Int?)
  {
    guard let reference = unsafe workspace.rows[0] else { return }
    unsafe distributions[0].add(reference, first: first, target: target, weights: workspace.weights)
    for candidate in pairs.indices {
      guard let row = unsafe workspace.rows[candidate + 1],
        unsafe distributions[candidate + 1].look(at: row, first: first, target: target), distributions[0].isFinite
      else { continue }
      if !angles.isEmpty { unsafe angles[candidate].add(reference: reference, candidate: row) }
      let offset = distributions[0].largest
      let weights = unsafe UnsafeBufferPointer(workspace.weights)
      let sum = unsafe pairs[candidate].add(
        reference: reference, candidate: row, first: first, weights: weights, largestSoFar: offset)
      if let sum {
        distributions[candidate + 1].add(exponentials: sum, offset: offset)
      } else if let shifted = unsafe pairs[candidate].exponentials(
        reference: reference, candidate: row, weights: weights)
      {
        distributions[candidate + 1].add(exponentials: shifted.sum, offset: offset - shifted.shift)
      } else {
        unsafe distributions[candidate + 1].add(exponentialsOf: row, memory: workspace.others)
      }
    }
  }
}
