import NormFoldFormats

/// A checkpoint understood: which network its tensors make, and in what dialect it says that norms are fixed.
package struct Model: Sendable {
  /// A tensor that takes no part in the network, and the rule by which it is left out.
  package struct DroppedTensor: Hashable, Sendable {
    package let name: String
    package let rule: String
  }

  package let checkpoint: Checkpoint
  package let architecture: Architecture
  package let hyperparameters: Hyperparameters
  /// The `config.json` beside the tensors, so that what is not known of it can be carried along; nil where there is none.
  package let configuration: JSONValue?
  /// The directory of the config, and of the tokenizer unless the user says otherwise.
  package let directory: String
  package let tokenizer: ReadingOptions.Tokenizer
  package let layout: Layout
  package let dialect: Dialect
  /// The network that the dialect means: norms have a fixed deviation where removal has fixed it.
  package internal(set) var network: Network
  /// The network that the runtime of the files would compute, where that is not exactly ``network``; nil where it is.
  /// In the published form, its norms are computed with their large epsilon.
  package internal(set) var literalNetwork: Network?
  package let dropped: [DroppedTensor]
  /// The parts that were taken off the names of tensors, since programs around the network had put them there:
  /// `module.`.
  package let wrappers: [String]
  package let warnings: [Message]

  /// Is true if the fixed norms of ``network`` replace norms that the checkpoint's training left computed.
  package var changesFunction: Bool { dialect.changesFunction }

  /// The token that separates texts, where the vocabulary holds it.
  package var endOfText: Int? { endsOfText.first }

  /// The tokens that end a text, of those that the vocabulary holds: a GGUF file may say −1.
  package var endsOfText: [Int] { hyperparameters.endsOfText.filter((0..<network.vocabularySize).contains) }

  /// The token that a text begins with, where a GGUF file says so.
  package var beginOfText: Int? {
    checkpoint.metadata["tokenizer.ggml.bos_token_id"]?.integer.flatMap {
      (0..<network.vocabularySize).contains($0) ? $0 : nil
    }
  }

  /// The same model for texts of at most so many tokens.
  ///
  /// - Parameter length: nil for as many as it has positions.
  /// - Throws: `.usage` for a length that it does not have.
  package func shortened(to length: Int?) throws(Refusal) -> Model {
    guard let length else { return self }
    guard (1...network.contextLength).contains(length) else {
      throw Refusal(
        .usage, subject: "\(.onnxLength)",
        "expected 1 to \(network.contextLength) tokens, the model's context, found \(length)")
    }
    var result = self
    result.network = network.shortened(to: length)
    result.literalNetwork = literalNetwork?.shortened(to: length)
    return result
  }
}
