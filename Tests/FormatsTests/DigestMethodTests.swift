import NormFoldFormats
import Testing

/// Digests of several pieces at a time, against libcrypto's of one.
@Suite struct DigestMethodTests {
  private static let available = DigestMethod.allCases.filter(\.isAvailable)

  @Test("Pieces have the digests of each alone", arguments: available, [0, 64, 128, 4_096, 1 << 18])
  func pieces(method: DigestMethod, byteCount: Int) {
    // The first byte is at no place of a word.
    let bytes = (0..<method.pieceCount * byteCount + 3).map { UInt8(truncatingIfNeeded: $0 &* 131 ^ $0 >> 7) }
    let file = MappedFile(copying: bytes, path: "bytes")
    for count in 1...method.pieceCount {
      #expect(
        method.digests(of: file, at: 3, count: count, byteCount: byteCount)
          == (0..<count).map { Digest(of: file, bytes: 3 + $0 * byteCount..<3 + ($0 + 1) * byteCount) },
        "\(count) pieces")
    }
  }

  @Test("A tree is the same, however its pieces are computed", arguments: available, [1, 2, 3, 40])
  func tree(method: DigestMethod, workerCount: Int) {
    for byteCount in [0, 5, 64, 128, 40 * 64, 47 * 64 + 9] {
      let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 131 ^ $0 >> 7) }
      let file = MappedFile(copying: bytes, path: "bytes")
      let workers = Workers(count: workerCount)
      #expect(
        Digest(treeOf: file, pieceByteCount: 64, workers: workers, by: method)
          == Digest(treeOf: file, pieceByteCount: 64, workers: .one, by: .alone),
        "\(byteCount) bytes")
    }
  }

  @Test("The standard's digest of nothing", arguments: available)
  func standard(method: DigestMethod) {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    let file = MappedFile(copying: [], path: "bytes")
    let digests = method.digests(of: file, at: 0, count: method.pieceCount, byteCount: 0)
    #expect(digests.map(\.description) == [String](repeating: nothing, count: method.pieceCount))
  }
}
