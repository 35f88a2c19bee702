import Foundation
import Glibc
import NormFoldFormats
import Testing
import TestSupport

/// A path to something that may or may not be a file.
struct MappedFileCase: CustomTestStringConvertible {
  let testDescription: String
  let arrange: @Sendable (String) throws -> Void
  let verdict: Verdict

  init(_ name: String, _ verdict: Verdict, _ arrange: @escaping @Sendable (String) throws -> Void) {
    testDescription = name
    self.arrange = arrange
    self.verdict = verdict
  }

  static let all: [MappedFileCase] = [
    .init(
      "no such file", .refused("x: cannot be opened: No such file or directory; check the path and its permissions")
    ) { _ in },
    .init("three bytes", .accepted("3: [1, 2, 3]")) {
      try Data([1, 2, 3]).write(to: URL(filePath: $0))
    },
    .init("no bytes", .accepted("0: []")) { try Data().write(to: URL(filePath: $0)) },
    .init("a directory", .refused("x: expected a file, found a directory")) {
      try FileManager.default.createDirectory(atPath: $0, withIntermediateDirectories: false)
    },
    // Opening one for reading would wait for a writer for ever.
    .init(
      "FIFO without a writer",
      .refused("x: expected a regular file, found a pipe, socket or device; save its content to a file first")
    ) { #expect(mkfifo($0, 0o600) == 0) },
    .init(
      "device", .refused("x: expected a regular file, found a pipe, socket or device; save its content to a file first")
    ) {
      try FileManager.default.createSymbolicLink(atPath: $0, withDestinationPath: "/dev/null")
    },
    .init(
      "link to no file", .refused("x: cannot be opened: No such file or directory; check the path and its permissions")
    ) {
      try FileManager.default.createSymbolicLink(atPath: $0, withDestinationPath: "nowhere")
    },
    .init(
      "link to itself",
      .refused("x: cannot be opened: Too many levels of symbolic links; check the path and its permissions")
    ) {
      try FileManager.default.createSymbolicLink(atPath: $0, withDestinationPath: $0)
    },
  ]
}

@Test("maps", arguments: MappedFileCase.all)
func maps(_ row: MappedFileCase) throws {
  let directory = try TemporaryDirectory()
  try row.arrange(directory / "x")
  let verdict = Verdict(in: directory.path) {
    let file = try MappedFile(path: directory / "x")
    return (file.withBytes { "\(file.byteCount): \($0.withUnsafeBytes { [UInt8]($0) })" }, [])
  }
  #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
}

@Test("a mapped file keeps its bytes when another is renamed over it") func renamedOver() throws {
  let directory = try TemporaryDirectory()
  let file = try MappedFile(path: directory.write([1, 2, 3], to: "x"))
  let other = try MappedFile(path: directory.write([4], to: "y"))
  #expect(rename(directory / "y", directory / "x") == 0)
  #expect(file.withBytes { $0.withUnsafeBytes { [UInt8]($0) } } == [1, 2, 3])
  #expect(FileIdentity(ofItemAt: directory / "x") == other.identity)
  #expect(file.identity != other.identity)
}

@Test("hard and symbolic links are the same file") func identity() throws {
  let directory = try TemporaryDirectory()
  let file = try MappedFile(path: directory.write([1], to: "x"))
  #expect(link(directory / "x", directory / "hard") == 0)
  #expect(symlink("x", directory / "soft") == 0)
  #expect(try MappedFile(path: directory / "hard").identity == file.identity)
  #expect(try MappedFile(path: directory / "soft").identity == file.identity)
  #expect(FileIdentity(ofItemAt: directory / "none") == nil)
}

@Test("Bytes in memory are read like those of a file, and stay what they are", arguments: ["safetensors", "gguf"])
func inMemory(_ container: String) throws {
  let path = Fixtures.path(container == "gguf" ? "seeds/gguf/tensors.gguf" : "safetensors/element-types.safetensors")
  let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
  let file = MappedFile(copying: bytes, path: path)
  file.forget(before: bytes.count)
  #expect(file.withBytes { span in span.withUnsafeBytes { [UInt8]($0) } } == bytes)
  try file.requireIntact()
  #expect(file.identity != MappedFile(copying: bytes, path: path).identity)
  func tensors(_ checkpoint: Checkpoint) -> [String: [UInt8]] {
    checkpoint.tensors.reduce(into: [:]) { result, tensor in
      result[tensor.name] = tensor.withBytes { span in span.withUnsafeBytes { [UInt8]($0) } }
    }
  }
  let (found, expected) =
    container == "gguf"
    ? (try Checkpoint(gguf: file), try Checkpoint(gguf: path))
    : (try Checkpoint(safetensors: file), try Checkpoint(safetensors: path))
  #expect(tensors(found) == tensors(expected))
}

@Test("No bytes in memory are an empty file")
func emptyInMemory() throws {
  let file = MappedFile(copying: [], path: "nothing.safetensors")
  #expect(file.byteCount == 0)
  let refusal = #expect(throws: Refusal.self) { try Checkpoint(safetensors: file) }
  #expect(refusal?.file == "nothing.safetensors" && refusal?.category == .malformed)
}
