import Folding
import Foundation
import Networks
import ONNX
import TestSupport
import Testing

/// Folders for `Tests/Interop/onnx.py`, written where `ONNX_INTEROP` says.
@Suite struct InteropFolderTests {
  static let destination = ProcessInfo.processInfo.environment["ONNX_INTEROP"]

  @Test(
    "Folders for other programs", .enabled(if: destination != nil),
    arguments: [
      ("shakespeare-4x128/lnfree", true), ("tiny-2x32/lnfree", true), ("shakespeare-4x128/lnfree", false),
      ("shakespeare-4x128/vanilla", false), ("found/capp-gpt", false),
    ])
  func write(_ fixture: String, isFolded: Bool) throws {
    let root = try #require(Self.destination)
    let directory = root + "/" + fixture.replacing("/", with: "-") + (isFolded ? "" : "-unfolded")
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try ONNXGraph(fixture: fixture, isFolded: isFolded).write(to: directory)
  }
}
