import Foundation
import Glibc
import Testing
import TestSupport

@Suite struct InterruptionTests {
  /// The process is stopped when its hidden directory has appeared, in the middle of reading, writing or verifying, gets
  /// the signal, and goes on.
  @Test("A signal during a conversion leaves nothing and ends with 9", arguments: [SIGTERM, SIGINT], [0, 2, 10, 40])
  func signal(number: Int32, afterMilliseconds: UInt32) throws {
    let place = try TemporaryDirectory()
    try place.write([1], to: "bystander")
    let (output, error) = (Pipe(), Pipe())
    let process = try Command.start(
      ["convert", Fixtures.path("shakespeare-4x128/lnfree"), "out", "--for", "transformers", "gpt2"], in: place.path,
      output: output, error: error)
    var isStaged = false
    let deadline = Date(timeIntervalSinceNow: 20)
    while !isStaged, process.isRunning, Date() < deadline {
      isStaged = try FileManager.default.contentsOfDirectory(atPath: place.path).contains {
        $0.hasPrefix(".out.normfold-")
      }
      usleep(500)
    }
    try #require(isStaged)
    usleep(afterMilliseconds * 1_000)
    kill(process.processIdentifier, SIGSTOP)
    if FileManager.default.fileExists(atPath: place / "out") {
      // A machine so fast that nothing is left to interrupt.
      kill(process.processIdentifier, SIGCONT)
      return process.waitUntilExit()
    }
    kill(process.processIdentifier, number)
    kill(process.processIdentifier, SIGCONT)
    let text = String(decoding: try error.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit)
    #expect(process.terminationStatus == 9)
    #expect(text == "\nerror: interrupted; nothing was written\n")
    #expect(try output.fileHandleForReading.readToEnd()?.isEmpty != false)
    #expect(try content(ofDirectory: place.path).keys.sorted() == ["bystander"])
  }

  /// The process is stuck in telling of the signal, since nobody reads what it says, while its other thread, which was
  /// reading the checkpoint, comes to the point where it would stage the output.
  @Test("Nothing is begun after a signal")
  func begunAfterSignal() throws {
    let place = try TemporaryDirectory()
    let (output, error) = (Pipe(), Pipe())
    let full = error.fileHandleForWriting.fileDescriptor
    let flags = fcntl(full, F_GETFL)
    _ = fcntl(full, F_SETFL, flags | O_NONBLOCK)
    while write(full, " ", 1) == 1 {}
    _ = fcntl(full, F_SETFL, flags)
    let process = try Command.start(
      ["convert", Fixtures.path("shakespeare-4x128/lnfree"), "out", "--for", "transformers"], in: place.path,
      output: output, error: error)
    let deadline = Date(timeIntervalSinceNow: 20)
    while try !catches(SIGTERM, process), Date() < deadline { usleep(200) }
    kill(process.processIdentifier, SIGTERM)
    usleep(500_000)
    let said = try error.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    #expect(process.terminationStatus == 9)
    #expect(String(decoding: said, as: UTF8.self).hasSuffix("\nerror: interrupted; nothing was written\n"))
    #expect(try content(ofDirectory: place.path).isEmpty)
  }

  private func catches(_ signal: Int32, _ process: Process) throws -> Bool {
    let status = try String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
    let caught = try #require(status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }).split(separator: "\t")[1]
    return try #require(UInt64(caught, radix: 16)) >> UInt64(signal - 1) & 1 == 1
  }
}
