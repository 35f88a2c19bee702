import Glibc

/// Rotary positions (arXiv 2104.09864, section 3.4): at position p, features i and i + width/2 of each head of queries and
/// keys are rotated as a pair by the angle p · base^(−2i/width), so that their products depend on distances only. Features
/// from `width` on stay as they are.
///
/// Files that keep the two features of a pair side by side say so in their ``Layout``, or where only a part of each head is
/// rotated in ``pairsNeighbours``.
package struct Rotary: Hashable, Sendable {
  package var base: Double
  /// The number of features of each head that are rotated: an even number, at most the width of a head.
  package var width: Int
  /// The way in which the angles were changed for contexts that are longer than the trained one.
  package var scaling: Scaling
  /// Is true if features 2i and 2i + 1 are the pair i.
  package var pairsNeighbours: Bool

  package init(base: Double, width: Int, scaling: Scaling = .none, pairsNeighbours: Bool = false) {
    self.base = base
    self.width = width
    self.scaling = scaling
    self.pairsNeighbours = pairsNeighbours
  }

  /// The two features of a head that are a pair.
  package func features(ofPair pair: Int) -> (first: Int, second: Int) {
    pairsNeighbours ? (2 * pair, 2 * pair + 1) : (pair, pair + width / 2)
  }

  /// The scaling of the angles: what they are divided by. The names are those of Hugging Face transformers
  /// (`modeling_rope_utils.py`).
  package enum Scaling: Hashable, Sendable {
    case none
    /// All by one factor.
    case linear(factor: Double)
    /// Each pair's by a number of its own: [width / 2].
    case divided(by: [Double])
    /// Llama 3's: pairs that turn slowly by the factor, those that turn fast by nothing, others by something between.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContext: Int)
    case yarn(YaRN)

    /// The name that configs give to the scaling, and what is unusual about it.
    package var displayName: String {
      switch self {
      case .none: "default"
      case .linear: "linear"
      case .divided: "default with a factor for each pair"
      case .llama3: "llama3"
      case .yarn(let yarn):
        yarn.hasUsualRamp ? "yarn" : "yarn with a ramp of their own (beta_fast, beta_slow, truncate)"
      }
    }
  }

  /// YaRN (arXiv 2309.00071): pairs that turn less than `betaSlow` times in the original context are divided by the factor,
  /// those that turn more than `betaFast` times are not, with a ramp over the pairs between. Rotated features are multiplied
  /// by a magnitude besides.
  package struct YaRN: Hashable, Sendable {
    package var factor: Double
    package var originalContext: Int
    package var betaFast = 32.0
    package var betaSlow = 1.0
    /// Is true if the ends of the ramp are whole pairs.
    package var isTruncated = true
    package var magnitude: Double
    /// Is true if the ramp is the one that every program takes where nothing is said.
    package var hasUsualRamp: Bool { betaFast == 32 && betaSlow == 1 && isTruncated }

    /// The magnitude without any other word: section 3.4, with the root of 1/t.
    package static func usualMagnitude(factor: Double) -> Double { factor <= 1 ? 1 : 0.1 * log(factor) + 1 }
  }

  /// The angle of each pair between neighbouring positions: [width / 2].
  package var frequencies: [Double] {
    let plain = (0..<width / 2).map { pow(base, -2 * Double($0) / Double(width)) }
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / factor }
    case .divided(let divisors): return zip(plain, divisors).map { $0 / $1 }
    case .llama3(let factor, let low, let high, let context):
      return plain.map { frequency in
        let turns = Double(context) * frequency / (2 * .pi)
        if turns < low { return frequency / factor }
        if turns > high { return frequency }
        let share = (turns - low) / (high - low)
        return (1 - share) * frequency / factor + share * frequency
      }
    case .yarn(let yarn):
      // The pair that turns so many times in the original context.
      func pair(turning turns: Double) -> Double {
        Double(width) * log(Double(yarn.originalContext) / (turns * 2 * .pi)) / (2 * log(base))
      }
      let ends = (pair(turning: yarn.betaFast), pair(turning: yarn.betaSlow))
      let low = max(yarn.isTruncated ? ends.0.rounded(.down) : ends.0, 0)
      var high = min(yarn.isTruncated ? ends.1.rounded(.up) : ends.1, Double(width - 1))
      if low == high { high += 0.001 }
      return plain.enumerated().map { index, frequency in
        let share = min(max((Double(index) - low) / (high - low), 0), 1)
        return frequency / yarn.factor * share + frequency * (1 - share)
      }
    }
  }

  /// The number that the angles of each pair are divided by: [width / 2].
  package var divisors: [Double] {
    zip(Rotary(base: base, width: width).frequencies, frequencies).map { $0 / $1 }
  }

  /// The number that rotated features are multiplied by.
  package var magnitude: Double { if case .yarn(let yarn) = scaling { yarn.magnitude } else { 1 } }

  /// Returns whether another rotation turns the same features by the same angles and multiplies them by the same
  /// magnitude: within two units of single precision, in which files hold the numbers.
  package func isSame(as other: Rotary) -> Bool {
    func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 0x1p-22 * abs(a) }
    return width == other.width && pairsNeighbours == other.pairsNeighbours && isClose(magnitude, other.magnitude)
      && zip(frequencies, other.frequencies).allSatisfy { isClose($0, $1) }
  }
}
