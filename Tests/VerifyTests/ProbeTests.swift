import Testing
import Verify

@Suite struct ProbeTests {
  private static func probes(context: Int = 64, endOfText: Int? = 0, seed: UInt64 = 1, longest: Int? = nil) -> [Probe] {
    Probe.standard(
      vocabularySize: 512, contextLength: context, endOfText: endOfText, seed: seed, fullContext: longest)
  }

  @Test("One token, the full context, and end-of-text at the start and in the middle")
  func standard() {
    let probes = Self.probes(endOfText: 7)
    #expect(probes.map(\.name) == ["one token", "full context", "end-of-text first", "end-of-text in the middle"])
    #expect(probes.map(\.tokens.count) == [1, 64, 24, 24])
    #expect(probes[2].tokens[0] == 7)
    #expect(probes[3].tokens[12] == 7)
    #expect(probes.allSatisfy { $0.tokens.allSatisfy { (0..<512).contains($0) } })
  }

  @Test("The same seed draws the same tokens, another seed others")
  func seeds() {
    #expect(Self.probes() == Self.probes())
    #expect(Self.probes() != Self.probes(seed: 2))
  }

  @Test(
    "No probe is longer than the context, or than was asked for",
    arguments: [
      (64, 10, 10), (64, 100, 64), (1, nil, 1), (5, nil, 5), (64, 1, 1),
    ])
  func lengths(context: Int, longest: Int?, expected: Int) {
    let probes = Self.probes(context: context, longest: longest)
    #expect(probes.map(\.tokens.count).max() == expected)
    #expect(probes.count == 4)
    #expect(probes[3].tokens.contains(0))
  }

  @Test("Without an end-of-text token there are two probes")
  func withoutEndOfText() { #expect(Self.probes(endOfText: nil).count == 2) }
}
