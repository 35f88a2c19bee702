/// Writes one file of tensors, streaming: the header is complete before the first byte of data.
package protocol TensorWriter: AnyObject {
  /// The tensors in the order in which their bytes must be appended.
  var order: [TensorInfo] { get }

  /// Appends the next bytes of the current tensor; a tensor may come in any number of pieces.
  /// - Throws: `.output`.
  func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal)

  /// Completes the file and syncs it.
  /// - Precondition: every byte of every tensor has been appended.
  /// - Throws: `.output`.
  func finish() throws(Refusal)
}
