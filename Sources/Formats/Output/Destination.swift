import CNormFoldLinux
import FoundationEssentials
import Glibc

/// The place where a directory of output, or one file, will appear, checked before anything is read or written.
package struct Destination: Sendable {
  private enum Form: Sendable {
    case directory, file
  }

  /// The path as the user named it, without slashes at the end.
  package let path: String
  package let replacing: Bool
  /// The directory that it is in: `.` where the path names none.
  package let parent: String
  let name: String
  private let form: Form
  /// The text that a file must begin with to be replaced; empty where any file may be replaced.
  private let start: String

  /// - Throws: `.output` where something is there that may not be replaced.
  package init(directory path: String, replacing: Bool) throws(Refusal) {
    try self.init(path, form: .directory, replacing: replacing)
  }

  /// - Throws: `.output` where something is there that may not be replaced: a file may, if it is to be.
  package init(file path: String, replacing: Bool) throws(Refusal) {
    try self.init(path, form: .file, replacing: replacing)
  }

  /// Checks the destination of a report, which replaces only another report: a mistyped name must not cost anyone a
  /// checkpoint.
  ///
  /// - Throws: `.output` where something is there that may not be replaced.
  package init(page path: String, replacing: Bool) throws(Refusal) {
    guard path.utf8.last != UInt8(ascii: "/") else {
      throw Refusal(
        .output, file: path, "expected the name of a file to create", advice: "add a name, as in '\(path)report.html'")
    }
    try self.init(path, form: .file, start: "<!DOCTYPE html>", replacing: replacing)
  }

  private init(_ path: String, form: Form, start: String = "", replacing: Bool) throws(Refusal) {
    self.form = form
    self.start = start
    var trimmed = Substring(path)
    while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed.removeLast() }
    self.path = String(trimmed)
    self.replacing = replacing
    if let slash = trimmed.lastIndex(of: "/") {
      name = String(trimmed[trimmed.index(after: slash)...])
      parent = slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
    } else {
      name = String(trimmed)
      parent = "."
    }
    guard !["", ".", ".."].contains(name) else {
      throw Refusal(
        .output, file: path, "expected the name of a \(form) to create",
        advice: "add a name, as in '\(path.isEmpty ? "" : self.path == "/" ? "/" : self.path + "/")converted'")
    }
    try refuseConflict()
  }

  /// The directories on the way to the destination that do not exist yet, the outermost first, and the one that they
  /// would be in.
  private var parents: (missing: [String], existing: String) {
    var missing: [String] = []
    var directory = parent
    while FileIdentity(ofItemAt: directory) == nil {
      missing.insert(directory, at: 0)
      guard let slash = directory.lastIndex(of: "/") else { return (missing, ".") }
      directory = slash == directory.startIndex ? "/" : String(directory[..<slash])
      while directory.utf8.count > 1, directory.utf8.last == UInt8(ascii: "/") { directory.removeLast() }
    }
    return (missing, directory)
  }

  /// The innermost directory on the way to the destination that exists.
  package var existingParent: String { parents.existing }

  /// Creates the directories on the way that are missing.
  ///
  /// - Returns: those, the outermost first.
  /// - Throws: `.output` where one cannot be created; those before it are removed again.
  func createParents() throws(Refusal) -> [String] {
    var created: [String] = []
    for directory in parents.missing {
      if unsafe mkdir(directory, 0o777) == 0 {
        created.append(directory)
      } else if errno != EEXIST {
        let code = errno
        Self.removeIfEmpty(created)
        throw Refusal(
          .output, file: path, "the directory '\(directory)' cannot be created: \(String(errno: code))",
          advice: "choose another destination")
      }
    }
    return created
  }

  /// - Parameter directories: the outermost first.
  static func removeIfEmpty(_ directories: [String]) {
    for directory in directories.reversed() { unsafe rmdir(directory) }
  }

  /// Refuses the destination where something is there that may not be replaced.
  /// - Returns: whether there is something to replace.
  /// - Throws: `.output`.
  @discardableResult
  func refuseConflict() throws(Refusal) -> Bool {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else {
      guard errno == ENOENT else { throw parentRefusal(errno) }
      return false
    }
    let kind =
      switch status.st_mode & S_IFMT {
      case S_IFDIR: "directory"
      case S_IFLNK: "link"
      case S_IFREG: "file"
      default: "pipe, socket or device"
      }
    guard kind == "\(form)" else {
      throw Refusal(
        .output, file: path, "expected a \(form) or nothing, found a \(kind)", advice: "choose another destination")
    }
    guard replacing else {
      throw Refusal(
        .output, file: path, "exists already",
        advice: "choose another destination, or replace it with \(.replacesDestination)")
    }
    switch form {
    case .directory: try refuseForeignDirectory()
    case .file: try refuseForeignFile()
    }
    return true
  }

  private func refuseForeignFile() throws(Refusal) {
    guard !start.isEmpty else { return }
    let startsRight = (try? MappedFile(path: path))?.withBytes { bytes in
      bytes.byteCount >= start.utf8.count && bytes.text(in: 0..<start.utf8.count) == start
    }
    guard startsRight == true else {
      throw Refusal(
        .output, file: path, "expected a file to replace that begins with \(start), found another",
        advice: "remove it yourself, or choose another destination")
    }
  }

  /// Replacing a directory removes everything in it, so it must look like what we would put there: empty, or with a
  /// model's config or weights, and no folder but those that model repositories have. A `.git` or `src` is
  /// someone's work.
  private func refuseForeignDirectory() throws(Refusal) {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    } catch {
      throw Refusal(.output, file: path, "cannot be listed", advice: "choose another destination")
    }
    let advice: Message = "remove it yourself, or choose another destination"
    for name in names where !["onnx", ".cache", "1_Pooling"].contains(name) {
      var status = stat()
      guard unsafe lstat(path + "/" + name, &status) == 0 else {
        if errno == ENOENT { continue }
        throw Refusal(
          .output, file: path, subject: name, "cannot be examined: \(String(errno: errno))",
          advice: "choose another destination")
      }
      guard status.st_mode & S_IFMT == S_IFDIR else { continue }
      throw Refusal(
        .output, file: path, subject: name, "expected a model directory to replace, found this directory in it",
        advice: advice)
    }
    let suffixes = [".safetensors", ".gguf", ".onnx"]
    let isModel = names.contains { $0 == "config.json" || suffixes.contains(where: $0.hasSuffix) }
    if let first = names.first, !isModel {
      throw Refusal(
        .output, file: path, subject: first,
        "expected a model directory to replace, found this file and no config.json, .safetensors, .gguf or .onnx",
        advice: advice)
    }
  }

  /// Refuses to write over an input: the destination, or anything in it, must not be one of `inputs` under whatever
  /// name, hard and symbolic links included.
  ///
  /// - Throws: `.output`.
  package func refuse(overlapping inputs: Set<FileIdentity>) throws(Refusal) {
    let names = (try? FileManager.default.subpathsOfDirectory(atPath: path)) ?? []
    for file in [path] + names.sorted().map({ path + "/" + $0 }) {
      guard let identity = FileIdentity(ofItemAt: file), inputs.contains(identity) else { continue }
      throw Refusal(
        .output, file: file, "is a file of the input, and would be replaced", advice: "choose another destination")
    }
  }

  /// Refuses a place that is another destination, or in it: what is there is replaced as a whole, or never appears.
  ///
  /// - Throws: `.output`.
  package func refuse(in other: Destination) throws(Refusal) {
    let (place, around) = (
      URL(filePath: path).standardizedFileURL.path, URL(filePath: other.path).standardizedFileURL.path
    )
    guard !place.hasPrefix(around + "/") else {
      throw Refusal(
        .output, file: path, "lies in the destination of the output, which is replaced as a whole",
        advice: "choose a place beside it")
    }
    if place == around {
      throw Refusal(.output, file: path, "is the destination of the output", advice: "choose another name")
    }
    var directory = existingParent
    var identity = FileIdentity(ofItemAt: directory)
    if name == other.name, identity == FileIdentity(ofItemAt: other.parent) {
      throw Refusal(.output, file: path, "is the destination of the output", advice: "choose another name")
    }
    // Up to the root, which is its own parent.
    while let current = identity {
      if current == FileIdentity(ofItemAt: other.path) {
        throw Refusal(
          .output, file: path, "lies in the destination of the output, which is replaced as a whole",
          advice: "choose a place beside it")
      }
      directory += "/.."
      identity = FileIdentity(ofItemAt: directory)
      if identity == current { return }
    }
  }

  // MARK: Staging

  /// The longest file name that Linux file systems take, in bytes.
  private static let maximumNameByteCount = 255

  /// The path of a hidden directory up to the process number. A long name is cut to leave room.
  var stagingPrefix: String {
    var short = Substring(name)
    while short.utf8.count > Self.maximumNameByteCount - 40 { short.removeLast() }
    return (parent == "/" ? "" : parent) + "/.\(short).normfold-"
  }

  func isStagingPath(_ path: String) -> Bool {
    guard path.hasPrefix(stagingPrefix) else { return false }
    let parts = path.dropFirst(stagingPrefix.count).split(separator: "-", omittingEmptySubsequences: false)
    return parts.count == 2 && Int32(parts[0]) != nil && UInt32(parts[1], radix: 16) != nil
  }

  /// Renames the file `staged` to the destination.
  ///
  /// - Throws: `.output`, and nothing has changed.
  func takeFile(_ staged: String) throws(Refusal) {
    let exists = try refuseConflict()
    if exists {
      guard unsafe rename(staged, path) == 0 else { throw renameRefusal(errno) }
      return
    }
    if unsafe renameat2(AT_FDCWD, staged, AT_FDCWD, path, UInt32(RENAME_NOREPLACE)) == 0 { return }
    guard errno == EINVAL || errno == ENOSYS else { throw renameRefusal(errno) }
    guard unsafe rename(staged, path) == 0 else { throw renameRefusal(errno) }
  }

  /// Renames the directory `staged` to the destination, in one step for whoever looks on.
  ///
  /// - Parameter atomically: false does it as on a file system that cannot exchange two names: between two renames
  ///   there is a moment with nothing at the destination.
  /// - Returns: whether `staged` now leads to what was replaced.
  /// - Throws: `.output`, and nothing has changed.
  package func take(_ staged: String, atomically: Bool = true) throws(Refusal) -> Bool {
    // Looked at again: much can have happened since the start of a long conversion.
    let exists = try refuseConflict()
    if atomically {
      let flags = UInt32(exists ? RENAME_EXCHANGE : RENAME_NOREPLACE)
      if unsafe renameat2(AT_FDCWD, staged, AT_FDCWD, path, flags) == 0 { return exists }
      guard errno == EINVAL || errno == ENOSYS else { throw renameRefusal(errno) }
    }
    guard exists else {
      // A directory is never renamed over a file, nor over a directory that holds anything.
      guard unsafe rename(staged, path) == 0 else { throw renameRefusal(errno) }
      return false
    }
    // Not the name of a hidden directory, which would be removed as stale if this process were killed in between.
    let aside = staged + ".replaced"
    guard unsafe rename(path, aside) == 0 else { throw renameRefusal(errno) }
    guard unsafe rename(staged, path) == 0 else {
      let code = errno
      unsafe rename(aside, path)
      throw renameRefusal(code)
    }
    unsafe rename(aside, staged)
    return true
  }

  private func renameRefusal(_ code: Int32) -> Refusal {
    code == EEXIST || code == ENOTEMPTY
      ? Refusal(
        .output, file: path, "appeared while the output was being written", advice: "choose another destination")
      : Refusal(.output, file: path, "the output cannot be renamed into place: \(String(errno: code))")
  }

  func parentRefusal(_ code: Int32) -> Refusal {
    switch code {
    case ENOTDIR: Refusal(.output, file: path, "'\(parent)' is not a directory", advice: "choose another destination")
    default:
      Refusal(
        .output, file: path, "cannot write to '\(parent)': \(String(errno: code))", advice: "choose another destination"
      )
    }
  }
}
