import Foundation
import Glibc
import NormFoldFormats
import TestSupport

/// What libFuzzer calls. One program holds all fuzzers; the name under which it is started says which one it is
/// (`Fuzz/run`).
///
/// A parser may answer bytes with a network or with a refusal. It must not crash, hang, allocate without bound, or
/// throw anything else; AddressSanitizer and Swift's own checks turn each of these into an abort.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  do {
    let input = UnsafeRawBufferPointer(start: start, count: count)
    switch fuzzer.run {
    case .bytes(let run): try run(MappedFile(copying: [UInt8](input), path: fuzzer.fileName))
    case .file(let run):
      try place.put(input)
      try run(place)
    }
  } catch let refusal as Refusal {
    // Whatever a message quotes, it can be printed.
    let message = refusal.description
    let isPrintable = message.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
    precondition(!message.isEmpty && isPrintable)
  } catch {
    preconditionFailure("\(error)")
  }
  return 0
}

@c(LLVMFuzzerInitialize)
public func initialize(
  _ argumentCount: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<Arguments>
) -> CInt {
  let program = arguments.pointee.pointee.map { String(cString: $0) } ?? ""
  let name = String(program.split(separator: "/").last ?? "")
  guard let known = Fuzzer.all[name] else {
    FileHandle.standardError.write(Data("there is no fuzzer '\(name)'; Fuzz/run starts them\n".utf8))
    exit(2)
  }
  do {
    fuzzer = known
    atexit { try? FileManager.default.removeItem(atPath: place.directory) }
    if let path = ProcessInfo.processInfo.environment["NORMFOLD_VERDICTS"] {
      try FileHandle.standardOutput.write(contentsOf: Data(Verdicts(path: path).text(by: known).utf8))
      exit(0)
    }
    place = try InputPlace(for: known)
    try known.writeSeeds(to: ".build/fuzz/corpus/" + name)
    let limit = strdup("-max_len=\(known.maximumByteCount)")
    arguments.pointee = appending(limit, to: arguments.pointee, argumentCount.pointee)
    argumentCount.pointee += 1
  } catch {
    FileHandle.standardError.write(Data("\(error)\n".utf8))
    exit(2)
  }
  return 0
}

public typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// Returns arguments with an option behind the program's name: where the same option follows, that one counts.
private func appending(_ option: UnsafeMutablePointer<CChar>?, to arguments: Arguments, _ count: CInt) -> Arguments {
  let result = Arguments.allocate(capacity: Int(count) + 2)
  result[0] = arguments[0]
  result[1] = option
  for index in 1..<Int(count) + 1 { result[index + 1] = index < count ? arguments[index] : nil }
  return result
}

// Set before the first input, and not changed by another thread: libFuzzer has one.
private nonisolated(unsafe) var fuzzer = Fuzzer(fileName: "", run: .bytes { _ in })
private nonisolated(unsafe) var place = InputPlace()

/// A parser with the file that it reads its input from.
struct Fuzzer: Sendable {
  let fileName: String
  /// Where fuzzing starts: files of the project's fixtures.
  var seeds: [String] = []
  /// Files of the fixtures that stand beside the input.
  var companions: [String] = []
  /// An input to start with, besides the seeds.
  var text: String?
  /// A file of so many zeros that stands beside the input.
  var zeros: (name: String, byteCount: Int)?
  /// No input is longer: short ones say as much, and more of them are tried.
  var maximumByteCount = 4_096
  let run: Run

  enum Run: Sendable {
    /// Reads its input from memory.
    case bytes(@Sendable (MappedFile) throws -> Void)
    /// Looks for its input under a name, and for files beside it.
    case file(@Sendable (InputPlace) throws -> Void)
  }
}

/// A directory in memory, with the input in it under the name that its reader expects.
struct InputPlace {
  let directory: String
  let path: String

  init() { (directory, path) = ("", "") }

  init(for fuzzer: Fuzzer) throws {
    directory = "/dev/shm/normfold-fuzz-\(getpid())"
    path = directory + "/" + fuzzer.fileName
    let files = FileManager.default
    try files.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for name in fuzzer.companions {
      try files.copyItem(
        atPath: Fixtures.path(name), toPath: directory + "/" + URL(filePath: name).lastPathComponent)
    }
    if let zeros = fuzzer.zeros {
      try Data(count: zeros.byteCount).write(to: URL(filePath: directory + "/" + zeros.name))
    }
  }

  func put(_ bytes: UnsafeRawBufferPointer) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0, write(descriptor, bytes.baseAddress, bytes.count) == bytes.count else {
      throw CocoaError(.fileWriteUnknown)
    }
    close(descriptor)
  }
}

extension Fuzzer {
  /// Copies the seeds to where libFuzzer is told to look for them.
  func writeSeeds(to directory: String) throws {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for name in seeds {
      let copy = directory + "/seed-" + name.replacing("/", with: "-")
      try Data(contentsOf: URL(filePath: Fixtures.path(name))).write(to: URL(filePath: copy))
    }
    if let text { try Data(text.utf8).write(to: URL(filePath: directory + "/seed")) }
  }
}
