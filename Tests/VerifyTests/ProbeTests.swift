import NormFoldArithmetic
import NormFoldNetworks
import Testing

@testable import NormFoldVerify

@Suite struct ProbeTests {
  /// About the size of tiny-2x32.
  private static let small = 40_000
  /// GPT-2 small.
  private static let large = 123_000_000

  private static func probes(
    context: Int = 64, endOfText: Int? = 0, seed: UInt64 = 1, longest: Int? = nil, count: Int = 1, cost: Int = small
  ) -> ProbeSet {
    ProbeSet.standard(
      vocabularySize: 512, contextLength: context, multiplicationsPerToken: cost, endOfText: endOfText, seed: seed,
      longest: longest, count: count)
  }

  @Test("One token, the full context, and end-of-text at the start and in the middle")
  func standard() {
    let set = Self.probes(endOfText: 7)
    let probes = set.precise
    #expect(probes.map(\.name) == ["one token", "full context", "end-of-text first", "end-of-text in the middle"])
    #expect(probes.map(\.tokens.count) == [1, 64, 10, 10])
    #expect(probes[2].tokens[0] == 7)
    #expect(probes[3].tokens[5] == 7)
    #expect(probes.allSatisfy { $0.tokens.allSatisfy { (0..<512).contains($0) } })
    #expect(probes.allSatisfy { $0.positions == Array($0.tokens.indices) })
    #expect(set.long.isEmpty)
  }

  @Test("In a large network a few tokens go across the context, from the first position to the last")
  func large() {
    let set = Self.probes(context: 1_024, cost: Self.large)
    #expect(
      set.precise.map(\.name) == [
        "one token", "across the context", "end-of-text first", "end-of-text in the middle",
      ])
    let across = set.precise[1]
    #expect(set.precise.map(\.tokens.count) == [1, 6, 3, 3])
    #expect(across.positions.first == 0 && across.positions.last == 1_023)
    #expect(zip(across.positions, across.positions.dropFirst()).allSatisfy { $0 < $1 })
    #expect(set.long.isEmpty)
  }

  @Test("Long probes of a large network are run in single precision, beside the others")
  func long() {
    let set = Self.probes(context: 1_024, longest: 256, count: 4, cost: Self.large)
    #expect(set.long.map(\.tokens.count) == [256, 256, 256, 256])
    #expect(Set(set.long.map(\.tokens)).count == 4)
    #expect(set.precise.map(\.name).contains("across the context"))
    #expect(Self.probes(context: 1_024, longest: 16, cost: Self.large).long.isEmpty)
    #expect(Self.probes(longest: 32, count: 3).precise.count == 6)
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
    let probes = Self.probes(context: context, longest: longest).precise
    #expect(probes.map(\.tokens.count).max() == expected)
    #expect(probes.count == 4)
    #expect(probes[3].tokens.contains(0))
    #expect(Self.probes(context: context, cost: Self.large).precise.allSatisfy { $0.positions.last ?? 0 < context })
  }

  @Test("Without an end-of-text token there are two probes")
  func withoutEndOfText() { #expect(Self.probes(endOfText: nil).precise.count == 2) }
}
