import Dispatch
import Synchronization

/// The place of a tensor in a file that is being written.
package struct TensorPlace: Sendable {
  package let info: TensorInfo
  package let file: TensorFile
  /// The place of its first byte in the file.
  package let byteOffset: Int

  package init(info: TensorInfo, file: TensorFile, byteOffset: Int) {
    self.info = info
    self.file = file
    self.byteOffset = byteOffset
  }

  /// The bytes of the file that some bytes of the tensor are.
  package func range(_ part: Range<Int>) -> Range<Int> { byteOffset + part.lowerBound..<byteOffset + part.upperBound }
}

/// Writes the files of tensors of one format. Where each tensor lies is settled before the first is computed.
package final class TensorWriter {
  /// The tensors in the order in which they lie in the files. Any thread may write any part of any of them.
  package let places: [TensorPlace]
  private let files: [TensorFile]
  private let finishing: (_ amendments: [Amendment]) throws(Refusal) -> Void
  private var amendments: [Amendment] = []
  /// The tensor with which ``append(_:)`` goes on, and how many of its bytes are written.
  private var current = 0
  private var doneByteCount = 0

  package var order: [TensorInfo] { places.map(\.info) }

  /// A text, and the one of the same length that replaces it.
  package typealias Amendment = (text: String, other: String)

  /// - Parameter finishing: writes what stands beside the files, once they are whole.
  package init(
    _ places: [TensorPlace], in files: [TensorFile],
    finishing: @escaping (_ amendments: [Amendment]) throws(Refusal) -> Void = { _ in }
  ) {
    self.places = places
    self.files = files
    self.finishing = finishing
  }

  /// Writes the next bytes of the tensors, for those who have one byte after the other.
  ///
  /// - Precondition: there are no more of them than the tensors have.
  /// - Throws: `.output`.
  package func append(_ bytes: UnsafeRawBufferPointer) throws(Refusal) {
    var rest = unsafe bytes
    while unsafe !rest.isEmpty {
      precondition(current < places.count, "more bytes than the tensors have")
      let place = places[current]
      let count = min(rest.count, place.info.byteCount - doneByteCount)
      try unsafe place.file.write(
        UnsafeRawBufferPointer(rebasing: rest[..<count]), at: place.byteOffset + doneByteCount)
      unsafe rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      doneByteCount += count
      if doneByteCount == place.info.byteCount { (current, doneByteCount) = (current + 1, 0) }
    }
  }

  package func append(_ bytes: RawSpan) throws(Refusal) {
    try unsafe bytes.withUnsafeBytes { (buffer) throws(Refusal) in try unsafe append(buffer) }
  }

  package func append(_ bytes: [UInt8]) throws(Refusal) { try unsafe append(bytes.span.bytes) }

  /// Replaces a text of the metadata by another of the same length, which was not known when the header was written.
  ///
  /// - Throws: `.output`.
  package func amend(_ text: String, by other: String) throws(Refusal) {
    amendments.append((text, other))
    for file in files where file.hasHead { try file.amend(text, by: other) }
  }

  /// Completes the files, so that they can be read, and syncs them to the device meanwhile.
  ///
  /// - Precondition: every byte of every tensor has been written.
  /// - Returns: what waits for the device.
  /// - Throws: `.output`.
  package func complete() throws(Refusal) -> Syncing {
    for file in files { try file.complete() }
    try finishing(amendments)
    return Syncing(files)
  }

  /// Completes the files and syncs them.
  ///
  /// - Throws: `.output`.
  package func finish() throws(Refusal) { try complete().wait() }
}

/// Files that are being synced by a thread that does nothing but wait for the device.
package final class Syncing: Sendable {
  private let failure = Mutex<Refusal?>(nil)
  private let isDone = DispatchSemaphore(value: 0)

  fileprivate init(_ files: [TensorFile]) {
    DispatchQueue.global().async {
      do throws(Refusal) {
        for file in files { try file.sync() }
      } catch {
        self.failure.withLock { $0 = error }
      }
      self.isDone.signal()
    }
  }

  /// Returns when the files are on the device. Call it once.
  ///
  /// - Throws: `.output`.
  package func wait() throws(Refusal) {
    isDone.wait()
    if let failure = failure.withLock({ $0 }) { throw failure }
  }
}
