import Glibc

/// The directories in which the files that belong to a checkpoint may lie, links followed: the directory of the file
/// that the user named, and the directory to which that file itself leads, as in the cache of huggingface_hub.
///
/// A link that a stranger put beside a checkpoint could lead anywhere, and what it leads to would be read as weights
/// or copied into the output.
package struct HomeDirectories: Sendable {
  private let paths: [String]

  /// - Parameter path: of a file that exists.
  package init(ofFileAt path: String) {
    let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
    paths = [resolvedPath(directory + ".").map { $0 == "/" ? "" : $0 }, resolvedPath(path).map(parentDirectory)]
      .compactMap { $0 }
  }

  /// - Parameter folder: a folder in them that the file may lie in instead.
  /// - Returns: nil where there is nothing at `path`.
  package func contain(fileAt path: String, orInFolder folder: String = "") -> Bool? {
    resolvedPath(path).map { resolved in
      let parent = parentDirectory(of: resolved)
      return paths.contains(parent) || !folder.isEmpty && paths.contains { "\($0)/\(folder)" == parent }
    }
  }
}

private func parentDirectory(of absolutePath: String) -> String {
  String(absolutePath[..<(absolutePath.utf8.lastIndex(of: UInt8(ascii: "/")) ?? absolutePath.startIndex)])
}

private func resolvedPath(_ path: String) -> String? {
  guard let resolved = unsafe realpath(path, nil) else { return nil }
  defer { unsafe free(resolved) }
  return unsafe String(cString: resolved)
}
