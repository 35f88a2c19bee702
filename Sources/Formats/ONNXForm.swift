/// The kind of graph that is written for onnxruntime and what reads the same files.
///
///     conversion.onnxForm = .plainEmbeddings
///     conversion.onnxLength = 128
public enum ONNXForm: String, Sendable, Encodable, CaseIterable {
  /// Prompts and decoding in one graph, with the keys and values of earlier tokens as inputs and outputs.
  case cached
  /// One sequence of fixed length, the ids of its tokens in and logits out: for compilers, such as those of private inference.
  case plain
  /// The same, with the embeddings of the tokens in; a graph of its own looks these up.
  case plainEmbeddings = "plain-embeds"
}
