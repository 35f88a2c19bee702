/// Norms of the residual stream by depth and range of positions.
struct ResidualRecord: Sendable {
  /// [depth][range]
  private var norms: [[Moments]] = []

  /// 0; 1; 2 and 3; 4 to 7; and so on.
  private static func range(of position: Int) -> Int { Int.bitWidth - position.leadingZeroBitCount }

  /// - Parameter stream: [tokens of all chunks, width]
  mutating func add(_ stream: [Double], width: Int, depth: Int, chunks: [Chunk]) {
    var row = 0
    for chunk in chunks {
      for position in chunk.tokens.indices {
        let squares = stream[row * width..<(row + 1) * width].reduce(0) { $0 + $1 * $1 }
        self[depth, Self.range(of: position)].add(squares.squareRoot())
        row += 1
      }
    }
  }

  mutating func add(_ other: ResidualRecord) {
    for (depth, ranges) in other.norms.enumerated() {
      for (range, moments) in ranges.enumerated() { self[depth, range].add(moments) }
    }
  }

  private subscript(depth: Int, range: Int) -> Moments {
    get { norms.indices.contains(depth) && norms[depth].indices.contains(range) ? norms[depth][range] : Moments() }
    set {
      while norms.count <= depth { norms.append([]) }
      while norms[depth].count <= range { norms[depth].append(Moments()) }
      norms[depth][range] = newValue
    }
  }

  /// - Parameter longest: the length of the longest sequence.
  func summary(longest: Int) -> DiagnosisReport.Residual {
    let ranges = (0...Self.range(of: max(0, longest - 1))).map { range in
      DiagnosisReport.PositionRange(
        first: range == 0 ? 0 : 1 << (range - 1), last: min((1 << range) - 1, longest - 1))
    }
    return DiagnosisReport.Residual(
      positions: ranges, meanNorm: norms.map { $0.map(\.mean) }, largestNorm: norms.map { $0.map(\.largest) })
  }
}
