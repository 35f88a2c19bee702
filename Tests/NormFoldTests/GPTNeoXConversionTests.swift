import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

@Suite struct GPTNeoXConversionTests {
  private static func path(_ form: String) -> String { Fixtures.path("gpt-neox/" + form) }

  /// How far what was written is from a reference, as its own runtime computes it, in double precision.
  private func difference(_ path: String, from form: String) throws -> Double {
    let reference = try ReferenceLogits("gpt-neox/reference.safetensors", prefix: form + ".")
    let model = try Model(opening: path)
    let network = model.literalNetwork ?? model.network
    let logits = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  // MARK: transformers

  @Test("A folded one whose blocks are parallel is a Phi", arguments: ["parallel", "full-rotary", "half-precision"])
  func phi(_ form: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(form)) { $0.normForm = .unit }
    #expect(report.holds)
    #expect(report.outputs[0].steps.count == 7 && report.outputs[0].gainedNormCount == 0)
    #expect(report.outputs[0].notes.contains("written as PhiForCausalLM, which computes the same"))
    let written = try Model(opening: place.output)
    #expect(written.architecture == .phi && written.network.norms.count == 4)
    #expect(written.checkpoint["lm_head.bias"] != nil)
    // A key that is missing would stand for something else.
    for key in [
      "hidden_act", "layer_norm_eps", "partial_rotary_factor", "rope_theta", "qk_layernorm", "num_key_value_heads",
    ] {
      #expect(written.configuration?[key] != nil, "\(key) is not written")
    }
    #expect(try difference(place.output, from: form) <= 1e-6)
  }

  @Test(
    "The last norm is kept and named where the class has no place for its bias",
    arguments: [("sequential", nil), ("parallel", "gpt_neox"), ("full-rotary", "gpt_neox")] as [(String, String?)])
  func lastNorm(_ form: String, _ className: String?) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(form)) {
      $0.normForm = .unit
      $0.className = className
    }
    #expect(report.holds)
    let kept = try #require(report.outputs[0].kept.last)
    #expect(kept.norm == "gpt_neox.final_layer_norm" && kept.path == "final.norm")
    #expect(kept.reason == "the target has no place for what folding it needs")
    #expect(report.outputs[0].steps.count == 6 && report.outputs[0].gainedNormCount == 1)
    let written = try Model(opening: place.output)
    #expect(written.architecture == .gptNeoX)
    #expect(written.configuration?["use_parallel_residual"]?.bool == (form != "sequential"))
    #expect(written.configuration?["rotary_pct"] != nil && written.configuration?["rotary_emb_base"] != nil)
    #expect(written.configuration?["rope_parameters"] == nil)
    #expect(written.checkpoint["embed_out.weight"] != nil && written.checkpoint["lm_head.weight"] == nil)
    #expect(try difference(place.output, from: form) <= 1e-6)
  }

  @Test("A training checkpoint whose norms are all fixed folds whole", arguments: ["transformers", "onnxruntime"])
  func fixed(_ target: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path("fakeln"), to: [target])
    #expect(report.holds && !report.outputs[0].hasComputedNorms)
    #expect(report.outputs[0].foldedNormCount == 7 && report.outputs[0].kept.isEmpty)
    #expect(report.outputs[0].isNormFree == (target == "onnxruntime"))
    guard target == "transformers" else { return }
    #expect(try Model(opening: place.output).architecture == .phi)
    #expect(try difference(place.output, from: "fakeln") <= 1e-6)
  }

  @Test("Computed norms of a network that nobody asked to convert are refused")
  func ordinary() throws {
    let refusal = try Workplace().refusal(Self.path("parallel"))
    #expect(refusal?.category == .notFoldable)
    #expect(refusal?.description.hasPrefix("this is an ordinary GPT-NeoX: ") == true)
  }

  @Test("RMSNorms are onnxruntime's", arguments: ["parallel", "sequential"])
  func rms(_ form: String) throws {
    let place = try Workplace()
    for normForm in [NormForm.rms, .crms] {
      let report = try Workplace().convert(Self.path(form), to: ["onnxruntime"]) { $0.normForm = normForm }
      #expect(report.holds)
    }
    let name = form == "parallel" ? "PhiForCausalLM" : "GPTNeoXForCausalLM"
    let refusal = try place.refusal(Self.path(form)) { $0.normForm = .rms }
    #expect(
      refusal?.description
        == "'gpt_neox.layers.0.input_layernorm': the target transformers computes no RMSNorms (\(name)); "
        + "use targets = onnxruntime")
  }

  @Test("A class that does not hold it, and a target that does not, say so by name")
  func refused() throws {
    let place = try Workplace()
    let other = try place.refusal(Self.path("parallel")) {
      $0.normForm = .unit
      $0.className = "llama"
    }
    #expect(other?.category == .usage)
    #expect(
      other?.description
        == "'llama': is no class that the target transformers writes a GPT-NeoX for; known are phi, gpt_neox")
    let sequential = try place.refusal(Self.path("sequential")) {
      $0.normForm = .unit
      $0.className = "phi"
    }
    #expect(sequential?.category == .unsupported)
    let gpt2 = try place.refusal(Self.path("parallel"), to: ["gpt2"]) { $0.normForm = .unit }
    #expect(gpt2?.description == "'gpt2': writes GPT-2 only, and this is a GPT-NeoX; use targets = transformers")
  }

  // MARK: llama.cpp

  @Test(
    "llama.cpp has it as phi2 where both norms of a block are one, and as gptneox with its norms",
    arguments: [
      ("half-precision", nil, .f32, Architecture.phi), ("half-precision", "gpt_neox", .f32, .gptNeoX),
      ("sequential", nil, .f32, .gptNeoX), ("half-precision", nil, .q8_0, .gptNeoX),
    ] as [(String, String?, ElementType, Architecture)])
  func gguf(_ form: String, _ className: String?, _ type: ElementType, _ expected: Architecture) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(form), to: ["llama.cpp"]) {
      // A type with blocks holds the matrices as they are, and the norms keep their gains.
      if type == .f32 { $0.normForm = .unit } else { $0.allowsPartial = true }
      $0.className = className
      $0.type = type
    }
    #expect(report.holds)
    let written = try Model(opening: place.output)
    #expect(written.architecture == expected)
    #expect(written.checkpoint.metadata["general.architecture"]?.string == (expected == .phi ? "phi2" : "gptneox"))
    #expect((written.checkpoint["output.bias"] != nil) == (expected == .phi))
    guard type == .f32 else { return }
    #expect(try difference(place.output, from: form) <= 1e-6)
  }

  @Test("The exact GELU is written for llama.cpp where that is allowed only")
  func activation() throws {
    let place = try Workplace()
    let refusal = try place.refusal(Self.path("full-rotary"), to: ["llama.cpp"]) { $0.normForm = .unit }
    #expect(
      refusal?.description.hasPrefix("'gelu': the target llama.cpp has gelu_new only for a GPT-NeoX, which ") == true)
    let report = try place.convert(Self.path("full-rotary"), to: ["llama.cpp"]) {
      $0.normForm = .unit
      $0.allowsApproximateActivation = true
    }
    #expect(report.holds)
    #expect(try Model(opening: place.output).architecture == .phi)
  }

  @Test("What was written for llama.cpp is read again, and its heads are interleaved as before")
  func roundTrip() throws {
    let (there, back) = (try Workplace(), try Workplace())
    try there.convert(Self.path("sequential"), to: ["llama.cpp"]) { $0.normForm = .unit }
    let report = try back.convert(there.output) { $0.allowsPartial = true }
    #expect(report.holds)
    #expect(try Model(opening: back.output).configuration?["use_parallel_residual"]?.bool == false)
    #expect(try difference(back.output, from: "sequential") <= 1e-6)
  }

  // MARK: Reading

  @Test("Rotary positions are read from the keys of every version")
  func rotary() throws {
    func rotary(_ alter: (inout [String: JSONValue]) -> Void) throws -> Rotary? {
      let altered = try AlteredCheckpoint(of: "gpt-neox/parallel") { alter(&$0.config) }
      let network = try Model(opening: altered.path).network
      guard case .rotate(let rotary, _) = network["blocks.0.attention.query.rotated"] else { return nil }
      return rotary
    }
    #expect(try rotary { _ in } == Rotary(base: 10_000, width: 4))
    #expect(
      try rotary { config in
        config["rotary_pct"] = nil
        config["rotary_emb_base"] = nil
      } == Rotary(base: 10_000, width: 4))
    #expect(
      try rotary { config in
        config["rope_scaling"] = .null
        config["rope_parameters"] = .object([
          "rope_theta": .number(500), "partial_rotary_factor": .number(0.5), "rope_type": .string("default"),
        ])
      } == Rotary(base: 500, width: 8))
  }

  @Test("Rotary positions that are scaled, and biases that the config does not have, are refused")
  func refusedConfigs() throws {
    let scaled = try AlteredCheckpoint(of: "gpt-neox/parallel") {
      $0.config["rope_scaling"] = .object(["type": .string("linear"), "factor": .number(2.0)])
    }
    let refusal = #expect(throws: Refusal.self) { try Model(opening: scaled.path) }
    #expect(refusal?.category == .unsupported)
    #expect(
      refusal.map(scaled.short)
        == "config.json, 'rope_scaling.rope_type': rotary positions of type 'linear' are not supported yet; "
        + "only plain ones are (default)")
    let unbiased = try AlteredCheckpoint(of: "gpt-neox/parallel") { $0.config["attention_bias"] = .bool(false) }
    #expect(throws: Refusal.self) { try Model(opening: unbiased.path) }
  }

  @Test("Two names of the unembedding are one tensor")
  func unembedding() throws {
    let renamed = try AlteredCheckpoint(of: "gpt-neox/parallel") { content in
      content.tensors["lm_head.weight"] = content.tensors.entry("embed_out.weight")
      content.tensors["embed_out.weight"] = nil
    }
    #expect(try difference(renamed.path, from: "parallel") <= 1e-12)
  }

  // MARK: Broken folds

  @Test("Maps that change places are caught, and nothing is written", arguments: ["transformers", "llama.cpp"])
  func caught(_ target: String) throws {
    let place = try Workplace()
    let before = try place.content()
    let report = try place.convert(Self.path("half-precision"), to: [target]) { conversion in
      conversion.normForm = .unit
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        altered[linear: "blocks.1.attention.key"] = network[linear: "blocks.1.attention.value"]
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!report.holds && !report.published && report.verification?.targets[0].algebraHolds == false)
    #expect(try place.content() == before)
  }
}
