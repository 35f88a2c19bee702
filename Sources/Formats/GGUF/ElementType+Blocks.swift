extension ElementType {
  /// Whether this is a ggml block type that we decode.
  var isDecodableBlockType: Bool { false }

  /// Decodes the elements `range` of stored ggml blocks; the range may start and end inside a block.
  func decodeBlocks<Scalar: ComputeScalar>(
    _ stored: UnsafeRawBufferPointer, elements range: Range<Int>, into destination: UnsafeMutableBufferPointer<Scalar>
  ) {
    preconditionFailure("\(displayName) is not decodable")
  }
}
