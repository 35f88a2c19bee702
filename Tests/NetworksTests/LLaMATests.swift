import Formats
import Foundation
import Networks
import TestSupport
import Testing

@Suite("LLaMA: names, shapes, order of heads")
struct LLaMATests {
  private static let stories = Fixtures.path("found/stories260K/stories260K.gguf")

  @Test(
    "What is read is what would be written: names, shapes, bytes, the order of rotary pairs undone and redone",
    arguments: [(stories, Layout.ggufLLaMA), (Fixtures.path("llama/random"), .llama)])
  func inverse(_ path: String, _ layout: Layout) throws {
    let model = try Model(opening: path)
    #expect(Architecture(of: model.network) == .llama && model.layout.name == layout.name)
    let slots = layout.slotParameters(of: model.network).filter {
      !model.network.isTied || $0.slot.roles != [.weight(.unembedding)]
    }
    #expect(Set(slots.map { layout.fullName(of: $0.slot) }) == Set(model.checkpoint.tensors.map(\.name)))
    for (slot, value) in slots {
      let tensor = try #require(value.storedTensor, "\(slot.name) = \(value)")
      #expect(tensor == model.checkpoint[layout.fullName(of: slot)])
    }
  }

  @Test("Sizes, positions, biases and ties are what the files say")
  func sizes() throws {
    let stories = try Model(opening: Self.stories)
    #expect(
      stories.network.dimensions
        == Dimensions(
          dModel: 64, headCount: 8, keyValueHeadCount: 4, dHead: 8, dMLP: 172, contextLength: 2_048, vocabularySize: 512
        ))
    #expect(stories.network.blocks.allSatisfy { $0.attention.rotary == Rotary(base: 10_000) && $0.mlp.gate != nil })
    #expect(stories.network.norms.allSatisfy { $0.norm.kind == .rms && $0.norm.deviation == .computed(epsilon: 1e-5) })
    #expect(!stories.network.isTied && stories.network.blocks[0].attention.query.bias == nil)
    #expect(stories.endOfText == 2 && stories.dialect == .ordinary)
    let random = try Model(opening: Fixtures.path("llama/random"))
    #expect(
      random.network.dimensions
        == Dimensions(
          dModel: 24, headCount: 6, keyValueHeadCount: 2, dHead: 6, dMLP: 40, contextLength: 48, vocabularySize: 64))
    #expect(random.network.isTied && random.network.blocks[1].mlp.gate?.bias != nil)
    #expect(random.network.blocks[0].attention.rotary == Rotary(base: 500))
  }

  @Test("A GGUF file whose end of text is −1 has none")
  func noEndOfText() throws {
    var bytes = [UInt8](try #require(FileManager.default.contents(atPath: Self.stories)))
    let key = try #require(bytes.firstRange(of: Array("tokenizer.ggml.eos_token_id".utf8)))
    // Type 5: INT32.
    bytes.replaceSubrange(key.upperBound..<key.upperBound + 8, with: [5, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])
    let place = try TemporaryDirectory()
    let model = try Model(opening: try place.write(bytes, to: "model.gguf"))
    #expect(model.configuration.endOfText == -1 && model.endOfText == nil)
  }

  @Test("Configs as LayerNorm Scaling writes them, and as older and newer versions of transformers do")
  func configs() throws {
    let altered = try AlteredCheckpoint(of: "llama/random") { content in
      content.config["architectures"] = .array([.string("LLaMAForCausalLM")])
      content.config["max_sequence_length"] = .number(32)
      content.config["max_position_embeddings"] = nil
      content.config["bos_token_id"] = .number(0)
      content.config["eos_token_id"] = .array([.number(1), .number(7)])
      content.config["pad_token_id"] = .number(-1)
      content.config["rope_parameters"] = nil
      content.config["rope_scaling"] = .null
      content.config["rope_theta"] = .number(20_000.0)
    }
    let model = try Model(opening: altered.path)
    #expect(model.network.dimensions.contextLength == 32)
    #expect(model.network.blocks[0].attention.rotary == Rotary(base: 20_000))
    #expect(model.endOfText == 1)
    let bare = try AlteredCheckpoint(of: "llama/random") { content in
      for key in ["max_position_embeddings", "rope_parameters", "hidden_act", "rms_norm_eps"] {
        content.config[key] = nil
      }
    }
    let usual = try Model(opening: bare.path).network
    #expect(usual.dimensions.contextLength == 2_048 && usual.blocks[0].mlp.activation == .silu)
    #expect(usual.blocks[0].attention.rotary == Rotary(base: 10_000))
    #expect(usual.finalNorm?.deviation == .computed(epsilon: 1e-6))
  }

  @Test("The order of a head and its inverse are worked out by hand")
  func order() {
    #expect((0..<8).map(HeadOrder.pairsTogether(dHead: 4).origin) == [0, 2, 1, 3, 4, 6, 5, 7])
    #expect((0..<6).map(HeadOrder.pairsTogether(dHead: 6).origin) == [0, 3, 1, 4, 2, 5])
    #expect((0..<6).map(HeadOrder.pairsApart(dHead: 6).origin) == [0, 2, 4, 1, 3, 5])
  }

  @Test("LayerNorm Scaling is a number on both norms of each layer, and none on the last")
  func scaling() throws {
    var options = ReadingOptions()
    options.normScaling = .lns
    let model = try Model(opening: Self.stories, options: options)
    for (site, norm) in model.network.norms {
      #expect(norm.outputScale == (site.block.map { 1 / Double($0 + 1).squareRoot() } ?? 1))
    }
    #expect(
      model.warnings == [
        "taken as told (--norm-scaling lns): both norms of layer l are divided by √l; nothing in the checkpoint says so"
      ])
  }

  @Test("Heads that are turned in part only are refused by the key of the GGUF file")
  func dimensionCount() throws {
    let directory = try TemporaryDirectory()
    var bytes = try Fixtures.bytes("found/stories260K/stories260K.gguf")
    let key = try #require(bytes.firstRange(of: Array("llama.rope.dimension_count".utf8)))
    // Its type, then the number: 8 becomes 4.
    bytes[key.upperBound + 4] = 4
    try directory.write(bytes, to: "model.gguf")
    #expect(
      throws: Refusal(
        .unsupported, file: directory / "model.gguf", subject: "llama.rope.dimension_count",
        "4 of the 8 features of a head are turned; only all of them are supported")
    ) { try Model(opening: directory / "model.gguf") }
  }
}
