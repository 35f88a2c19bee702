/// Writes one file of tensors, streaming: the header is complete before the first byte of data.
package protocol TensorWriter: AnyObject {
  /// The tensors in the order in which their bytes must be appended.
  var order: [TensorInfo] { get }

  /// Appends the next bytes of the current tensor; a tensor may come in any number of pieces, an empty one in none.
  /// - Precondition: the bytes do not run over the end of the current tensor.
  /// - Throws: `.output`.
  func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal)

  /// Replaces a text of the metadata by another of the same length, which was not known when the header was written.
  /// - Throws: `.output`.
  func amend(_ text: String, by other: String) throws(Refusal)

  /// Completes the file and syncs it.
  /// - Precondition: every byte of every tensor has been appended.
  /// - Throws: `.output`.
  func finish() throws(Refusal)
}

extension TensorWriter {
  package func append(_ bytes: RawSpan) throws(Refusal) {
    try unsafe bytes.withUnsafeBytes { (buffer) throws(Refusal) in try unsafe append(buffer) }
  }

  package func append(_ bytes: [UInt8]) throws(Refusal) { try unsafe append(bytes.span.bytes) }
}
