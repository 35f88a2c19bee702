import Formats
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
    ], [ElementType.f32, .f16])
  func write(_ source: (fixture: String, isFolded: Bool), type: ElementType) throws {
    let (fixture, isFolded) = source
    let root = try #require(Self.destination)
    let directory =
      root + "/" + fixture.replacing("/", with: "-") + (isFolded ? "" : "-unfolded")
      + (type == .f32 ? "" : "-\(type.rawValue)")
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try ONNXGraph(fixture: fixture, type: type, isFolded: isFolded).write(to: directory)
    let model = try Model(opening: Fixtures.path(fixture))
    let (dimensions, blockCount) = (model.network.dimensions, model.network.blocks.count)
    let config = RuntimeConfigurations.config(
      from: model.configuration.json, dimensions: dimensions, blockCount: blockCount, endOfText: model.endOfText)
    let genAI = RuntimeConfigurations.genAIConfig(
      dimensions: dimensions, blockCount: blockCount, endOfText: model.endOfText)
    try Data(config).write(to: URL(filePath: directory + "/config.json"))
    try Data(genAI).write(to: URL(filePath: directory + "/genai_config.json"))
  }
}
