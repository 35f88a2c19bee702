import CNormFoldCrypto
import CNormFoldKernels
import Synchronization

/// A SHA-256 digest.
package struct Digest: Hashable, Sendable, CustomStringConvertible {
  package let bytes: [UInt8]

  fileprivate init(bytes: [UInt8]) { self.bytes = bytes }

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

  /// The digest of some bytes of a file; of all by default.
  package init(of file: MappedFile, bytes wanted: Range<Int>? = nil) {
    let context = DigestContext()
    let wanted = wanted ?? 0..<file.byteCount
    for start in stride(from: wanted.lowerBound, to: wanted.upperBound, by: Self.partByteCount) {
      file.withBytes { bytes in
        let part = bytes.extracting(start..<min(start + Self.partByteCount, wanted.upperBound))
        unsafe part.withUnsafeBytes { unsafe context.update($0) }
      }
    }
    self = context.finish()
  }
}

extension Digest {
  /// The digests of two pieces of a file, one behind the other, on a processor that computes two at a time.
  ///
  /// - Parameters:
  ///   - start: the first byte of the first piece.
  ///   - byteCount: of each, a multiple of 64.
  package static func pair(of file: MappedFile, at start: Int, byteCount: Int) -> (Digest, Digest) {
    precondition(byteCount % 64 == 0 && start + 2 * byteCount <= file.byteCount)
    var bytes = [UInt8](repeating: 0, count: 64)
    file.withBytes { all in
      let pieces = all.extracting(start..<start + 2 * byteCount)
      unsafe pieces.withUnsafeBytes { pieces in
        guard let first = pieces.baseAddress else { return }
        unsafe bytes.withUnsafeMutableBufferPointer { digests in
          guard let place = digests.baseAddress else { return }
          unsafe normfold_sha256_pair(first, first + byteCount, byteCount, place)
        }
      }
    }
    return (Digest(bytes: Array(bytes[..<32])), Digest(bytes: Array(bytes[32...])))
  }
}

/// A way to tell files from each other.
///
///     conversion.digest = .sha256
public enum DigestAlgorithm: String, Sendable, Codable, CaseIterable {
  /// The SHA-256 of the SHA-256s, 32 bytes each, of the file's pieces of 16 MiB, of which the last may be shorter. Cores
  /// share the pieces; a plain SHA-256 is one long chain.
  case tree = "sha256-tree-16M"
  case sha256

  package static let pieceByteCount = 16 << 20

  /// The algorithm and the digest: `sha256:5e…`.
  package func digest(of file: MappedFile, workers: Workers) -> String {
    guard self == .tree else { return described(Digest(of: file)) }
    let count = (file.byteCount + Self.pieceByteCount - 1) / Self.pieceByteCount
    let digests = Mutex([Digest?](repeating: nil, count: count))
    let pairCount = normfold_has_sha256_pairs() ? file.byteCount / Self.pieceByteCount / 2 : 0
    workers.forEach(count - pairCount) { task in
      guard task >= pairCount else {
        let pair = Digest.pair(of: file, at: 2 * task * Self.pieceByteCount, byteCount: Self.pieceByteCount)
        digests.withLock { ($0[2 * task], $0[2 * task + 1]) = pair }
        return
      }
      let piece = pairCount + task
      let start = piece * Self.pieceByteCount
      let digest = Digest(of: file, bytes: start..<min(start + Self.pieceByteCount, file.byteCount))
      digests.withLock { $0[piece] = digest }
    }
    let root = DigestContext()
    for digest in digests.withLock(\.self) {
      if let digest { unsafe digest.bytes.withUnsafeBytes { unsafe root.update($0) } }
    }
    return described(root.finish())
  }

  /// A text that is as long as those that ``digest(of:workers:)`` returns.
  package var placeholder: String { described(Digest(bytes: [UInt8](repeating: 0, count: 32))) }

  private func described(_ digest: Digest) -> String { "\(rawValue):\(digest)" }
}
