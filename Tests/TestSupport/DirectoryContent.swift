import Foundation

/// Everything in a directory, to see whether something changed: files with their bytes, directories without, hidden
/// ones included.
package func content(ofDirectory path: String) throws -> [String: Data?] {
  var result: [String: Data?] = [:]
  for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
    let file = path + "/" + name
    var isDirectory: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: file, isDirectory: &isDirectory)
    result[name] = .some(isDirectory.boolValue ? nil : try Data(contentsOf: URL(filePath: file)))
  }
  return result
}
