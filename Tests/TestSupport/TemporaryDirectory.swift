import Foundation

/// A directory that lives as long as its owner.
package final class TemporaryDirectory: Sendable {
  package let path: String

  package init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "normfold-test-\(UUID().uuidString)").path(
      percentEncoded: false)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes `bytes` to a file of this name and returns its path.
  @discardableResult
  package func write(_ bytes: [UInt8], to name: String) throws -> String {
    let file = self / name
    try Data(bytes).write(to: URL(filePath: file))
    return file
  }

  package static func / (directory: TemporaryDirectory, name: String) -> String { directory.path + "/" + name }
}
