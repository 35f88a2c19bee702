/// Something that lies where a file should be: the small text that git leaves where git-lfs has not fetched the real one, or the web
/// page that a server sent in its place.
package enum Substitute {
  private static let pointer = Array("version https://git-lfs".utf8)
  /// In lower case.
  private static let pages = ["<!doctype html", "<html"].map { Array($0.utf8) }

  /// - Throws: `.malformed` where `bytes` are such a pointer or page.
  package static func refuse(_ bytes: RawSpan, file: String) throws(Refusal) {
    if bytes.byteCount < 1_024, starts(bytes, with: pointer) {
      throw Refusal(
        .malformed, file: file, "is a git-lfs pointer, not the file itself",
        advice: "run 'git lfs pull' where it came from")
    }
    if pages.contains(where: { starts(bytes, with: $0) }) {
      throw Refusal(
        .malformed, file: file, "is a web page, not the file itself",
        advice: "download it again; where that takes an account, log in first")
    }
  }

  /// Returns whether bytes begin with a text in lower case, whichever case they have.
  private static func starts(_ bytes: RawSpan, with start: [UInt8]) -> Bool {
    guard bytes.byteCount >= start.count else { return false }
    return start.indices.allSatisfy { index in
      let byte = bytes.integer(UInt8.self, at: index)
      return (0x41...0x5A).contains(byte) ? byte | 0x20 == start[index] : byte == start[index]
    }
  }
}
