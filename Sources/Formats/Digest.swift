import CCrypto

/// A SHA-256 digest.
package struct Digest: Hashable, Sendable, CustomStringConvertible {
  package let bytes: [UInt8]

  /// In hexadecimal.
  package var description: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}

/// A SHA-256 digest in the making.
@safe package final class DigestContext {
  private let context: OpaquePointer

  package init() {
    // Both fail only where there is no memory left.
    guard let context = unsafe EVP_MD_CTX_new(), unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      preconditionFailure("no memory for a digest")
    }
    unsafe self.context = context
  }

  deinit { unsafe EVP_MD_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    unsafe EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
  }

  package func finish() -> Digest {
    var digest = [UInt8](repeating: 0, count: 32)
    unsafe digest.withUnsafeMutableBufferPointer { _ = unsafe EVP_DigestFinal_ex(context, $0.baseAddress, nil) }
    return Digest(bytes: digest)
  }
}

extension Digest {
  private static let partByteCount = 4 << 20

  /// The digest of all bytes of a file.
  /// - Parameter isWanted: asked now and then; nil is returned once it says no.
  package init?(of file: MappedFile, while isWanted: () -> Bool = { true }) {
    let context = DigestContext()
    for start in stride(from: 0, to: file.byteCount, by: Self.partByteCount) {
      guard isWanted() else { return nil }
      file.withBytes { bytes in
        let part = bytes.extracting(start..<min(start + Self.partByteCount, file.byteCount))
        unsafe part.withUnsafeBytes { unsafe context.update($0) }
      }
    }
    self = context.finish()
  }
}
