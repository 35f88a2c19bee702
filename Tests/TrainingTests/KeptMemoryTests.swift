import NormFoldArithmetic
import Testing

/// Memory is kept for all matrices of a process: each case has sizes far from those of the others, and of other tests.
@Suite(.serialized) struct KeptMemoryTests {
  private static func address(_ matrix: Matrix<Float>) -> Int { unsafe Int(bitPattern: matrix.start) }

  @Test(
    "A matrix takes the memory of one that is gone and not much larger",
    arguments: [(10_000, 1_000), (20_000, 900), (40_000, 801)])
  func isUsedAgain(rowCount: Int, columnCount: Int) {
    let memory = KeptMemory()
    var matrix: Matrix<Float>? = Matrix(rows: rowCount, columns: 1_000)
    let first = matrix.map(Self.address)
    matrix = nil
    #expect(KeptMemory.byteCount >= rowCount * 1_000 * 4)
    let next = Matrix<Float>(rows: rowCount, columns: columnCount)
    #expect(Self.address(next) == first)
    // Its memory is taken: another one gets memory of its own.
    let other = Matrix<Float>(rows: rowCount, columns: columnCount)
    #expect(Self.address(other) != first)
    withExtendedLifetime(memory) {}
  }

  @Test("A matrix that needs much less, or more, gets memory of its own", arguments: [400, 1_200])
  func isLeft(columnCount: Int) {
    let memory = KeptMemory()
    var matrix: Matrix<Float>? = Matrix(rows: 5_000, columns: 1_000)
    let first = matrix.map(Self.address)
    matrix = nil
    let next = Matrix<Float>(rows: 5_000, columns: columnCount)
    #expect(Self.address(next) != first)
    withExtendedLifetime(memory) {}
  }
}
