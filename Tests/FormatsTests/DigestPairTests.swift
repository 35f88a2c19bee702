import CNormFoldKernels
import NormFoldFormats
import Testing

/// Digests of two pieces at a time, against libcrypto's of one.
@Suite(.enabled(if: normfold_has_sha256_pairs(), "this processor has no instructions for SHA-256"))
struct DigestPairTests {
  @Test("Two pieces at a time have the digests of each alone", arguments: [0, 64, 128, 4_096, 1 << 20])
  func pairs(byteCount: Int) {
    // The first byte is at no place of a word.
    let bytes = (0..<2 * byteCount + 3).map { UInt8(truncatingIfNeeded: $0 &* 131 ^ $0 >> 7) }
    let file = MappedFile(copying: bytes, path: "bytes")
    let (first, second) = Digest.pair(of: file, at: 3, byteCount: byteCount)
    #expect(first == Digest(of: file, bytes: 3..<3 + byteCount))
    #expect(second == Digest(of: file, bytes: 3 + byteCount..<3 + 2 * byteCount))
  }

  @Test("The standard's digest of nothing")
  func standard() {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    let (first, second) = Digest.pair(of: MappedFile(copying: [], path: "bytes"), at: 0, byteCount: 0)
    #expect("\(first)" == nothing)
    #expect(second == first)
  }
}
