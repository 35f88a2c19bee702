import NormFoldFormats
import Testing
import TestSupport

/// The expected digests are Python's, by hashlib.
@Suite struct DigestTests {
  @Test("A tree digest is that of the digests of pieces of 16 MiB, whoever computes them", arguments: [1, 2])
  func tree(workerCount: Int) {
    let count = (33 << 20) + 5
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: index &* 31 &+ (index &>> 8) &* 7) }
      filled = count
    }
    let file = MappedFile(copying: bytes, path: "bytes")
    let workers = Workers(count: workerCount)
    #expect(
      DigestAlgorithm.tree.digest(of: file, workers: workers)
        == "sha256-tree-16M:3bf305137e2d5e42793f940828dacc126a6b8ec381ed5bf780f179d661e9e9cf")
    #expect(
      DigestAlgorithm.sha256.digest(of: file, workers: workers)
        == "sha256:dd6ce7d729bfbcae0962cb3ea0afc14feef0c10837c23e4f215b259986081951")
  }

  @Test("A file of one piece has a tree, too, and so has an empty one")
  func small() {
    func digest(_ bytes: [UInt8]) -> String {
      DigestAlgorithm.tree.digest(of: MappedFile(copying: bytes, path: "bytes"), workers: .one)
    }
    #expect(
      digest(Array("abc".utf8)) == "sha256-tree-16M:4f8b42c22dd3729b519ba6f68d2da7cc5b2d606d05daed5ad5128cc03e6c6358")
    #expect(
      digest([]) == "sha256-tree-16M:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(digest([]).count == DigestAlgorithm.tree.placeholder.count)
  }
}
