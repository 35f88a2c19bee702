import NormFoldFormats
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

  /// What larger runs found, before it was mended.
  @Test(
    "What the proof once found stays found",
    arguments: [
      // √D was rounded to F16 in the graph, and the file refused for it.
      (11, 2242),
      // Of a matrix in blocks of which a mean is subtracted, an element could be off by the mean of its magnitudes.
      (11, 3024),
      // A residual weight in F16 was below the smallest normal number.
      (1, 6215),
      // The stored epsilon moves the logits, of the source as of a copy that was found to differ from it.
      (1, 9019),
      // The same for the weights that a file in blocks holds.
      (1, 3279),
      // The gain of a last norm of width 4 was off by 1%, which is less than the rounding of BF16.
      (1, 7245),
      // What sums of products may be off by was a root of their number too large: a value bias that was off passed.
      (1, 14310),
    ] as [(UInt64, Int)])
  func found(seed: UInt64, number: Int) throws {
    let tally = try Proof(seed: seed, first: number, conversionCount: 1, plantingPeriod: 1).run(
      workers: Workers(count: 1))
    #expect(tally.honest == 1 && tally.plantedCount > 4)
    #expect(tally.refused == [])
    #expect(tally.passed == [])
  }
}
