import NormFoldFormats

extension Tensor {
  /// The bytes of a tensor that lies in one piece.
  var bytes: [UInt8] { withBytes { bytes in unsafe bytes.withUnsafeBytes { unsafe Array($0) } } }

  /// Its elements, which are stored in this type.
  func integers<Stored: FixedWidthInteger & BitwiseCopyable>(_ type: Stored.Type) -> [Int] {
    withBytes { bytes in
      unsafe bytes.withUnsafeBytes { bytes in
        (0..<bytes.count / MemoryLayout<Stored>.size).map {
          unsafe Int(bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Stored>.size, as: Stored.self))
        }
      }
    }
  }
}

extension ElementType {
  /// The bytes of an element, for the types of ONNX.
  var onnxSize: Int { bitsPerBlock / 8 }
}
