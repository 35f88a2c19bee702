import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct ResidualStreamTests {
  @Test("The residual stream at every depth is the defining program's", arguments: ["tiny-2x32", "shakespeare-4x128"])
  func residuals(_ family: String) throws {
    let path = "\(family)/reference/reference.safetensors"
    let reference = try ReferenceLogits(path, prefix: "lnfree.")
    let probes = reference.probes
    let file = try Checkpoint(safetensors: Fixtures.path(path))
    let model = try Model(opening: Fixtures.path("\(family)/lnfree"))
    // As transformers computes it, with the large epsilon.
    let network = try #require(model.literalNetwork)
    var execution = Execution(network, on: FastBackend<Double>(probes: probes))
    var depths = 0
    for depth in 0...network.blockCount {
      try execution.run(stage: depth)
      let stream = execution.stream(atDepth: depth)
      if let expected = file["lnfree.residual.\(depth).f64"]?.decoded(as: Double.self) {
        depths += 1
        // Double rounding through at most four blocks; a wrong operation is off by order one.
        #expect(relativeDifference(reference.select(stream), expected) <= 1e-9, "depth \(depth)")
      }
    }
    #expect(depths >= network.blockCount)
  }
}
