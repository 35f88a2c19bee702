import Foundation
import Logging
import NormFold
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// The output of a conversion, which lives as long as this does.
struct Converted {
  let place: TemporaryDirectory
  let report: ConversionReport

  /// - Parameter alter: sets what is not usual.
  init(
    _ source: String, to target: String = "llama.cpp", type: ElementType = .f32,
    _ alter: (inout Conversion) -> Void = { _ in }
  ) throws {
    place = try TemporaryDirectory()
    var conversion = Conversion(source: source, destination: place / "out", targets: [target])
    conversion.type = type
    alter(&conversion)
    report = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  var path: String { place / "out" }
  var gguf: String { path + "/model.gguf" }

  func header() throws -> GGUFHeader { try GGUFHeader(of: MappedFile(path: gguf)) }
  func checkpoint() throws -> Checkpoint { try CheckpointLocation(path: path).open() }
}

extension Tensor {
  var bytes: [UInt8] { withBytes { span in span.withUnsafeBytes { Array($0) } } }
}
