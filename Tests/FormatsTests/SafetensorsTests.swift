import Formats
import TestSupport
import Testing

@Test func opens() throws {
  let c = try Checkpoint(safetensors: Fixtures.path("tiny-2x32/lnfree/model.safetensors"))
  #expect(c.tensors.count == 28)
  let s = try Checkpoint(safetensorsIndex: Fixtures.path("tiny-2x32/lnfree-sharded/model.safetensors.index.json"))
  #expect(s.tensors.count == 28)
}
