import FoundationEssentials
import Glibc
import Synchronization

/// A directory of output that appears whole or not at all.
///
/// Files are written to a hidden directory beside the destination, `.NAME.normfold-PID-RANDOM`, and renamed into place
/// when all of them are complete, verified and on the device. Whatever happens before that leaves the destination
/// as it was: an error removes the hidden directory, a signal does through ``removeAll()``, and what a killed process
/// left is found by its name and the lock that it no longer holds (``removeStale(beside:)``).
///
/// An input that is mapped keeps its bytes when a new file is renamed over it, so that a checkpoint could even be
/// converted in place; ``Destination/refuse(overlapping:)`` forbids that all the same, since the old directory is removed.
package final class StagedOutput: Sendable {
  package let destination: Destination
  /// The hidden directory to write to: it exists, is empty, and is no one else's.
  package let path: String
  /// The directories around the destination that were missing, the outermost first. They are removed again where nothing
  /// is published.
  private let createdParents: [String]

  /// Checks the destination and creates the hidden directory.
  ///
  /// - Parameter replacing: whether an existing model directory may be replaced, with everything in it.
  /// - Throws: `.output` where the destination is taken or its parent directory cannot be written.
  package convenience init(directory destination: String, replacing: Bool) throws(Refusal) {
    try self.init(for: Destination(directory: destination, replacing: replacing))
  }

  /// Creates the hidden directory for a destination that was checked before.
  /// - Throws: `.output` where the parent directory cannot be written; `.interrupted` after ``removeAll()``.
  package init(for destination: Destination) throws(Refusal) {
    self.destination = destination
    // Under the lock, so that a signal finds either no directory or one that it knows of.
    let created: Result<(String, [String]), Refusal> = liveDirectories.withLock { live in
      do throws(Refusal) {
        guard !live.isEnding else { throw Self.interruption(of: destination) }
        let parents = try destination.createParents()
        do throws(Refusal) {
          let path = try Self.createDirectory(for: destination, in: &live)
          live.createdParents[path] = parents
          return .success((path, parents))
        } catch {
          Destination.removeIfEmpty(parents)
          throw error
        }
      } catch {
        return .failure(error)
      }
    }
    (path, createdParents) = try created.get()
  }

  deinit { discard() }

  /// Creates and locks a hidden directory under a name that no one has.
  private static func createDirectory(
    for destination: Destination, in live: inout LiveDirectories
  ) throws(Refusal) -> String {
    // Another process that cleans up may take a fresh directory for a stale one until it is locked; the directory is
    // ours when the lock is held and the path still leads to what is locked.
    for _ in 0..<100 {
      let random = String(UInt32.random(in: .min ... .max), radix: 16)
      let path = "\(destination.stagingPrefix)\(getpid())-\(random)"
      guard unsafe mkdir(path, 0o777) == 0 else {
        if errno == EEXIST { continue }
        throw destination.parentRefusal(errno)
      }
      let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else {
        let code = errno
        if code == ENOENT { continue }
        unsafe rmdir(path)
        throw destination.parentRefusal(code)
      }
      // Some network file systems cannot lock a directory. Then no one else can either, and no one will take it for stale.
      let isTaken = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
      var status = stat()
      guard !isTaken, unsafe fstat(descriptor, &status) == 0,
        FileIdentity(ofItemAt: path) == FileIdentity(status)
      else {
        // Empty still, and of a name that no one else has; one that is being cleaned up is another's to remove.
        if !isTaken { unsafe rmdir(path) }
        close(descriptor)
        continue
      }
      live.descriptors[path] = descriptor
      return path
    }
    throw destination.parentRefusal(EEXIST)
  }

  /// - Throws: `.output` where the device has less than `byteCount` bytes left. A file system may still run full later.
  package func requireSpace(_ byteCount: Int) throws(Refusal) {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { return }
    let (available, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
    guard overflow || available >= byteCount else {
      throw Refusal(
        .output, file: destination.path, "the output needs \(byteCount.bytes), the device has \(available) left",
        advice: "free some space or choose another destination; nothing was replaced")
    }
  }

  /// Syncs everything written and renames it into place. Afterwards ``path`` leads nowhere.
  ///
  /// - Returns: warnings, where the output is in place but its directory could not be synced, or the replaced one not
  ///   removed.
  /// - Throws: `.output`, and the destination is as it was; `.interrupted` after ``removeAll()``.
  @discardableResult
  package func publish() throws(Refusal) -> [String] {
    try syncTree()
    let result: Result<Void, Refusal> = liveDirectories.withLock { live in
      guard let descriptor = live.descriptors[path] else {
        return .failure(Self.interruption(of: destination))
      }
      do throws(Refusal) {
        let hasReplaced = try destination.take(path)
        // The lock goes with the directory, which is the user's now. The old one, at `path` since, stays in the list
        // until it is gone.
        close(descriptor)
        live.descriptors[path] = hasReplaced ? -1 : nil
        live.createdParents[path] = nil
        live.hasPublished = true
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    var warnings: [String] = []
    do throws(Refusal) { try syncParents() } catch { warnings.append("\(error)") }
    discard()
    if FileIdentity(ofItemAt: path) != nil {
      warnings.append("\(path): what was at \(destination.path) before cannot be removed")
    }
    return warnings
  }

  /// Syncs the file `name` in the hidden directory and renames it to the destination, which is a file's. Afterwards
  /// ``path`` leads nowhere.
  ///
  /// - Returns: a warning, where the output is in place but its directory could not be synced.
  /// - Throws: `.output`, and the destination is as it was; `.interrupted` after ``removeAll()``.
  @discardableResult
  package func publish(file name: String) throws(Refusal) -> [String] {
    try syncTree()
    let result: Result<Void, Refusal> = liveDirectories.withLock { live in
      guard live.descriptors[path] != nil else {
        return .failure(Self.interruption(of: destination))
      }
      do throws(Refusal) {
        try destination.takeFile(path + "/" + name)
        live.createdParents[path] = nil
        live.hasPublished = true
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    discard()
    do throws(Refusal) { try syncParents() } catch { return ["\(error)"] }
    return []
  }

  /// Writes one file, whole or not at all.
  ///
  /// - Parameter destination: of a file.
  /// - Returns: warnings, as of ``publish(file:)``.
  /// - Throws: `.output`, and what was there is as it was.
  package static func write(_ bytes: [UInt8], to destination: Destination) throws(Refusal) -> [String] {
    _ = removeStale(beside: destination)
    let staged = try StagedOutput(for: destination)
    let file = try OutputFile(creating: staged.path + "/" + destination.name)
    try file.write(bytes)
    try file.finish()
    return try staged.publish(file: destination.name)
  }

  /// Removes the hidden directory with all that is in it; does nothing after ``publish()``.
  package func discard() {
    liveDirectories.withLock { live in
      if let descriptor = live.descriptors.removeValue(forKey: path) { remove(path, descriptor) }
      Destination.removeIfEmpty(live.createdParents.removeValue(forKey: path) ?? [])
    }
  }

  /// Every file is on the device before its name is: otherwise a power failure could leave the name with no bytes.
  private func syncTree() throws(Refusal) {
    for name in (try? FileManager.default.subpathsOfDirectory(atPath: path)) ?? [] {
      try sync(path + "/" + name, O_NOFOLLOW)
    }
    try sync(path, O_DIRECTORY)
  }

  /// The names of the destination, and of the directories around it that were created.
  private func syncParents() throws(Refusal) {
    for directory in [destination.parent] + createdParents { try sync(directory, O_DIRECTORY) }
    if let first = createdParents.first { try sync(first + "/..", O_DIRECTORY) }
  }

  private func sync(_ path: String, _ flags: Int32) throws(Refusal) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags)
    // A link has no bytes of its own, and a file that cannot be opened for reading was synced when it was written.
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // EINVAL: the file system has nothing to sync.
    guard fsync(descriptor) == 0 || errno == EINVAL else {
      throw Refusal(.output, file: path, "cannot be synced to disk: \(String(errno: errno))")
    }
  }
}

// MARK: - What is left when a run ends early

private struct LiveDirectories {
  /// The hidden directories of this process, each with the descriptor that holds its lock, or -1.
  var descriptors: [String: Int32] = [:]
  /// The directories around the destination of each that were created for it, the outermost first.
  var createdParents: [String: [String]] = [:]
  /// Is true if ``StagedOutput/removeAll()`` was called: from then on, nobody would remove another hidden directory.
  var isEnding = false
  /// Is true if anything of this process is in place.
  var hasPublished = false
}

/// Whoever creates, renames or removes a hidden directory does it under this lock, so that a signal finds it either
/// whole or gone.
private let liveDirectories = Mutex(LiveDirectories())

/// Removes first and unlocks then: an unlocked directory is anyone's to remove.
private func remove(_ path: String, _ descriptor: Int32) {
  for _ in 0..<8 {
    // A writer in another thread may create a file while its neighbours are being removed.
    do { try FileManager.default.removeItem(atPath: path) } catch { continue }
    break
  }
  if descriptor >= 0 { close(descriptor) }
}

extension StagedOutput {
  /// Removes the hidden directories of all outputs of this process; publishing them then fails, and so does creating
  /// another: other threads go on until the process has ended. For the end of a run by a signal: call it from a
  /// dispatch source, not from the signal handler itself.
  /// - Returns: whether an output of this process was in place before.
  @discardableResult
  package static func removeAll() -> Bool {
    liveDirectories.withLock { live in
      for (path, descriptor) in live.descriptors {
        remove(path, descriptor)
        Destination.removeIfEmpty(live.createdParents[path] ?? [])
      }
      (live.descriptors, live.createdParents) = ([:], [:])
      live.isEnding = true
      return live.hasPublished
    }
  }

  private static func interruption(of destination: Destination) -> Refusal {
    Refusal(.interrupted, file: destination.path, "stopped before the output was complete")
  }

  /// Removes what killed processes left beside `destination`: hidden directories of that destination which nobody
  /// holds locked. The process number in the name decides nothing, since numbers are used again and containers
  /// number their processes on their own.
  ///
  /// - Returns: the names of what was removed, in order.
  package static func removeStale(beside destination: Destination) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: destination.parent)) ?? []
    var removed: [String] = []
    for name in names.sorted() {
      let path = destination.parent == "/" ? "/" + name : destination.parent + "/" + name
      guard destination.isStagingPath(path) else { continue }
      let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      var status = stat()
      // What its owner has published or removed by now is unlocked, too, and not at this path any more.
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, unsafe fstat(descriptor, &status) == 0,
        FileIdentity(ofItemAt: path) == FileIdentity(status)
      else {
        close(descriptor)
        continue
      }
      remove(path, descriptor)
      if FileIdentity(ofItemAt: path) == nil { removed.append(name) }
    }
    return removed
  }
}
