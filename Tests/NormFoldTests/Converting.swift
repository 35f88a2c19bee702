import Foundation
import Logging
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// A place for outputs that is empty at first.
struct Workplace {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  var output: String { directory / "out" }

  /// A message without the paths of the test.
  func short(_ refusal: Refusal?) -> String? {
    refusal?.description.replacing(directory.path + "/", with: "").replacing(Fixtures.path(""), with: "")
  }

  /// Everything in the place, hidden names included.
  func content() throws -> [String: Data?] { try TestSupport.content(ofDirectory: directory.path) }

  /// Converts to ``output``.
  @discardableResult
  func convert(
    _ source: String, to targets: [String] = ["transformers"], _ alter: (inout Conversion) -> Void = { _ in }
  ) throws -> ConversionReport {
    var conversion = Conversion(source: source, destination: output, targets: targets)
    alter(&conversion)
    return try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// The refusal of a conversion, which must leave the place as it was.
  func refusal(
    _ source: String, to targets: [String] = ["transformers"], _ alter: (inout Conversion) -> Void = { _ in },
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Refusal? {
    let before = try content()
    let refusal = #expect(throws: Refusal.self, sourceLocation: sourceLocation) {
      try convert(source, to: targets, alter)
    }
    #expect(try content() == before, "something was left behind", sourceLocation: sourceLocation)
    return refusal
  }
}
