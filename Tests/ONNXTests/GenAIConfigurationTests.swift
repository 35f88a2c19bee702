import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import Testing
import TestSupport

@Suite struct GenAIConfigurationTests {
  @Test("genai_config.json names every value of the graph")
  func genAI() throws {
    let json = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network.genAIConfiguration(endOfText: 0)
    let decoder = try #require(json["model"]?["decoder"])
    let graph = try ONNXGraph(fixture: "tiny-2x32/lnfree")
    let names = (graph.inputs + graph.outputs).map(\.name)
    for (_, value) in (decoder["inputs"]?.members ?? []).map({ ($0.key, $0.value) })
      + (decoder["outputs"]?.members ?? []).map({ ($0.key, $0.value) })
    {
      let pattern = try #require(value.string)
      #expect(names.contains(pattern.replacing("%d", with: "1")))
    }
    #expect(json["model"]?["type"]?.string == "decoder")
    #expect(decoder["head_size"]?.count == 16)
    #expect(decoder["num_hidden_layers"]?.count == 2)
  }
}
