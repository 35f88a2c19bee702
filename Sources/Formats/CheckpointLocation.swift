import Foundation

/// Which files make the checkpoint that a path means.
package struct CheckpointLocation: Sendable {
  package enum Form: Sendable {
    case safetensors, safetensorsIndex
  }

  /// The file to open.
  package let path: String
  package let form: Form
  /// Where `config.json` and the tokenizer lie.
  package let directory: String

  package var configurationPath: String { directory + "/config.json" }

  /// - Parameter path: a directory, or one file.
  /// - Throws: `.malformed` where there is nothing, or nothing that could be a checkpoint; `.unsupported` where a
  ///   directory holds more than one.
  package init(path: String) throws(Refusal) {
    var isDirectory: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw Refusal(.malformed, file: path, "there is no such file or directory", advice: "check the path")
    }
    if isDirectory.boolValue {
      directory = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
      let candidates = Self.knownNames.filter { FileManager.default.fileExists(atPath: "\(path)/\($0.name)") }
      guard let chosen = candidates.first else {
        throw Refusal(
          .malformed, file: path, "holds no checkpoint",
          advice: "expected one of \(Self.knownNames.map(\.name).joined(separator: ", "))")
      }
      guard candidates.count == 1 else {
        throw Refusal(
          .unsupported, file: path, "holds \(candidates.map(\.name).joined(separator: " and "))",
          advice: "name the one that counts, as \(directory)/\(chosen.name)")
      }
      self.path = "\(directory)/\(chosen.name)"
      form = chosen.form
    } else {
      self.path = path
      directory = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
        .trimmingSuffix(while: { $0 == "/" })
      guard let form = Self.form(ofFile: path) else {
        throw Refusal(
          .unsupported, file: path, "is of no known form",
          advice: "known are .safetensors and .safetensors.index.json")
      }
      self.form = form
    }
  }

  private static let knownNames: [(name: String, form: Form)] = [
    ("model.safetensors", .safetensors), ("model.safetensors.index.json", .safetensorsIndex),
  ]

  private static func form(ofFile path: String) -> Form? {
    if path.hasSuffix(".safetensors.index.json") { return .safetensorsIndex }
    if path.hasSuffix(".safetensors") { return .safetensors }
    return nil
  }

  /// Opens the checkpoint.
  package func open() throws(Refusal) -> Checkpoint {
    switch form {
    case .safetensors: try Checkpoint(safetensors: path)
    case .safetensorsIndex: try Checkpoint(safetensorsIndex: path)
    }
  }
}

extension String {
  fileprivate func trimmingSuffix(while isTrimmed: (Character) -> Bool) -> String {
    var result = self[...]
    while result.count > 1, let last = result.last, isTrimmed(last) { result.removeLast() }
    return String(result)
  }
}
