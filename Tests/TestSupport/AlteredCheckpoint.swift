import Foundation
import NormFoldFormats

/// A checkpoint of the fixtures, changed and written to a temporary directory: how a test makes an input that is wrong
/// in one way.
package final class AlteredCheckpoint {
  /// What can be changed.
  package struct Content {
    package var tensors: EditableTensors
    /// The config, by key.
    package var config: [String: JSONValue]
  }

  package let directory: TemporaryDirectory

  /// - Parameter fixture: `tiny-2x32/lnfree`.
  package convenience init(of fixture: String, alter: (inout Content) throws -> Void) throws {
    try self.init(ofCheckpointAt: Fixtures.path(fixture), alter: alter)
  }

  package init(ofCheckpointAt source: String, alter: (inout Content) throws -> Void) throws {
    directory = try TemporaryDirectory()
    let location = try CheckpointLocation(path: source)
    let file = try MappedFile(path: location.configurationPath)
    let json = try file.withBytes { try JSONValue(parsing: $0, file: file.path) }
    var content = Content(
      tensors: EditableTensors(of: try location.open()),
      config: Dictionary(uniqueKeysWithValues: (json.members ?? []).map { ($0.key, $0.value) }))
    try alter(&content)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try content.tensors.write(to: path + "/model.safetensors")
    let members = content.config.sorted { $0.key < $1.key }.map { JSONValue.Member(key: $0.key, value: $0.value) }
    try Data(JSONValue.object(members).text.utf8).write(to: URL(filePath: path + "/config.json"))
  }

  package var path: String { directory / "model" }

  /// A message without the directory, so that a test can state it in full.
  package func short(_ message: some CustomStringConvertible) -> String {
    message.description.replacing(path + "/", with: "").replacing(directory.path + "/", with: "")
  }
}

extension AlteredCheckpoint {
  /// A LLaMA with the tensors of `decoders/mistral` and the config `decoders/rope/NAME.json`.
  package convenience init(rotaryScaling name: String) throws {
    try self.init(configuration: "decoders/rope/\(name).json", tensorsOf: "decoders/mistral")
  }

  /// A model of `decoders` whose attention looks back over a window, by the config `decoders/windows/NAME.json`.
  package convenience init(window name: String) throws {
    try self.init(configuration: "decoders/windows/\(name).json", tensorsOf: "decoders/" + name)
  }

  private convenience init(configuration: String, tensorsOf fixture: String) throws {
    let bytes = try Fixtures.bytes(configuration)
    let json = try JSONValue(parsing: bytes.span.bytes, file: configuration)
    let members = (json.members ?? []).map { ($0.key, $0.value) }
    try self.init(of: fixture) { $0.config = Dictionary(uniqueKeysWithValues: members) }
  }
}
