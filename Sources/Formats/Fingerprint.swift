import CNormFoldCrypto

/// Tells whether two sequences of bytes, both seen by this process, are the same: a GMAC (NIST SP 800-38D) under a key
/// drawn when the process starts. Two that differ have one fingerprint with a chance below their length over 2¹²⁴, whoever
/// made them. Ten times as fast as SHA-256, and of no use outside the process.
package struct Fingerprint: Hashable, Sendable {
  private let bytes: [UInt8]

  fileprivate init(bytes: [UInt8]) { self.bytes = bytes }
}

extension Fingerprint {
  package init(of bytes: UnsafeRawBufferPointer) {
    let context = FingerprintContext()
    unsafe context.update(bytes)
    self = context.finish()
  }

  /// Computes the fingerprint of a contiguous tensor's stored bytes.
  ///
  /// - Parameter part: those that count; all by default.
  package init(of tensor: Tensor, part: Range<Int>? = nil) {
    self = tensor.withBytes { bytes in
      unsafe bytes.extracting(part ?? 0..<tensor.info.byteCount).withUnsafeBytes { unsafe Fingerprint(of: $0) }
    }
  }
}

/// Some of a tensor's bytes, and their fingerprint.
package struct TensorPiece: Sendable {
  package let bytes: Range<Int>
  package let fingerprint: Fingerprint

  package init(bytes: Range<Int>, fingerprint: Fingerprint) {
    self.bytes = bytes
    self.fingerprint = fingerprint
  }
}

/// A fingerprint in the making.
@safe package final class FingerprintContext {
  private static let keyAndNonce = (0..<28).map { _ in UInt8.random(in: .min ... .max) }
  private let context: OpaquePointer

  package init() {
    // All of these fail only where there is no memory left, or a libcrypto without GMAC.
    guard let algorithm = unsafe EVP_MAC_fetch(nil, "GMAC", nil), let context = unsafe EVP_MAC_CTX_new(algorithm) else {
      preconditionFailure("libcrypto has no GMAC")
    }
    unsafe EVP_MAC_free(algorithm)
    unsafe self.context = context
    // The parameters keep the addresses of their names, too.
    var names = Array("cipher\0iv\0AES-128-GCM".utf8CString)
    var nonce = Array(Self.keyAndNonce[16...])
    let isReady = unsafe names.withUnsafeMutableBufferPointer { names in
      unsafe nonce.withUnsafeMutableBufferPointer { nonce in
        guard let cipher = names.baseAddress else { return false }
        let parameters = unsafe [
          OSSL_PARAM_construct_utf8_string(cipher, cipher + 10, 0),
          OSSL_PARAM_construct_octet_string(cipher + 7, nonce.baseAddress, nonce.count), OSSL_PARAM_construct_end(),
        ]
        return unsafe EVP_MAC_init(context, Self.keyAndNonce, 16, parameters) == 1
      }
    }
    precondition(isReady, "libcrypto has no GMAC")
  }

  deinit { unsafe EVP_MAC_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    unsafe EVP_MAC_update(context, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
  }

  package func finish() -> Fingerprint {
    var bytes = [UInt8](repeating: 0, count: 16)
    var count = 0
    let isDone = unsafe bytes.withUnsafeMutableBufferPointer {
      unsafe EVP_MAC_final(context, $0.baseAddress, &count, $0.count) == 1
    }
    precondition(isDone && count == 16, "no fingerprint")
    return Fingerprint(bytes: bytes)
  }
}
