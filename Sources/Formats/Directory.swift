import FoundationEssentials

/// Functions that look into directories that users name, without an error where there is nothing.
package enum Directory {
  package static func exists(at path: String) -> Bool {
    var isDirectory = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory
  }

  /// The names of everything in a directory, in their order.
  package static func names(in path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  /// The names of the directories in a directory, in their order; links and hidden ones are left out.
  static func subdirectories(of path: String) -> [String] {
    names(in: path).filter { name in
      let place = path + "/" + name
      return !name.hasPrefix(".") && exists(at: place)
        && (try? FileManager.default.destinationOfSymbolicLink(atPath: place)) == nil
    }
  }
}
