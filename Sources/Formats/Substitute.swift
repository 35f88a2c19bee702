/// The small text file that git leaves where git-lfs has not fetched the real one.
package enum GitLFSPointer {
  private static let start = Array("version https://git-lfs".utf8)

  /// - Throws: `.malformed` where `bytes` are such a pointer.
  package static func refuse(_ bytes: RawSpan, file: String) throws(Refusal) {
    guard bytes.byteCount < 1_024, bytes.byteCount >= start.count else { return }
    for (index, expected) in start.enumerated()
    where unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self) != expected {
      return
    }
    throw Refusal(
      .malformed, file: file, "is a git-lfs pointer, not the file itself",
      advice: "run 'git lfs pull' where it came from")
  }
}
