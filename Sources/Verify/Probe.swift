/// A sequence of tokens to run both networks on.
package struct Probe: Hashable, Sendable {
  /// What the probe is for: `full context`.
  package let name: String
  package let tokens: [Int]

  package init(name: String, tokens: [Int]) {
    self.name = name
    self.tokens = tokens
  }
}

extension Probe {
  /// The probes that every verification runs: one token, the whole context, and the end-of-text token where there is
  /// one, at the start and in the middle. The tokens are drawn at random, but the same for the same seed.
  ///
  /// - Parameter fullContext: the length of the longest probe; shorter than the context only where the user says so.
  package static func standard(
    vocabularySize: Int, contextLength: Int, endOfText: Int?, seed: UInt64 = 1, fullContext: Int? = nil
  ) -> [Probe] {
    var generator = SplitMix64(state: seed)
    func draw(_ count: Int) -> [Int] { (0..<count).map { _ in Int.random(in: 0..<vocabularySize, using: &generator) } }
    let longest = min(fullContext ?? contextLength, contextLength)
    let short = min(24, longest)
    var probes = [
      Probe(name: "one token", tokens: draw(1)),
      Probe(name: longest == contextLength ? "full context" : "\(longest) tokens", tokens: draw(longest)),
    ]
    if let endOfText {
      probes.append(Probe(name: "end-of-text first", tokens: [endOfText] + draw(short - 1)))
      var middle = draw(short)
      middle[short / 2] = endOfText
      probes.append(Probe(name: "end-of-text in the middle", tokens: middle))
    }
    return probes
  }
}

/// The SplitMix64 generator (Steele, Lea, Flood 2014): small, and the same on every machine.
struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
