import Foundation
import NormFoldArithmetic
import NormFoldNetworks
import NormFoldVerify
import Testing

/// Every statistic against its formula, on random logits over a vocabulary that is not a whole number of blocks.
@Suite struct ComparisonStatisticsTests {
  /// Three blocks of the vocabulary, the last one short; tokens on both sides of each border.
  private static let vocabularySize = 4_999
  private static let tokens = [0, 2_047, 2_048, 4_095, 4_096, 4_998]
  private static let probes = [
    Probe(name: "a", tokens: [0, 2_047, 4_998, 2_048]), Probe(name: "b", tokens: [4_096, 4_095]),
  ]

  private struct Case {
    let reference: [[Double]]
    let candidate: [[Double]]
    let outcome: NetworkDifference
    let comparison: Comparison

    /// Logits by the tokens of the probes, in their order.
    var pairs: [([Double], [Double])] {
      probes.flatMap(\.tokens).map { token in
        let row = tokens.firstIndex(of: token) ?? 0
        return (reference[row], candidate[row])
      }
    }

    /// The token that comes next, for each token of the probes.
    var nexts: [Int?] { probes.flatMap { $0.tokens.dropFirst().map { $0 } + [nil] } }

    init(seed: UInt64, noise: Double, shift: Double, spread: Double = 20) throws {
      var generator = TestGenerator(state: seed)
      let reference = tokens.map { _ in generator.values(vocabularySize, in: -spread...spread) }
      // A shift of its own for each token, that no probability sees.
      let candidate = reference.enumerated().map { row, logits in
        zip(logits, generator.values(vocabularySize, in: -noise...noise)).map { $0 + $1 + shift * Double(row - 2) }
      }
      comparison = try Comparison(
        of: [try LogitNetwork(candidate, of: tokens).candidate],
        with: try LogitNetwork(reference, of: tokens).candidate,
        on: probes)
      (self.reference, self.candidate) = (reference, candidate)
      outcome = comparison.outcomes[0]
    }
  }

  private func logProbabilities(_ logits: [Double]) -> [Double] {
    let largest = logits.max() ?? 0
    let logSum = largest + log(logits.reduce(0) { $0 + exp($1 - largest) })
    return logits.map { $0 - logSum }
  }

  private func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

  /// Sums of five thousand terms of order ten in double precision.
  private func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-11 }

  @Test(
    "Differences, log-probabilities, divergence, agreement and loss are their formulas",
    arguments: [
      (1, 0.5, 0), (2, 0.5, 3), (3, 1e-6, 100), (4, 30, -7), (5, 0, 2), (6, 1e-6, 0), (7, 9e-4, 0), (8, 1e-3, 0),
    ])
  func statistics(seed: UInt64, noise: Double, shift: Double) throws {
    let given = try Case(seed: seed, noise: noise, shift: shift)
    let found = given.outcome.logits
    let differences = given.pairs.map { zip($0, $1).map { $0 - $1 } }
    let logs = given.pairs.map { (logProbabilities($0), logProbabilities($1)) }
    let logDifferences = logs.map { zip($0, $1).map { $0 - $1 } }
    let divergences = logs.map { zip($0, $1).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) } }

    let largest = differences.flatMap { $0 }.map(abs).max() ?? 0
    #expect(found.largest == largest)
    #expect(found.relative == largest / (given.pairs.flatMap { $0.0 }.map(abs).max() ?? 0))
    #expect(isClose(found.rootMeanSquare, mean(differences.map { mean($0.map { $0 * $0 }) }).squareRoot()))
    #expect(isClose(found.largestLogProbability, logDifferences.flatMap { $0 }.map(abs).max() ?? 0))
    // The sum of squares is taken before the shift: what cancels is of the order of the shift squared.
    let meanSquare = mean(logDifferences.map { mean($0.map { $0 * $0 }) })
    #expect(
      abs(found.rootMeanSquareLogProbability * found.rootMeanSquareLogProbability - meanSquare) <= 1e-12
        * (1 + shift * shift * 10))
    #expect(isClose(found.meanDivergence, mean(divergences)))
    #expect(isClose(found.largestDivergence, divergences.max() ?? 0))
    let agreement = given.pairs.map { $0.firstIndex(of: $0.max() ?? 0) == $1.firstIndex(of: $1.max() ?? 0) ? 1.0 : 0 }
    #expect(found.top1Agreement == mean(agreement))

    func loss(_ logs: [[Double]]) -> Double {
      mean(zip(logs, given.nexts).compactMap { log, next in next.map { -log[$0] } })
    }
    #expect(isClose(try #require(found.referenceLoss), loss(logs.map(\.0))))
    #expect(isClose(try #require(found.loss), loss(logs.map(\.1))))
    #expect(found.tokenCount == 6)
    #expect(found.nonFiniteTokenCount == 0)

    let exponents = MagnitudeHistogram.exponents
    var counts = [Int](repeating: 0, count: exponents.count)
    for difference in differences.flatMap({ $0 }) {
      let exponent = difference == 0 ? exponents.lowerBound : Int(difference.exponent)
      counts[min(max(exponent, exponents.lowerBound), exponents.upperBound) - exponents.lowerBound] += 1
    }
    #expect(found.magnitudes.counts == counts)
    #expect(found.magnitudes.total == 6 * Self.vocabularySize)
    #expect(given.comparison.overflows.isEmpty)
  }

  @Test(
    "The divergence of close networks is its formula, whatever precision they are in",
    arguments: [
      (9e-4, 0, .double), (9e-4, 0, .single), (2e-3, 0, .double), (2e-3, 0, .single), (2e-3, -60, .single),
      (0.7, 0, .single), (2e-3, 300, .double),
    ] as [(Double, Double, Precision)])
  func close(noise: Double, shift: Double, precision: Precision) throws {
    var generator = TestGenerator(state: 12)
    func rounded(_ logits: [Double]) -> [Double] { logits.map { Double(Float($0)) } }
    let reference = Self.tokens.map { _ in rounded(generator.values(Self.vocabularySize, in: -8...8)) }
    let candidate = reference.map { logits in
      rounded(zip(logits, generator.values(Self.vocabularySize, in: -noise...noise)).map { $0 + $1 + shift })
    }
    let networks = try (
      LogitNetwork(reference, of: Self.tokens).network, LogitNetwork(candidate, of: Self.tokens).network
    )
    let comparison = try Comparison(
      of: [.init(name: "candidate", network: networks.1, precision: precision)],
      with: .init(name: "reference", network: networks.0, precision: precision), on: Self.probes)
    let divergences = Self.probes.flatMap(\.tokens).map { token in
      let row = Self.tokens.firstIndex(of: token) ?? 0
      return zip(logProbabilities(reference[row]), logProbabilities(candidate[row])).reduce(0) {
        $0 + exp($1.0) * ($1.0 - $1.1)
      }
    }
    let found = comparison.outcomes[0].logits
    #expect(abs(found.meanDivergence / mean(divergences) - 1) < 2e-6)
    #expect(abs(found.largestDivergence / (divergences.max() ?? 0) - 1) < 2e-6)
  }

  @Test(
    "The worst place is named: probe, position, vocabulary entry, both logits",
    arguments: [0, 2_047, 2_048, 4_095, 4_096, 4_998])
  func worst(entry: Int) throws {
    var generator = TestGenerator(state: 9)
    let reference = Self.tokens.map { _ in generator.values(Self.vocabularySize, in: -5...5) }
    var candidate = reference
    candidate[5][entry] += 0.25
    candidate[0][7] -= 0.125
    let comparison = try Comparison(
      of: [try LogitNetwork(candidate, of: Self.tokens).candidate],
      with: try LogitNetwork(reference, of: Self.tokens).candidate, on: Self.probes)
    let worst = comparison.outcomes[0].logits.worst
    #expect((worst.probe, worst.position, worst.token) == ("a", 2, entry))
    #expect((worst.expected, worst.found) == (reference[5][entry], candidate[5][entry]))
  }

  @Test(
    "A magnitude counts with its power of two; what is off the scale counts at its ends",
    arguments: [
      (0, 0), (1e-300, 0), (0x1p-80, 0), (0x1.8p-79, 1), (-0x1p-79, 1), (1, 80), (-1.999, 80), (2, 81), (40_000, 95),
      (1e300, 95), (.infinity, 95),
    ])
  func magnitude(value: Double, bin: Int) { #expect(MagnitudeHistogram.bin(of: value) == bin) }

  @Test("The likeliest token is told by its place in the whole vocabulary, not in a block of it")
  func topToken() throws {
    var reference = [Double](repeating: 0, count: Self.vocabularySize)
    var candidate = reference
    reference[5] = 1
    candidate[2_048 + 5] = 1
    let comparison = try Comparison(
      of: [try LogitNetwork([candidate], of: [0]).candidate, try LogitNetwork([reference], of: [0]).candidate],
      with: try LogitNetwork([reference], of: [0]).candidate, on: [Probe(name: "one", tokens: [0])])
    #expect(comparison.outcomes.map(\.logits.top1Agreement) == [0, 1])
  }

  @Test("Without a next token there is no loss")
  func noLoss() throws {
    let network = try LogitNetwork([[1, 2, 3]], of: [1])
    let comparison = try Comparison(
      of: [network.candidate], with: network.candidate, on: [Probe(name: "one", tokens: [1])])
    #expect(comparison.outcomes[0].logits.loss == nil)
    #expect(comparison.outcomes[0].logits.referenceLoss == nil)
  }

  @Test("Logits far from zero do not overflow the sums")
  func farFromZero() throws {
    let reference = try LogitNetwork([[10_000, 9_999, -10_000]], of: [0])
    let candidate = try LogitNetwork([[-20_000, -20_001, -40_000]], of: [0])
    let comparison = try Comparison(
      of: [candidate.candidate], with: reference.candidate, on: [Probe(name: "one", tokens: [0])])
    let found = comparison.outcomes[0].logits
    #expect(found.largest == 30_000)
    #expect(abs(found.meanDivergence) <= 1e-11)
    #expect(abs(found.largestLogProbability) <= 1e-11)
  }

  @Test("Several candidates keep their order")
  func order() throws {
    let reference = try LogitNetwork([[1, 2, 3]], of: [0])
    let others = try [0.5, 0, 2].map { try LogitNetwork([[1 + $0, 2, 3]], of: [0]).candidate }
    let comparison = try Comparison(of: others, with: reference.candidate, on: [Probe(name: "one", tokens: [0])])
    #expect(comparison.outcomes.map(\.logits.largest) == [0.5, 0, 2])
    #expect(comparison.largestLogit == 3)
  }
}
