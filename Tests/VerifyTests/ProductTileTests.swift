import Testing

@testable import NormFoldArithmetic

@Suite struct ProductTileTests {
  @Test(
    "Tiles cover a product once, and are as large as leaves one to each thread",
    arguments: [
      (1, 768), (13, 1_600), (64, 3_072), (255, 96), (256, 768), (1_024, 768), (1_024, 50_257), (8_192, 3_072),
    ])
  func tiles(rowCount: Int, outputCount: Int) {
    var counts: [Int] = []
    for threadCount in [1, 2, 7, 16, 64] {
      let tiles = ProductTile.tiles(rowCount: rowCount, outputCount: outputCount, threadCount: threadCount)
      #expect(tiles.reduce(0) { $0 + $1.rows.count * $1.outputs.count } == rowCount * outputCount)
      var seen: Set<[Int]> = []
      for tile in tiles {
        #expect(tile.rows.upperBound <= rowCount && tile.outputs.upperBound <= outputCount)
        #expect(!tile.rows.isEmpty && !tile.outputs.isEmpty)
        #expect(seen.insert([tile.rows.lowerBound, tile.outputs.lowerBound]).inserted)
      }
      counts.append(tiles.count)
      let smallest = ProductTile.tiles(rowCount: rowCount, outputCount: outputCount, threadCount: .max)
      #expect(tiles.count >= min(threadCount, smallest.count))
    }
    #expect(counts == counts.sorted())
    // Few tokens are cut alike for all.
    if rowCount < 256 { #expect(Set(counts).count == 1) }
  }

  @Test("What no number of threads may change is cut for many")
  func many() {
    let (usual, many) = (
      ProductTile.tiles(rowCount: 1_024, outputCount: 3_072),
      ProductTile.tiles(rowCount: 1_024, outputCount: 3_072, threadCount: 64)
    )
    #expect(usual.map(\.rows) == many.map(\.rows) && usual.map(\.outputs) == many.map(\.outputs))
  }
}
