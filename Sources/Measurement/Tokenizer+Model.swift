import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization

extension Tokenizer {
  /// The tokenizer that a checkpoint brings, or the one that the user names.
  ///
  /// - Throws: `.usage` where there is none; what reading it throws.
  package init(for model: Model, at path: String) throws(Refusal) {
    guard let tokenizer = try Tokenizer(ifPresentFor: model, at: path) else {
      throw Refusal(
        .usage, file: path, "there is no tokenizer beside the checkpoint",
        advice: "name its directory with \(.tokenizer), or give token ids instead of text")
    }
    self = tokenizer
  }

  /// The same, or nil where there is none.
  package init?(ifPresentFor model: Model, at path: String) throws(Refusal) {
    switch model.tokenizer {
    case .absent: return nil
    case .directory(let directory): try self.init(opening: directory)
    case .ofCheckpoint:
      guard let tokenizer = try Tokenizer(besideCheckpointAt: path) else { return nil }
      self = tokenizer
    }
  }
}
