import Formats

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
    /// By contender.
    var pairs: [DifferenceAccumulator]
  }

  /// The contenders that are the reference again.
  private let references: [Int]
  /// By run, the reference first: which of the tokens it sees.
  private let seen: [Range<Int>]

  init(probes: [Probe], contenders: [Comparison.Contender]) {
    self.probes = probes
    references = contenders.indices.filter { contenders[$0].isReference }
    let ends = probes.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.tokens.count) }
    seen = ([nil] + contenders.map(\.onlyProbe)).map { $0.map { ends[$0]..<ends[$0 + 1] } ?? 0..<ends[probes.count] }
    places = probes.flatMap { probe in
      probe.tokens.indices.map { index in
        (probe, probe.positions[index], index + 1 < probe.tokens.count ? probe.tokens[index + 1] : nil)
      }
    }
    tokens = Array(
      repeating: Token(
        distributions: Array(repeating: .init(), count: contenders.count + 1),
        pairs: Array(repeating: .init(), count: contenders.count)),
      count: places.count)
  }

  /// Tokens that one thread takes at a time.
  private static let chunk = 8

  /// - Parameter logits: for each run, [the tokens that it sees, range].
  mutating func add(_ logits: [[Double]], range: Range<Int>, workers: Workers) {
    let (places, seen) = (places, seen)
    tokens.withUnsafeMutableBufferPointer { tokens in
      // Each token is one thread's alone.
      nonisolated(unsafe) let tokens = tokens
      workers.forEach((tokens.count + Self.chunk - 1) / Self.chunk) { part in
        withUnsafeTemporaryAllocation(of: Double.self, capacity: range.count) { weights in
          for token in part * Self.chunk..<min((part + 1) * Self.chunk, tokens.count) {
            tokens[token].add(
              logits, rows: seen.map { $0.contains(token) ? token - $0.lowerBound : nil }, range: range,
              target: places[token].next, weights: weights)
          }
        }
      }
    }
  }

  /// The tokens on which the reference is finite in every precision that it was run in.
  var judged: [Int] { places.indices.filter(isJudged) }

  private func isJudged(_ token: Int) -> Bool {
    tokens[token].distributions[0].isFinite
      && references.allSatisfy { tokens[token].distributions[$0 + 1].isFinite }
  }

  var overflows: [Comparison.Overflow] {
    places.indices.filter { !isJudged($0) }.map { .init(probe: places[$0].probe.name, position: places[$0].position) }
  }

  var largestLogit: Double { judged.reduce(0) { max($0, tokens[$1].distributions[0].largestMagnitude) } }

  /// By contender.
  var differences: [LogitDifference] { (0..<seen.count - 1).map(difference) }

  private func difference(_ contender: Int) -> LogitDifference {
    let judged = judged.filter(seen[contender + 1].contains)
    let finite = judged.filter { tokens[$0].distributions[contender + 1].isFinite }
    let count = Double(finite.count)
    func pair(_ token: Int) -> DifferenceAccumulator { tokens[token].pairs[contender] }
    func shift(_ token: Int) -> Double {
      tokens[token].distributions[0].logSum - tokens[token].distributions[contender + 1].logSum
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
      topTokenAgreement: mean {
        tokens[$0].distributions[0].topToken == tokens[$0].distributions[contender + 1].topToken ? 1 : 0
      },
      loss: loss(contender + 1), referenceLoss: loss(0),
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

extension TokenStatistics.Token {
  /// - Parameters:
  ///   - logits: for each run; those of this token are the row that `rows` says, nil for a run that does not see it.
  ///   - weights: room for as many numbers as the range has.
  fileprivate mutating func add(
    _ logits: [[Double]], rows: [Int?], range: Range<Int>, target: Int?, weights: UnsafeMutableBufferPointer<Double>
  ) {
    func withLogits(of run: Int, _ body: (UnsafeBufferPointer<Double>) -> Void) {
      guard let row = rows[run] else { return }
      logits[run].withUnsafeBufferPointer {
        body(UnsafeBufferPointer(rebasing: $0[row * range.count..<(row + 1) * range.count]))
      }
    }
    for run in distributions.indices.reversed() {
      // The reference comes last, so that the weights are its own.
      withLogits(of: run) {
        distributions[run].add($0, first: range.lowerBound, target: target, weights: weights)
      }
    }
    guard distributions[0].isFinite else { return }
    for contender in pairs.indices where distributions[contender + 1].isFinite {
      withLogits(of: 0) { reference in
        withLogits(of: contender + 1) { candidate in
          pairs[contender].add(
            reference: reference, candidate: candidate, first: range.lowerBound,
            weights: UnsafeBufferPointer(weights), largestSoFar: distributions[0].largest)
        }
      }
    }
  }
}
