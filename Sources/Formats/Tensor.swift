/// A tensor in a mapped file: what its header says, and where its bytes are.
package struct Tensor: Sendable {
  package let info: TensorInfo
  package let file: MappedFile
  /// The start of the tensor's bytes, in bytes from the start of the file. The bytes need not be aligned.
  package let byteOffset: Int
  /// Distance in elements from one index to the next along each axis, where that is not row-major order
  /// (PyTorch stores transposed views so); nil for row-major.
  package let elementStrides: [Int]?

  /// - Precondition: the reader has checked that every element lies inside the file.
  package init(info: TensorInfo, file: MappedFile, byteOffset: Int, elementStrides: [Int]? = nil) {
    self.info = info
    self.file = file
    self.byteOffset = byteOffset
    self.elementStrides = elementStrides
  }

  package var name: String { info.name }
  package var shape: [Int] { info.shape }
  package var isContiguous: Bool { elementStrides == nil }

  /// The same bytes under the same name, their elements counted along other axes.
  /// - Precondition: ``isContiguous``, and as many elements.
  package func reshaped(_ shape: [Int]) -> Tensor {
    var info = info
    info.shape = shape
    precondition(isContiguous && info.elementCount == self.info.elementCount)
    return Tensor(info: info, file: file, byteOffset: byteOffset)
  }

  /// Lends the stored bytes of a contiguous tensor.
  /// - Precondition: ``isContiguous``.
  package func withBytes<Result, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(isContiguous)
    return try file.withBytes { (bytes) throws(Failure) in
      try body(bytes.extracting(byteOffset..<byteOffset + info.byteCount))
    }
  }
}

extension Tensor: Hashable {
  /// The same bytes of the same mapping, under the same name.
  package static func == (a: Tensor, b: Tensor) -> Bool {
    a.file === b.file && a.byteOffset == b.byteOffset && a.info == b.info && a.elementStrides == b.elementStrides
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(name)
    hasher.combine(byteOffset)
  }
}
