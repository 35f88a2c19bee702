import Dispatch
import Formats
import Synchronization

/// The SHA-256 of the source's files, computed while its weights are read: the header of the output, where it belongs,
/// is amended afterwards.
final class Hashing: Sendable {
  private let files: [MappedFile]
  private let group = DispatchGroup()
  private let isWanted = Atomic(true)
  private let outcome = Mutex<Result<[ConversionReport.SourceFile], Refusal>?>(nil)

  /// Begins at once, on a thread of its own if there are several workers.
  init(of files: [MappedFile], workers: Workers) {
    self.files = files
    guard workers.count > 1 else { return }
    DispatchQueue.global().async(group: group) {
      let result = self.hash()
      self.outcome.withLock { $0 = result }
    }
  }

  /// As long as the digests of all files, with a space between two.
  var placeholder: String { files.map { _ in String(repeating: "0", count: 64) }.joined(separator: " ") }

  /// Ends the thread, if it is not done: a process that ends while it works takes the library away under its hands.
  func stop() {
    isWanted.store(false, ordering: .relaxed)
    group.wait()
  }

  /// Waits for the end.
  /// - Throws: `.malformed` where a compressed file was replaced meanwhile.
  func result() throws(Refusal) -> [ConversionReport.SourceFile] {
    group.wait()
    return try (outcome.withLock { $0 } ?? hash()).get()
  }

  private func hash() -> Result<[ConversionReport.SourceFile], Refusal> {
    var result: [ConversionReport.SourceFile] = []
    do throws(Refusal) {
      for file in files {
        // Of what the user has, which an expanded file is not.
        let stored = file.path.hasSuffix(".zst") ? try MappedFile(path: file.path) : file
        guard stored.identity == file.identity else {
          throw Refusal(
            .malformed, file: file.path, "was replaced while it was read",
            advice: "wait until whoever writes it is done, and run it again")
        }
        guard let digest = Digest(of: stored, while: { isWanted.load(ordering: .relaxed) }) else { break }
        result.append(.init(path: file.path, byteCount: stored.byteCount, sha256: digest.description))
      }
    } catch { return .failure(error) }
    return .success(result)
  }
}
