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

/// Ways to compute the digests of pieces of a file, one behind the other and equally long. All give the same ones.
package enum DigestMethod: CaseIterable, Sendable {
  /// libcrypto's.
  case alone
  /// Two at a time, with the instructions that processors have for SHA-256.
  case pairs
  /// Sixteen at a time, one in each lane of a vector.
  case lanes

  /// Is true if this processor has the instructions.
  package var isAvailable: Bool {
    switch self {
    case .alone: true
    case .pairs: normfold_has_sha256_pairs()
    case .lanes: normfold_has_sha256_lanes()
    }
  }

  /// The number of pieces that are computed at a time.
  package var pieceCount: Int {
    switch self {
    case .alone: 1
    case .pairs: 2
    case .lanes: 16
    }
  }

  /// The one that takes the least time for so many pieces on this processor. Lanes take as long for few pieces as for many.
  fileprivate static func fastest(forPieces count: Int) -> DigestMethod {
    if normfold_prefers_sha256_lanes(), count >= DigestMethod.lanes.pieceCount / 2 { return .lanes }
    return count > 1 && DigestMethod.pairs.isAvailable ? .pairs : .alone
  }

  /// The digests of pieces.
  ///
  /// - Parameters:
  ///   - start: the first byte of the first piece.
  ///   - count: at most ``pieceCount``.
  ///   - byteCount: of each, a multiple of 64.
  package func digests(of file: MappedFile, at start: Int, count: Int, byteCount: Int) -> [Digest] {
    precondition(byteCount % 64 == 0 && start + count * byteCount <= file.byteCount && count <= pieceCount)
    guard self != .alone, count > 1 else {
      return (0..<count).map { Digest(of: file, bytes: start + $0 * byteCount..<start + ($0 + 1) * byteCount) }
    }
    var bytes = [UInt8](repeating: 0, count: 32 * count)
    file.withBytes { all in
      let pieces = all.extracting(start..<start + count * byteCount)
      unsafe pieces.withUnsafeBytes { pieces in
        guard let first = pieces.baseAddress else { return }
        let places: [UnsafeRawPointer?] = unsafe (0..<count).map { unsafe first + $0 * byteCount }
        unsafe bytes.withUnsafeMutableBufferPointer { digests in
          guard let target = digests.baseAddress else { return }
          if self == .pairs {
            unsafe normfold_sha256_pair(first, first + byteCount, byteCount, target)
          } else {
            unsafe places.withUnsafeBufferPointer {
              unsafe normfold_sha256_lanes($0.baseAddress, count, byteCount, target)
            }
          }
        }
      }
    }
    return (0..<count).map { Digest(bytes: Array(bytes[32 * $0..<32 * ($0 + 1)])) }
  }
}

extension Digest {
  /// The digest of the digests of a file's pieces.
  ///
  /// - Parameters:
  ///   - pieceByteCount: of each, a multiple of 64; the last one may be shorter.
  ///   - method: the way to compute those of whole pieces; nil for the fastest.
  package init(treeOf file: MappedFile, pieceByteCount: Int, workers: Workers, by method: DigestMethod? = nil) {
    let wholeCount = file.byteCount / pieceByteCount
    let ofEachThread = (wholeCount + workers.count - 1) / workers.count
    let method = method ?? .fastest(forPieces: ofEachThread)
    // Every thread has as many.
    let rounds = (ofEachThread + method.pieceCount - 1) / method.pieceCount
    let share = max(1, (ofEachThread + rounds - 1) / max(1, rounds))
    let taskCount = (wholeCount + share - 1) / share
    let rest = wholeCount * pieceByteCount..<file.byteCount
    let digests = Mutex([[Digest]](repeating: [], count: taskCount + 1))
    workers.forEach(rest.isEmpty ? taskCount : taskCount + 1) { task in
      let first = task * share
      let found =
        task == taskCount
        ? [Digest(of: file, bytes: rest)]
        : method.digests(
          of: file, at: first * pieceByteCount, count: min(share, wholeCount - first), byteCount: pieceByteCount)
      digests.withLock { $0[task] = found }
    }
    let root = DigestContext()
    for digest in digests.withLock(\.self).joined() {
      unsafe digest.bytes.withUnsafeBytes { unsafe root.update($0) }
    }
    self = root.finish()
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
    return described(Digest(treeOf: file, pieceByteCount: Self.pieceByteCount, workers: workers))
  }

  /// A text that is as long as those that ``digest(of:workers:)`` returns.
  package var placeholder: String { described(Digest(bytes: [UInt8](repeating: 0, count: 32))) }

  private func described(_ digest: Digest) -> String { "\(rawValue):\(digest)" }
}
