import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// LLaMA's relatives with weightless norms, for each target.
@Suite struct DecoderConversionTests {
  private static let models = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "phi"]
  private static let targets = ["transformers", "llama.cpp", "onnxruntime"]

  private static func path(_ name: String) -> String { Fixtures.path("decoders/" + name) }

  /// The norms that keep a gain, by the ends of their paths.
  private static func kept(_ model: String, for target: String) -> Set<String> {
    let tied: Set<String> = target == "onnxruntime" ? [] : ["final.norm"]
    return switch model {
    case "qwen3": ["query.norm", "key.norm"] as Set<String> + tied
    case "llama", "gemma": tied
    case "gemma2": ["output.norm"] as Set<String> + tied
    case "olmo2": ["query.norm", "key.norm", "output.norm"]
    default: []
    }
  }

  @Test("Gains fold as far as what reads them allows, and the others stay", arguments: models, targets)
  func unit(_ name: String, _ target: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(name), to: [target]) { $0.normForm = .unit }
    #expect(report.holds)
    guard target != "onnxruntime" else { return }
    let written = try Model(opening: place.output)
    #expect(
      written.architecture
        == (name == "mistral" && target == "llama.cpp" ? .llama : try Model(opening: Self.path(name)).architecture))
    var withGains: Set<String> = []
    for (path, norm) in written.network.norms where ParameterReader(norm.gain).values().contains(where: { $0 != 1 }) {
      withGains.insert(path.description.split(separator: ".").suffix(2).joined(separator: "."))
    }
    #expect(withGains == Self.kept(name, for: target))
    let reference = try ReferenceLogits("decoders/reference.safetensors", prefix: name + ".")
    let logits = try written.network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-6)
  }

  @Test("What stays is said once for all blocks, with what reads it")
  func notes() throws {
    let place = try Workplace()
    let report = try place.convert(Self.path("qwen3")) { $0.normForm = .unit }
    let notes = report.outputs[0].notes.map(\.description)
    #expect(
      notes.contains(
        "model.layers.*.self_attn.q_norm keeps its gain in 2 blocks: it is read by blocks.*.attention.query.rotated, "
          + "a rotation by the position, which is no linear map"))
    #expect(
      notes.contains(
        "model.norm keeps its gain: the unembedding is the token embedding, and one of its own would take 2048 more numbers"
      ))
  }

  @Test("Gains of Gemma are written less one")
  func lessOne() throws {
    let place = try Workplace()
    try place.convert(Self.path("gemma")) { $0.normForm = .unit }
    let (before, after) = (
      try CheckpointLocation(path: Self.path("gemma")).open(), try CheckpointLocation(path: place.output).open()
    )
    let folded: [Double]? = after["model.layers.1.input_layernorm.weight"]?.decoded()
    #expect(folded == [Double](repeating: 0, count: 32))
    let kept: [Double]? = after["model.norm.weight"]?.decoded()
    #expect(kept == before["model.norm.weight"]?.decoded())
    // Readers times the whole gain, worked out here.
    let gain: [Double] = try #require(before["model.layers.1.post_attention_layernorm.weight"]).decoded()
    let old: [Double] = try #require(before["model.layers.1.mlp.up_proj.weight"]).decoded()
    let new: [Double] = try #require(after["model.layers.1.mlp.up_proj.weight"]).decoded()
    #expect(new == old.indices.map { Double(Float(old[$0] * (1 + gain[$0 % 32]))) })
  }

  @Test("Deviations that are fixed fold whole", arguments: models, targets)
  func fixed(_ name: String, _ target: String) throws {
    let source = try AlteredCheckpoint(of: "decoders/" + name) { content in
      content.config[name == "phi" ? "layer_norm_eps" : "rms_norm_eps"] = .number(1e12)
      for tensor in content.tensors.names where tensor.contains("norm") && tensor.hasSuffix("weight") {
        let count = content.tensors[tensor]?.shape[0] ?? 0
        let offset: Double = name.hasPrefix("gemma") ? 1 : 0
        let gains = (0..<count).map { feature -> Double in Double(feature % 5 + 3) * 25_000 - offset }
        content.tensors[tensor] = .init(gains, shape: [count])
      }
    }
    let place = try Workplace()
    let report = try place.convert(source.path, to: [target])
    #expect(report.holds && !report.outputs[0].hasComputedNorms)
  }

  @Test("Scaled positions come through", arguments: ["linear", "llama3", "yarn", "yarn-plain", "dynamic"], targets)
  func scaled(_ name: String, _ target: String) throws {
    guard name != "yarn" || target != "llama.cpp" else { return }
    let source = try AlteredCheckpoint(rotaryScaling: name)
    let place = try Workplace()
    let report = try place.convert(source.path, to: [target]) { $0.normForm = .unit }
    #expect(report.holds)
    let isDynamic = report.warnings.contains {
      $0.description.hasPrefix("rotary positions of type 'dynamic' are plain")
    }
    #expect(isDynamic == (name == "dynamic"))
    guard target != "onnxruntime" else { return }
    let reference = try ReferenceLogits("decoders/reference.safetensors", prefix: name + ".")
    let logits = try Model(opening: place.output).network.logits(on: FastBackend<Double>(probes: reference.probes))
      .all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-6)
  }

  @Test("A scaling that llama.cpp has no word for is refused")
  func noWord() throws {
    let source = try AlteredCheckpoint(of: "decoders/qwen2") { content in
      content.config["rope_parameters"] = .object([
        "rope_type": .string("llama3"), "rope_theta": .number(500), "factor": .number(8), "low_freq_factor": .number(1),
        "high_freq_factor": .number(4), "original_max_position_embeddings": .number(24),
      ])
    }
    let refusal = try Workplace().refusal(source.path, to: ["llama.cpp"]) { $0.normForm = .unit }
    let ramp = try AlteredCheckpoint(rotaryScaling: "yarn")
    let unusual = try Workplace().refusal(ramp.path, to: ["llama.cpp"]) { $0.normForm = .unit }
    #expect(
      unusual?.problem
        == "llama.cpp's llama has no word for rotary positions of type yarn with a ramp of their own (beta_fast, beta_slow, truncate)"
    )
    #expect(
      refusal?.problem
        == "llama.cpp's qwen2 has no word for rotary positions of type llama3")
  }

  @Test(
    "Windows come through, but for what llama.cpp has none of",
    arguments: ["mistral", "qwen2", "qwen3", "phi3", "gemma2"], targets)
  func windows(_ name: String, _ target: String) throws {
    let source = try AlteredCheckpoint(window: name)
    let place = try Workplace()
    guard target != "llama.cpp" || name == "gemma2" else {
      let refusal = try place.refusal(source.path, to: [target]) { $0.normForm = .unit }
      let program = name == "mistral" ? "llama" : name
      #expect(
        refusal?.problem
          == "llama.cpp's \(program) looks back over all tokens, and attention here over a window of 7, which is shorter than the context of 64"
      )
      return
    }
    #expect(try place.convert(source.path, to: [target]) { $0.normForm = .unit }.holds)
    guard target != "onnxruntime" else { return }
    let written = try Model(opening: place.output).network
    let original = try Model(opening: source.path).network
    #expect(written.attentions.map(\.attention.mask) == original.attentions.map(\.attention.mask))
    #expect(written.attentions.contains { $0.attention.mask == .window(7) })
    let reference = try ReferenceLogits("decoders/reference.safetensors", prefix: "window-\(name).")
    let logits = try written.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-6)
  }

  @Test("A window that covers the context, or that is switched off, is none")
  func wideWindows() throws {
    func masks(_ model: String, _ keys: [String: JSONValue]) throws -> Set<Attention.Mask> {
      let source = try AlteredCheckpoint(of: "decoders/" + model) { $0.config.merge(keys) { $1 } }
      return Set(try Model(opening: source.path).network.attentions.map(\.attention.mask))
    }
    #expect(try masks("mistral", ["sliding_window": .number(64)]) == [.causal])
    #expect(try masks("mistral", ["sliding_window": .number(63)]) == [.window(63)])
    #expect(try masks("qwen2", ["sliding_window": .number(8), "use_sliding_window": .bool(false)]) == [.causal])
    // Qwen's class has windows from block 28 on where nothing is said.
    let said: [String: JSONValue] = ["sliding_window": .number(8), "use_sliding_window": .bool(true)]
    #expect(try masks("qwen3", said.merging(["layer_types": .null]) { $1 }) == [.causal])
    #expect(try masks("gemma2", ["sliding_window": .number(8), "layer_types": .null]) == [.window(8), .causal])
    // Mistral's class has a window where its config has no word of one.
    let silent = try AlteredCheckpoint(of: "decoders/mistral") {
      $0.config["sliding_window"] = nil
      $0.config["max_position_embeddings"] = .number(8_192)
    }
    let network = try Model(opening: silent.path).network
    #expect(network.attentions.allSatisfy { $0.attention.mask == .window(4_096) })
  }

  @Test("What integers, training and centred logits cannot do with caps and windows is refused by name")
  func refusals() throws {
    let gemma = Self.path("gemma2")
    let refusal = try Workplace().refusal(gemma) {
      $0.normForm = .unit
      $0.rules = [.centerUnembedding]
    }
    #expect(refusal?.problem == "logits are capped here, which a constant that all of them lose would change")
    let arithmetic = try IntegerArithmetic(parsing: "int:8,8")
    let integers = try Workplace().refusal(gemma) {
      $0.normForm = .unit
      $0.integers = arithmetic
    }
    #expect(integers?.problem == "attention with capped scores has no form in integers")
    let uncapped = try AlteredCheckpoint(of: "decoders/gemma2") { $0.config["attn_logit_softcapping"] = .null }
    let words = try Workplace().refusal(uncapped.path, to: ["llama.cpp"]) { $0.normForm = .unit }
    #expect(words?.problem == "the target llama.cpp cannot leave this out (gemma2), and the network has none")
    #expect(try Workplace().convert(uncapped.path, to: ["onnxruntime"]) { $0.normForm = .unit }.holds)
  }
}

private func + (a: Set<String>, b: Set<String>) -> Set<String> { a.union(b) }
