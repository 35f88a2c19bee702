import Formats
import ProofSupport
import Testing

/// A small share of what `make proof` does.
@Suite struct ProofTests {
  @Test(
    "No honest conversion of a random network is refused, and no error that is planted in one passes",
    arguments: RandomCheckpoint.Family.allCases)
  func holds(family: RandomCheckpoint.Family) throws {
    let tally = try Proof(seed: 7, conversionCount: 8, plantingPeriod: 4, families: [family]).run(
      workers: Workers(count: 1))
    #expect(tally.honest > 0)
    #expect(tally.refused == [])
    #expect(tally.incomplete == [])
    #expect(tally.plantedCount > 0)
    #expect(tally.passed == [])
  }
}
