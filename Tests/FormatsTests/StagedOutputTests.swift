import Foundation
import Glibc
import NormFoldFormats
import Testing
import TestSupport

private func put(_ text: String, in directory: String, _ name: String = "model.gguf") throws {
  let file = try OutputFile(creating: directory + "/" + name)
  try file.write(Array(text.utf8))
  try file.finish()
}

private func content(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

private func names(_ path: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: path).sorted()
}

private func makeDirectory(_ path: String) throws {
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
}

// MARK: Where output may go

/// What is at the destination `out` and its parent, and what is said about it.
struct DestinationCase: CustomTestStringConvertible {
  let testDescription: String
  let path: String
  let replacing: Bool
  let verdict: Verdict
  let arrange: @Sendable (String) throws -> Void

  init(
    _ name: String, at path: String = "out", replacing: Bool = false, _ verdict: Verdict,
    _ arrange: @escaping @Sendable (String) throws -> Void = { _ in }
  ) {
    testDescription = name
    self.path = path
    self.replacing = replacing
    self.verdict = verdict
    self.arrange = arrange
  }

  static let all: [DestinationCase] = [
    .init("nothing there", .accepted("out")),
    .init("nothing there to replace", replacing: true, .accepted("out")),
    .init("slashes at the end", at: "out//", .accepted("out")),
    .init(
      "current directory", at: ".",
      .refused(".: expected the name of a directory to create; add a name, as in './converted'")),
    .init(
      "parent directory", at: "x/..",
      .refused("x/..: expected the name of a directory to create; add a name, as in 'x/../converted'")),
    .init("no parent", at: "a/b/out", .accepted("a/b/out")),
    .init(
      "parent is a link to nowhere", at: "a/out",
      .refused("a/out: cannot write to 'a': No such file or directory; choose another destination")
    ) { #expect(symlink("nowhere", $0 + "/a") == 0) },
    .init("parent is a file", at: "a/out", .refused("a/out: 'a' is not a directory; choose another destination")) {
      try put("", in: $0, "a")
    },
    .init(
      "long name", at: String(repeating: "n", count: 255),
      .accepted(String(repeating: "n", count: 255))),
    .init(
      "name too long", at: String(repeating: "n", count: 256),
      .refused(
        String(repeating: "n", count: 256) + ": cannot write to '.': File name too long; choose another destination")),
    .init(
      "directory", .refused("out: exists already; choose another destination, or replace it with replacesDestination")
    ) {
      try makeDirectory($0 + "/out")
    },
    .init("file", .refused("out: expected a directory or nothing, found a file; choose another destination")) {
      try put("", in: $0, "out")
    },
    .init(
      "file to replace", replacing: true,
      .refused("out: expected a directory or nothing, found a file; choose another destination")
    ) { try put("", in: $0, "out") },
    .init(
      "FIFO to replace", replacing: true,
      .refused("out: expected a directory or nothing, found a pipe, socket or device; choose another destination")
    ) { #expect(mkfifo($0 + "/out", 0o600) == 0) },
    .init(
      "link to replace", replacing: true,
      .refused("out: expected a directory or nothing, found a link; choose another destination")
    ) {
      try makeDirectory($0 + "/real")
      #expect(symlink("real", $0 + "/out") == 0)
    },
    .init(
      "dangling link", .refused("out: expected a directory or nothing, found a link; choose another destination")
    ) { #expect(symlink("nowhere", $0 + "/out") == 0) },
    .init("empty directory to replace", replacing: true, .accepted("out")) { try makeDirectory($0 + "/out") },
    .init("safetensors to replace", replacing: true, .accepted("out")) {
      try makeDirectory($0 + "/out/.cache")
      try put("", in: $0 + "/out", "model-00001-of-00002.safetensors")
    },
    .init("ONNX to replace", replacing: true, .accepted("out")) {
      try makeDirectory($0 + "/out/onnx")
      try put("", in: $0 + "/out", "model.onnx")
    },
    .init("config to replace", replacing: true, .accepted("out")) {
      try makeDirectory($0 + "/out")
      try put("", in: $0 + "/out", "config.json")
    },
    .init(
      "something else to replace", replacing: true,
      .refused(
        "out, 'thesis.tex': expected a model directory to replace, found this file and no config.json, .safetensors, .gguf or .onnx; remove it yourself, or choose another destination"
      )
    ) {
      try makeDirectory($0 + "/out")
      try put("", in: $0 + "/out", "thesis.tex")
    },
    .init(
      "a repository to replace", replacing: true,
      .refused(
        "out, '.git': expected a model directory to replace, found this directory in it; remove it yourself, or choose another destination"
      )
    ) {
      try makeDirectory($0 + "/out/.git")
      try put("", in: $0 + "/out", "config.json")
    },
  ]
}

@Test("destination", arguments: DestinationCase.all)
func destination(_ row: DestinationCase) throws {
  let directory = try TemporaryDirectory()
  try row.arrange(directory.path)
  let before = try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted()
  let verdict = Verdict(in: directory.path) {
    let staged = try StagedOutput(directory: directory / row.path, replacing: row.replacing)
    return (staged.destination.path.replacing(directory.path + "/", with: ""), [])
  }
  #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
  #expect(try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted() == before)
}

@Test("output over the input is refused", arguments: ["the file itself", "hard link", "symbolic link", "in a folder"])
func overlap(_ kind: String) throws {
  let directory = try TemporaryDirectory()
  try makeDirectory(directory / "out/onnx")
  let place =
    switch kind {
    case "the file itself": "out/model.safetensors"
    case "in a folder": "out/onnx/model.safetensors"
    default: "model.safetensors"
    }
  let input = try MappedFile(path: directory.write([1], to: place))
  if kind == "hard link" { #expect(link(input.path, directory / "out/x.safetensors") == 0) }
  if kind == "symbolic link" { #expect(symlink(input.path, directory / "out/x.safetensors") == 0) }
  try directory.write([2], to: "out/config.json")
  let destination = try Destination(directory: directory / "out", replacing: true)
  let verdict = Verdict(in: directory.path) {
    try destination.refuse(overlapping: [input.identity])
    return ("", [])
  }
  let found = place.hasPrefix("out/") ? place : "out/x.safetensors"
  #expect(
    verdict == .refused("\(found): is a file of the input, and would be replaced; choose another destination"))

  let other = try MappedFile(path: directory.write([3], to: "other"))
  try destination.refuse(overlapping: [other.identity])
}

// MARK: Publishing

@Test("Directories around the destination appear with it, and stay with nothing less")
func missingParents() throws {
  let directory = try TemporaryDirectory()
  let failed = try StagedOutput(directory: directory / "a/b/out", replacing: false)
  #expect(try FileManager.default.contentsOfDirectory(atPath: directory / "a/b").count == 1)
  // Another's, which was put there meanwhile.
  try directory.write([1], to: "a/other")
  failed.discard()
  #expect(try FileManager.default.subpathsOfDirectory(atPath: directory / "a") == ["other"])
  let staged = try StagedOutput(directory: directory / "a/c/out", replacing: false)
  #expect(try staged.publish() == [])
  staged.discard()
  #expect(try FileManager.default.subpathsOfDirectory(atPath: directory / "a/c") == ["out"])
}

@Test("what is published appears whole, and nothing else does", arguments: [false, true])
func publishes(replacing: Bool) throws {
  let directory = try TemporaryDirectory()
  if replacing {
    try makeDirectory(directory / "out/onnx")
    try put("old", in: directory / "out")
    try put("old", in: directory / "out/onnx", "old.onnx")
  }
  let staged = try StagedOutput(directory: directory / "out", replacing: replacing)
  #expect(try names(directory.path).count == (replacing ? 2 : 1))
  try put("new", in: staged.path)
  try makeDirectory(staged.path + "/onnx")
  try put("{}", in: staged.path + "/onnx", "config.json")
  #expect(content(directory / "out/model.gguf") == (replacing ? "old" : nil))
  #expect(try staged.publish() == [])
  #expect(try names(directory.path) == ["out"])
  #expect(
    try FileManager.default.subpathsOfDirectory(atPath: directory / "out").sorted() == [
      "model.gguf", "onnx", "onnx/config.json",
    ])
  #expect(content(directory / "out/model.gguf") == "new")
  staged.discard()
  #expect(content(directory / "out/model.gguf") == "new")
}

@Test("hidden directories name their process, and go away with their owner") func discards() throws {
  let directory = try TemporaryDirectory()
  do {
    let staged = try StagedOutput(directory: directory / "out", replacing: false)
    try put("new", in: staged.path)
    let name = try #require(names(directory.path).first)
    #expect(name.hasPrefix(".out.normfold-\(getpid())-"))
    #expect(staged.path == directory / name)
  }
  #expect(try names(directory.path) == [])
}

@Test("of two conversions to one destination one wins") func race() throws {
  let directory = try TemporaryDirectory()
  let first = try StagedOutput(directory: directory / "out", replacing: false)
  let second = try StagedOutput(directory: directory / "out", replacing: false)
  try put("first", in: first.path)
  try put("second", in: second.path)
  try second.publish()
  let verdict = Verdict(in: directory.path) { ("", try first.publish()) }
  #expect(
    verdict == .refused("out: exists already; choose another destination, or replace it with replacesDestination"))
  #expect(content(directory / "out/model.gguf") == "second")
  first.discard()
  #expect(try names(directory.path) == ["out"])
}

/// On threads, so that some reach the rename itself at the same time.
@Test("of sixteen conversions at once one wins") func races() async throws {
  let directory = try TemporaryDirectory()
  let won = try await withThrowingTaskGroup(of: Int.self) { group in
    for _ in 0..<16 {
      group.addTask {
        do {
          let staged = try StagedOutput(directory: directory / "out", replacing: false)
          try put("whole", in: staged.path)
          try staged.publish()
          return 1
        } catch let error as Refusal {
          #expect(error.category == .output)
          return 0
        }
      }
    }
    return try await group.reduce(0, +)
  }
  #expect(won == 1)
  #expect(try names(directory.path) == ["out"])
}

@Test("a destination that became someone's work meanwhile is kept") func foreign() throws {
  let directory = try TemporaryDirectory()
  let staged = try StagedOutput(directory: directory / "out", replacing: true)
  try makeDirectory(directory / "out")
  try put("work", in: directory / "out", "thesis.tex")
  #expect(throws: Refusal.self) { try staged.publish() }
  #expect(content(directory / "out/thesis.tex") == "work")
}

@Test("without the kernel's exchange of names", arguments: [false, true]) func fallback(exists: Bool) throws {
  let directory = try TemporaryDirectory()
  for name in exists ? ["out", "staged"] : ["staged"] {
    try makeDirectory(directory / name)
    try put(name, in: directory / name)
  }
  let destination = try Destination(directory: directory / "out", replacing: true)
  #expect(try destination.take(directory / "staged", atomically: false) == exists)
  #expect(content(directory / "out/model.gguf") == "staged")
  #expect(content(directory / "staged/model.gguf") == (exists ? "out" : nil))
  #expect(try names(directory.path) == (exists ? ["out", "staged"] : ["out"]))

  let next = try Destination(directory: directory / "next", replacing: false)
  #expect(throws: Refusal.self) { try next.take(directory / "nothing", atomically: false) }
}

@Test("modes follow the umask") func modes() throws {
  let status = try #require(content("/proc/self/status"))
  let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("Umask:") })
  let mask = try #require(UInt32(line.dropFirst(6).drop(while: \.isWhitespace), radix: 8))
  let directory = try TemporaryDirectory()
  let staged = try StagedOutput(directory: directory / "out", replacing: false)
  try put("new", in: staged.path)
  try staged.publish()
  for (path, mode) in [("out", 0o777), ("out/model.gguf", 0o666)] as [(String, UInt32)] {
    var status = stat()
    #expect(stat(directory / path, &status) == 0)
    #expect(status.st_mode & 0o777 == mode & ~mask)
  }
}

// MARK: What runs that ended early leave

@Test("what killed processes left is removed, and nothing else") func stale() throws {
  let directory = try TemporaryDirectory()
  let live = try StagedOutput(directory: directory / "out", replacing: false)
  let staleName = ".out.normfold-\(getpid())-cafe"
  let others = [
    ".other.normfold-1-cafe", ".out.normfold-1-cafe.replaced", ".out.normfold-1", ".out.normfold-x-cafe",
    ".out.normfold-1-nope", "out.normfold-1-cafe",
  ]
  for name in others + [staleName, ".out.normfold-4194304-1"] { try makeDirectory(directory / "\(name)/onnx") }
  try put("x", in: directory / staleName)
  try put("not a directory", in: directory.path, ".out.normfold-1-beef")
  #expect(symlink(others[0], directory / ".out.normfold-1-aaaa") == 0)
  let removed = StagedOutput.removeStale(beside: try Destination(directory: directory / "out", replacing: false))
  #expect(removed == [".out.normfold-4194304-1", staleName].sorted())
  let kept =
    others + [".out.normfold-1-beef", ".out.normfold-1-aaaa", String(live.path.dropFirst(directory.path.count + 1))]
  #expect(try names(directory.path) == kept.sorted())
}

@Test("a killed process leaves nothing at the destination, and the next run cleans up") func killed() async throws {
  let directory = try TemporaryDirectory()
  let path = directory.path
  await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
    let staged = try StagedOutput(directory: path + "/out", replacing: false)
    try put("half", in: staged.path)
    kill(getpid(), SIGKILL)
  }
  let left = try names(path)
  #expect(left.count == 1)
  #expect(StagedOutput.removeStale(beside: try Destination(directory: path + "/out", replacing: false)) == left)
  #expect(try names(path) == [])
}

/// In a process of its own: it would take the directories of other tests along.
@Test("a signal removes what is not published") func removeAll() async throws {
  let directory = try TemporaryDirectory()
  let path = directory.path
  await #expect(processExitsWith: .success) { [path = path as String] in
    let published = try StagedOutput(directory: path + "/done", replacing: false)
    let staged = try StagedOutput(directory: path + "/out", replacing: false)
    try put("whole", in: published.path)
    try put("half", in: staged.path)
    try published.publish()
    StagedOutput.removeAll()
    #expect(try names(path) == ["done"])
    let verdict = Verdict(in: path) { ("", try staged.publish()) }
    #expect(verdict == .refused("out: stopped before the output was complete"))
    #expect(throws: Refusal.self) { try put("late", in: staged.path, "late") }
    // The thread that was about to begin is not stopped by the signal.
    let begun = Verdict(in: path) {
      (try StagedOutput(directory: path + "/late", replacing: false).path, [])
    }
    #expect(begun == .refused("late: stopped before the output was complete"))
  }
  #expect(try names(path) == ["done"])
}

// MARK: Space

@Test("space is asked for before it is needed") func space() throws {
  let directory = try TemporaryDirectory()
  let staged = try StagedOutput(directory: directory / "out", replacing: false)
  try staged.requireSpace(1)
  let error = #expect(throws: Refusal.self) { try staged.requireSpace(.max) }
  #expect(error?.category == .output)
  let sentence = error?.description ?? ""
  #expect(sentence.hasPrefix("\(directory / "out"): the output needs 9223372036854775807 bytes, the device has "))
  #expect(sentence.hasSuffix(" left; free some space or choose another destination; nothing was replaced"))
}

/// A file system of one megabyte, which only root may mount.
private let canMount: Bool = {
  guard geteuid() == 0, let directory = try? TemporaryDirectory() else { return false }
  guard mount("tmpfs", directory.path, "tmpfs", 0, "size=1m") == 0 else { return false }
  return umount(directory.path) == 0
}()

@Test("a full disk leaves the old output", .enabled(if: canMount, "only root can mount a small file system"))
func fullDisk() throws {
  let directory = try TemporaryDirectory()
  try #require(mount("tmpfs", directory.path, "tmpfs", 0, "size=1m") == 0)
  defer { umount(directory.path) }
  try makeDirectory(directory / "out")
  try put("old", in: directory / "out")
  do {
    let staged = try StagedOutput(directory: directory / "out", replacing: true)
    let name = staged.path.dropFirst(directory.path.count + 1)
    let writer = try TensorWriter(
      safetensors: staged.path + "/model.safetensors", tensors: [.init(name: "a", type: .u8, shape: [2 << 20])])
    let verdict = Verdict(in: directory.path) {
      try writer.append([UInt8](repeating: 1, count: 2 << 20))
      return ("", [])
    }
    // Two pages are taken: the old file and the header.
    #expect(
      verdict
        == .refused(
          "\(name)/model.safetensors at byte 1044480: cannot be written: No space left on device; "
            + "free some space and run it again; nothing was replaced"))
    let space = Verdict(in: directory.path) {
      try staged.requireSpace(2 << 20)
      return ("", [])
    }
    #expect(
      space
        == .refused(
          "out: the output needs 2097152 bytes, the device has 0 left; "
            + "free some space or choose another destination; nothing was replaced"))
  }
  #expect(content(directory / "out/model.gguf") == "old")
  #expect(try names(directory.path) == ["out"])
}
