import Foundation
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldNetworks

@Suite("LLaMA: names, shapes, order of heads")
struct LLaMATests {
  private static let stories = Fixtures.path("found/stories260K/stories260K.gguf")

  @Test(
    "What is read is what would be written: names, shapes, bytes, the order of rotary pairs undone and redone",
    arguments: [(stories, "GGUF llama"), (Fixtures.path("llama/random"), "Hugging Face LLaMA")])
  func inverse(_ path: String, _ layoutName: String) throws {
    let model = try Model(opening: path)
    let layout = model.layout
    #expect(model.architecture.modelType == "llama" && layout.name == layoutName)
    let slots = layout.tensors(of: model.network, sizes: model.hyperparameters).filter {
      !model.network.isTied || $0.slot.parameters != ["unembedding.weight"]
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
    #expect(Self.sizes(of: stories.network) == [64, 8, 4, 8, 172, 2_048, 512])
    #expect(Self.rotaries(of: stories.network) == [Rotary(base: 10_000, width: 8)])
    #expect((0..<5).allSatisfy { stories.network[linear: "blocks.\($0).mlp.gate"] != nil })
    #expect(stories.network.norms.allSatisfy { $0.norm.kind == .rms && $0.norm.deviation == .computed(epsilon: 1e-5) })
    #expect(!stories.network.isTied && stories.network[linear: "blocks.0.attention.query"]?.bias == nil)
    #expect(stories.endOfText == 2 && stories.dialect.displayName == "ordinary: every norm is computed")
    let random = try Model(opening: Fixtures.path("llama/random"))
    #expect(Self.sizes(of: random.network) == [24, 6, 2, 6, 40, 48, 64])
    #expect(random.network.isTied && random.network[linear: "blocks.1.mlp.gate"]?.bias != nil)
    #expect(Self.rotaries(of: random.network) == [Rotary(base: 500, width: 6)])
  }

  /// The width of the stream, the number of heads of queries and of keys, the widths of a head and of an MLP, the
  /// context, the vocabulary.
  private static func sizes(of network: Network) -> [Int] {
    let (path, attention) = network.attentions[0]
    return [
      network.streamWidth, attention.headCount, attention.keyValueHeadCount,
      network.width(of: path) / attention.headCount, network.width(of: "blocks.0.mlp.input"), network.contextLength,
      network.vocabularySize,
    ]
  }

  private static func rotaries(of network: Network) -> Set<Rotary> {
    Set(network.nodes.compactMap { if case .rotate(let rotary, _) = $0.operation { rotary } else { nil } })
  }

  @Test("A GGUF file whose end of text is −1 has none")
  func noEndOfText() throws {
    var bytes = [UInt8](try #require(FileManager.default.contents(atPath: Self.stories)))
    let key = try #require(bytes.firstRange(of: Array("tokenizer.ggml.eos_token_id".utf8)))
    // Type 5: INT32.
    bytes.replaceSubrange(key.upperBound..<key.upperBound + 8, with: [5, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])
    let place = try TemporaryDirectory()
    let model = try Model(opening: try place.write(bytes, to: "model.gguf"))
    #expect(model.hyperparameters.endOfText == -1 && model.endOfText == nil)
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
    #expect(model.network.contextLength == 32)
    #expect(Self.rotaries(of: model.network) == [Rotary(base: 20_000, width: 6)])
    #expect(model.endOfText == 1)
    let bare = try AlteredCheckpoint(of: "llama/random") { content in
      for key in ["max_position_embeddings", "rope_parameters", "hidden_act", "rms_norm_eps"] {
        content.config[key] = nil
      }
    }
    let usual = try Model(opening: bare.path).network
    #expect(usual.contextLength == 2_048 && usual.activations.allSatisfy { $0 == .silu })
    #expect(Self.rotaries(of: usual) == [Rotary(base: 10_000, width: 6)])
    #expect(usual[norm: "final.norm"]?.deviation == .computed(epsilon: 1e-6))
  }

  @Test("The order of a head and its inverse are worked out by hand")
  func order() {
    // [side, pair] to [pair, side], of each head.
    let (four, six) = (AxisOrder(extents: [2, 2], order: [1, 0]), AxisOrder(extents: [2, 3], order: [1, 0]))
    #expect((0..<8).map(four.origin) == [0, 2, 1, 3, 4, 6, 5, 7])
    #expect((0..<6).map(six.origin) == [0, 3, 1, 4, 2, 5])
    #expect((0..<6).map(six.inverse.origin) == [0, 2, 4, 1, 3, 5])
  }

  @Test("LayerNorm Scaling is a number on both norms of each layer, and none on the last")
  func scaling() throws {
    var options = ReadingOptions()
    options.normScaling = .lns
    let model = try Model(opening: Self.stories, options: options)
    for (path, _) in model.network.norms {
      let users = model.network.users(of: path)
      if let block = path.block, block > 0 {
        #expect(users.map(\.operation) == [.scale(1 / Double(block + 1).squareRoot())])
      } else {
        #expect(users.allSatisfy { if case .linear = $0.operation { true } else { false } })
      }
    }
    #expect(
      model.warnings == [
        "taken as told (\(.normScaling, NormScaling.lns)): both norms of layer l are divided by √l; nothing in the checkpoint says so"
      ])
  }

  @Test("Heads that are rotated in part only are refused by the key of the GGUF file")
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
        "4 of the 8 features of a head are rotated; only all of them are supported")
    ) { try Model(opening: directory / "model.gguf") }
  }
}
