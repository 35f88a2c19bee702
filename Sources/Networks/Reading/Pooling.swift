import NormFoldFormats

/// The way in which the states of a text's tokens become one vector, as sentence-transformers keeps it beside an
/// encoder.
///
/// Source: `modules.json` and `1_Pooling/config.json` of sentence-transformers 2 to 5.
package struct Pooling: Equatable, Sendable {
  package enum Kind: String, Sendable, CaseIterable {
    /// The mean over all tokens that are no padding.
    case mean = "pooling_mode_mean_tokens"
    /// The first token.
    case classification = "pooling_mode_cls_token"
    /// The last token that is no padding.
    case last = "pooling_mode_lasttoken"
  }

  package var kind: Kind
  /// Is true if the vector is divided by its length.
  package var isNormalised = false
  /// The file that says it, in the directory of the checkpoint.
  package private(set) var configurationName = "1_Pooling/config.json"

  package init(_ kind: Kind, isNormalised: Bool = false) { (self.kind, self.isNormalised) = (kind, isNormalised) }

  /// - Returns: nil where nothing beside the checkpoint says how.
  /// - Throws: `.malformed` for damaged files; `.unsupported` for other modules behind the encoder, and for several modes.
  package init?(besideCheckpointIn directory: String) throws(Refusal) {
    let path = directory + "/modules.json"
    guard FileIdentity(ofItemAt: path) != nil else { return nil }
    let file = try MappedFile(path: path)
    let modules = try file.parse { (bytes) throws(Refusal) in try JSONValue(parsing: bytes, file: path) }
    guard let modules = modules.array else {
      throw Refusal(.malformed, file: path, "expected an array of modules, found \(modules.kind)")
    }
    var found: Pooling?
    for (index, module) in modules.enumerated() {
      switch module["type"]?.string?.split(separator: ".").last {
      case "Transformer": break
      case "Pooling":
        let folder = module["path"]?.string ?? ""
        guard !folder.isEmpty, folder.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }) else {
          throw Refusal(
            .malformed, file: path, subject: "[\(index)].path",
            "expected the name of a folder of letters, digits and _, found \(module["path"]?.kind ?? "nothing")")
        }
        let name = "\(folder)/config.json"
        found = try Pooling(configurationAt: "\(directory)/\(name)")
        found?.configurationName = name
      case "Normalize": found?.isNormalised = true
      default:
        throw Refusal(
          .unsupported, file: path, subject: "[\(index)].type",
          "expected Transformer, Pooling or Normalize, found \(module["type"]?.kind ?? "nothing")")
      }
    }
    guard let found else { return nil }
    self = found
  }

  private init(configurationAt path: String) throws(Refusal) {
    let json = try JSONValue(configurationAt: path)
    let modes = (json.members ?? []).filter { $0.key.hasPrefix("pooling_mode_") && $0.value.bool == true }.map(\.key)
    guard modes.count == 1, let kind = Kind(rawValue: modes[0]) else {
      throw Refusal(
        .unsupported, file: path, subject: "pooling_mode",
        "expected one of \(Kind.allCases.map(\.rawValue).joined(separator: ", ")), found \(modes.isEmpty ? "none" : modes.joined(separator: ", "))"
      )
    }
    self.init(kind)
  }
}
