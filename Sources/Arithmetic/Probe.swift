/// A sequence of tokens to run networks on.
package struct Probe: Hashable, Sendable {
  /// What the probe is for: `full context`.
  package let name: String
  package let tokens: [Int]
  /// The position of each token, ascending. A token attends to those before it in the sequence, wherever they stand.
  package let positions: [Int]

  /// - Parameter positions: by default each token stands at its place in the sequence.
  package init(name: String, tokens: [Int], positions: [Int]? = nil) {
    self.name = name
    self.tokens = tokens
    self.positions = positions ?? Array(tokens.indices)
    precondition(self.positions.count == tokens.count)
  }
}

/// The SplitMix64 generator (Steele, Lea, Flood 2014): small, and the same on every machine.
package struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  package init(state: UInt64) { self.state = state }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
