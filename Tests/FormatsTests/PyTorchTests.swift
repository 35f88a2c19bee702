import Formats
import TestSupport
import Testing

@Suite struct PyTorchTests {
  /// The same tensors, as the safetensors library wrote them.
  @Test(
    "equals the safetensors form",
    arguments: [
      ("tiny-2x32/fakeln/pytorch_model.bin", "tiny-2x32/fakeln-safetensors/model.safetensors"),
      ("tiny-2x32/fakeln-partial/pytorch_model.bin", "tiny-2x32/fakeln-partial-safetensors/model.safetensors"),
      ("shakespeare-4x128/fakeln/pytorch_model.bin", "shakespeare-4x128/fakeln-safetensors/model.safetensors"),
    ])
  func equalsSafetensors(_ archive: String, _ reference: String) throws {
    let found = try Checkpoint(pytorch: Fixtures.path(archive))
    let expected = try Checkpoint(safetensors: Fixtures.path(reference))
    try found.checkIntegrity()
    #expect(found.container == .pytorch)
    #expect(found.warnings == [])
    #expect(!found.integrityChecks.isEmpty)
    var compared = 0
    for tensor in found.tensors {
      // safetensors stores shared tensors once, under one of their names.
      guard let other = expected[tensor.name] ?? (tensor.name == "lm_head.weight" ? expected["transformer.wte.weight"] : nil)
      else {
        Issue.record("\(tensor.name) is not in \(reference)")
        continue
      }
      #expect(tensor.info.type == other.info.type && tensor.shape == other.shape, "\(tensor.name)")
      #expect(tensor.storedBytes == other.storedBytes, "\(tensor.name)")
      compared += 1
    }
    #expect(compared >= expected.tensors.count)
  }

  @Test func readsNanoGPT() throws {
    let checkpoint = try Checkpoint(pytorch: Fixtures.path("tiny-2x32/nanogpt/ckpt.pt"))
    try checkpoint.checkIntegrity()
  }
}

extension Tensor {
  var storedBytes: [UInt8] { withBytes { bytes in bytes.withUnsafeBytes { Array($0) } } }
}
