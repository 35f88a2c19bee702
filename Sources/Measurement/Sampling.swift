import Glibc
import NormFoldArithmetic

/// The way in which a token is chosen from the logits.
///
///     generation.sampling.temperature = 0.8
///     generation.sampling.topP = 0.95
///     generation.sampling.seed = 7
public struct Sampling: Sendable, Encodable {
  /// The divisor of the logits; 0 takes the top-1 token.
  public var temperature = 0.0
  /// Only this many of the most probable tokens; nil for all.
  public var topK: Int?
  /// Only the most probable tokens that together are at least so probable; nil for all.
  public var topP: Double?
  public var seed: UInt64 = 1

  /// The top-1 token always.
  public static let greedy = Sampling()

  public init() {}
}

/// Draws tokens, one after the other.
package struct Sampler {
  private let sampling: Sampling
  private var generator: SplitMix64

  package init(_ sampling: Sampling) {
    self.sampling = sampling
    generator = SplitMix64(state: sampling.seed)
  }

  /// - Parameter logits: finite, of the whole vocabulary.
  package mutating func choose(_ logits: [Double]) -> Int {
    guard sampling.temperature > 0 else {
      // The first of equals.
      return logits.indices.max { logits[$0] < logits[$1] || logits[$0] == logits[$1] && $0 > $1 } ?? 0
    }
    var tokens = Array(logits.indices)
    if sampling.topK != nil || sampling.topP != nil {
      tokens.sort { logits[$0] > logits[$1] || logits[$0] == logits[$1] && $0 < $1 }
    }
    if let topK = sampling.topK { tokens.removeLast(max(0, tokens.count - max(1, topK))) }
    let largest = tokens.reduce(-Double.infinity) { max($0, logits[$1]) }
    var weights = tokens.map { exp((logits[$0] - largest) / sampling.temperature) }
    if let topP = sampling.topP {
      let total = weights.reduce(0, +)
      var sum = 0.0
      let kept = weights.firstIndex { weight in
        sum += weight
        return sum >= topP * total
      }
      weights.removeLast(weights.count - 1 - (kept ?? weights.count - 1))
    }
    var left = Double.random(in: 0..<1, using: &generator) * weights.reduce(0, +)
    for (index, weight) in weights.enumerated() {
      left -= weight
      if left < 0 { return tokens[index] }
    }
    return tokens[weights.count - 1]
  }
}
