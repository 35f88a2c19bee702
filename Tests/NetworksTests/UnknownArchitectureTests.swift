import Foundation
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// The default config of every model type that transformers knows, beside one small tensor: see
/// `fixtures/transformers-configs`.
@Suite struct UnknownArchitectureTests {
  @Test("A model type that is not supported is refused by its name, whatever other keys its config has")
  func everyType() throws {
    let lines = try Fixtures.bytes("transformers-configs/configs.jsonl").split(separator: UInt8(ascii: "\n"))
    #expect(lines.count > 800)
    let place = try TemporaryDirectory()
    var tensors = EditableTensors()
    tensors["x"] = .init([1, 2], shape: [2])
    try tensors.write(to: place / "model.safetensors")
    let supported = Set(Architecture.all.map(\.modelType))
    var supportedCount = 0
    for line in lines {
      let entry = try JSONValue(parsing: Array(line).span.bytes, file: "configs.jsonl")
      guard let config = entry["config"] else {
        #expect(entry["error"] != nil)
        continue
      }
      try? FileManager.default.removeItem(atPath: place / "config.json")
      try place.write(Array(config.text.utf8), to: "config.json")
      let type = config["model_type"]?.string ?? "none"
      do throws(Refusal) {
        _ = try Model(opening: place.path)
        Issue.record("\(type) was read, though the tensor is none of its own")
      } catch {
        // Status 4.
        #expect(error.category == .unsupported, "\(type): \(error)")
        if supported.contains(type) {
          supportedCount += 1
        } else {
          #expect(error.problem == "'\(type)' is not supported yet" && error.subject == "model_type", "\(error)")
        }
      }
    }
    // Two are of fairseq and torchscale, which transformers does not know.
    #expect(supportedCount >= supported.subtracting(["normformer", "torchscale", "retnet"]).count)
  }
}
