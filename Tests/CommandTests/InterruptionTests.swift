import Foundation
import Glibc
import TestSupport
import Testing

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
}
