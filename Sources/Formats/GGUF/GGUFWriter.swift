/// Writes a GGUF file, version 3, as ``GGUFHeader`` draws it: the tensors in the order given, each one padded, the last
/// one too (ggml refuses a file whose last tensor is not).
package final class GGUFWriter: TensorWriter {
  package let order: [TensorInfo]
  private let output: OutputFile
  private let header: [UInt8]
  private let alignment: Int
  /// The tensor that the next bytes belong to, and how many of its bytes are still to come.
  private var current = 0
  private var missingByteCount = 0

  /// Writes the header. `general.alignment` is added where `alignment` is not 32 and `metadata` does not have it;
  /// everything else, and the order (readers expect `general.architecture` first), is the caller's.
  ///
  /// - Precondition: `alignment` is a power of two from 8 to 1 MiB.
  /// - Throws: `.unsupported` where a name, a key, a type or a shape cannot be stored; `.output`.
  package init(
    creating path: String, metadata: [(key: String, value: GGUFValue)], tensors: [TensorInfo], alignment: Int = 32
  ) throws(Refusal) {
    precondition(alignment >= 8 && alignment <= GGUFHeader.maximumAlignment && alignment & (alignment - 1) == 0)
    var metadata = metadata
    let stored = metadata.first { $0.key == "general.alignment" }
    if stored == nil && alignment != GGUFHeader.defaultAlignment {
      metadata.append(("general.alignment", .u32(UInt32(alignment))))
    }
    precondition(stored.map { $0.value == .u32(UInt32(alignment)) } ?? true, "general.alignment is the parameter's")
    let header = try GGUFHeaderBytes(metadata: metadata, tensors: tensors, alignment: alignment, file: path)
    order = tensors
    self.alignment = alignment
    self.header = header.bytes
    output = try OutputFile(creating: path)
    try output.write(header.bytes)
    try output.pad(to: alignment)
    missingByteCount = order.first?.byteCount ?? 0
    skipCompleteTensors()
  }

  /// - Precondition: `bytes` do not go beyond the current tensor.
  package func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    precondition(bytes.count <= missingByteCount, "more bytes than the tensor has")
    guard bytes.count > 0 else { return }
    try unsafe output.write(bytes)
    missingByteCount -= bytes.count
    if missingByteCount == 0 { try output.pad(to: alignment) }
    skipCompleteTensors()
  }

  package func amend(_ text: String, by other: String) throws(Refusal) { try output.amend(text, by: other, in: header) }

  package func finish() throws(Refusal) {
    precondition(current == order.count, "tensors are missing")
    try output.finish()
  }

  private func skipCompleteTensors() {
    while missingByteCount == 0 && current < order.count {
      current += 1
      missingByteCount = current < order.count ? order[current].byteCount : 0
    }
  }
}
