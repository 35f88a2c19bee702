/// Writes a GGUF file, version 3, as ``GGUFHeader`` draws it: the tensors in the order given, each one padded, the last
/// one too (ggml refuses a file whose last tensor is not).
extension TensorWriter {
  /// Writes the header. `general.alignment` is added where `alignment` is not 32 and `metadata` does not have it;
  /// everything else, and the order (readers expect `general.architecture` first), is the caller's.
  ///
  /// - Precondition: `alignment` is a power of two from 8 to 1 MiB.
  /// - Throws: `.unsupported` where a name, a key, a type or a shape cannot be stored; `.output`.
  package convenience init(
    gguf path: String, metadata: [(key: String, value: GGUFValue)], tensors: [TensorInfo], alignment: Int = 32
  ) throws(Refusal) {
    precondition(alignment >= 8 && alignment <= GGUFHeader.maximumAlignment && alignment & (alignment - 1) == 0)
    var metadata = metadata
    let stored = metadata.first { $0.key == "general.alignment" }
    if stored == nil && alignment != GGUFHeader.defaultAlignment {
      metadata.append(("general.alignment", .u32(UInt32(alignment))))
    }
    precondition(stored.map { $0.value == .u32(UInt32(alignment)) } ?? true, "general.alignment is the parameter's")
    let header = try GGUFHeaderBytes(metadata: metadata, tensors: tensors, alignment: alignment, file: path)
    func padded(_ byteCount: Int) -> Int { (byteCount + alignment - 1) / alignment * alignment }
    var end = padded(header.bytes.count)
    let starts = tensors.map { info in
      defer { end = padded(end + info.byteCount) }
      return end
    }
    let file = try TensorFile(creating: path, head: header.bytes, byteCount: end)
    self.init(zip(tensors, starts).map { TensorPlace(info: $0, file: file, byteOffset: $1) }, in: [file])
  }
}
