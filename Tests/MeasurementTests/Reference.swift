import TestSupport

/// What PyTorch measured on the passage (`fixtures/generate/measurements.py`).
struct Reference: Decodable {
  let tokens: [Int]
  let losses: [String: Losses]
  let prependedLoss: Double
  let stride48Loss: Double
  let comparison: Comparison
  let deviations: [String: [String: Deviation]]
  let diagnosis: [String: Diagnosis]
  let greedy: [String: [Int]]

  struct Losses: Decodable {
    let mean: Double
    let perplexity: Double
    let standardError: Double
    /// Of 0, 0.0005, 0.025, 0.5, 0.975, 0.9995 and 1.
    let quantiles: [Double]
    /// From position 1.
    let byPosition: [Double]
  }

  struct Comparison: Decodable {
    let divergence: Double
    let largestDivergence: Double
    let jensenShannon: Double
    let agreement: Double
  }

  struct Deviation: Decodable {
    let mean: Double
    let standardDeviation: Double
    let smallest: Double
    let largest: Double
    let pooled: Double
  }

  struct Diagnosis: Decodable {
    let entropy: [[Double]]
    let sinkAttention: [[Double]]
    let sinkQueryShare: [[Double]]
    let sinkRate: Double
    let positions: [[Int]]
    let meanNorm: [[Double]]
    let largestNorm: [[Double]]
  }

  static let passage = Fixtures.path("shakespeare-4x128/measured/passage.txt")

  static func read() throws -> Reference { try Fixtures.decode("shakespeare-4x128/measured/measured.json") }

  static func model(_ name: String) -> String { Fixtures.path("shakespeare-4x128/\(name)") }
}

/// The largest difference over the largest expected value; NaN where anything is NaN.
func relative(_ found: [Double], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .nan }
  let differences = zip(found, expected).map { abs($0 - $1) }
  // `max` would lose a NaN that numbers surround.
  guard let largest = differences.max(), !differences.contains(where: \.isNaN) else { return .nan }
  return largest / expected.reduce(0) { max($0, abs($1)) }
}
