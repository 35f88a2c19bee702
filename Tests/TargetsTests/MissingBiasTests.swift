import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import Testing
import TestSupport

@Suite struct MissingBiasTests {
  /// nanoGPT trains without biases, and what is missing in a file that stands for one is refused when it is opened.
  @Test("Classes that have every bias get zeros where the network has none", arguments: ["gpt2", "transformers"])
  func zeros(_ name: String) throws {
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
    let target = try Targets.require(name)
    var network = model.network
    network[linear: "blocks.1.mlp.output"]?.bias = nil
    let source = try TargetSource(model)
    let folded = try FoldingPlan(
      folding: network, options: .init(keptNorms: target.keptNorms(of: source, options: .init()))
    ).folded
    let output = try target.output(of: folded, from: source, options: .init())
    let bias = try #require(output.parameters.first { $0.info.name.hasSuffix("h.1.mlp.c_proj.bias") })
    #expect(bias.info.shape == [32] && bias.value.constantValue == 0)
    let other = try #require(output.parameters.first { $0.info.name.hasSuffix("h.0.mlp.c_proj.bias") })
    #expect(other.value.storedTensor != nil)
  }
}
