import Formats
import Networks
import ONNX
import TestSupport
import Testing

@Suite struct RuntimeConfigurationTests {
  static let dimensions = Dimensions(
    dModel: 32, headCount: 2, dHead: 16, dMLP: 128, contextLength: 64, vocabularySize: 512)

  private func parse(_ bytes: [UInt8]) throws -> JSONValue {
    try bytes.withUnsafeBytes { (bytes) throws(Refusal) in try JSONValue(parsing: bytes.bytes, file: "config.json") }
  }

  @Test("config.json keeps what it does not know and says every size")
  func config() throws {
    let source = try parse(
      Array(
        #"{"auto_map": {"AutoModel": "x.Y"}, "layer_norm_epsilon": 1000000000000.0, "note": "a\u0001\"\\é", "n_head": 2, "eos_token_id": 0, "bos_token_id": 50256}"#
          .utf8))
    let bytes = RuntimeConfigurations.config(from: source, dimensions: Self.dimensions, blockCount: 2, endOfText: 0)
    #expect(
      String(decoding: bytes, as: UTF8.self) == """
        {
          "layer_norm_epsilon": 1000000000000.0,
          "note": "a\\u0001\\"\\\\é",
          "n_head": 2,
          "eos_token_id": 0,
          "bos_token_id": 0,
          "model_type": "gpt2",
          "architectures": [
            "GPT2LMHeadModel"
          ],
          "n_layer": 2,
          "n_embd": 32,
          "n_inner": 128,
          "n_positions": 64,
          "n_ctx": 64,
          "vocab_size": 512,
          "use_cache": true
        }

        """)
    #expect(try parse(bytes)["note"] == source["note"])
  }

  @Test("An end of text that nobody knows is said to be none")
  func noEndOfText() throws {
    let bytes = RuntimeConfigurations.config(
      from: .object([]), dimensions: Self.dimensions, blockCount: 2, endOfText: nil)
    #expect(try parse(bytes)["eos_token_id"] == .null)
    #expect(try parse(bytes)["bos_token_id"] == .null)
  }

  @Test("genai_config.json names every value of the graph")
  func genAI() throws {
    let json = try parse(RuntimeConfigurations.genAIConfig(dimensions: Self.dimensions, blockCount: 2, endOfText: 0))
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
