import Foundation
import Glibc
import TestSupport

/// The command as its user runs it.
struct Command {
  struct Result {
    let status: Int32
    let output: String
    let error: String

    /// What stands on standard output, as JSON.
    func json() throws -> [String: Any] {
      let value = try JSONSerialization.jsonObject(with: Data(output.utf8))
      guard let object = value as? [String: Any] else { throw CocoaError(.propertyListReadCorrupt) }
      return object
    }
  }

  /// The executable lies beside the tests that are running.
  static let executable = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    .appending(path: "normfold")

  /// - Parameters:
  ///   - directory: where it runs, so that messages have short paths.
  ///   - input: what it reads from standard input.
  ///   - environment: is added to the test's own.
  static func start(
    _ arguments: [String], in directory: String, input: String? = nil, environment: [String: String] = [:],
    output: Pipe,
    error: Pipe
  ) throws -> Process {
    let process = Process()
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.executableURL = executable
    process.arguments = arguments
    process.currentDirectoryURL = URL(filePath: directory)
    process.standardInput = FileHandle.nullDevice
    if let input {
      // Less than a pipe holds.
      let pipe = Pipe()
      try pipe.fileHandleForWriting.write(contentsOf: Data(input.utf8))
      try pipe.fileHandleForWriting.close()
      process.standardInput = pipe
    }
    process.standardOutput = output
    process.standardError = error
    try process.run()
    return process
  }

  static func run(_ arguments: String..., in directory: String = Fixtures.path("tiny-2x32")) throws -> Result {
    try run(arguments, in: directory)
  }

  static func run(
    _ arguments: [String], in directory: String = Fixtures.path("tiny-2x32"), input: String? = nil,
    environment: [String: String] = [:]
  ) throws -> Result {
    let (output, error) = (Pipe(), Pipe())
    let process = try start(
      arguments, in: directory, input: input, environment: environment, output: output, error: error)
    // Less than a pipe holds goes to standard error, so reading one after the other cannot block.
    let text = try output.fileHandleForReading.readToEnd() ?? Data()
    let messages = try error.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
      error: String(decoding: messages, as: UTF8.self))
  }
}
