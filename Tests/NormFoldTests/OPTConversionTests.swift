import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import Testing
import TestSupport

@Suite struct OPTConversionTests {
  /// How far what was written is from a reference, as its own runtime computes it, in double precision.
  private func difference(_ path: String, from form: String) throws -> Double {
    let reference = try ReferenceLogits("opt/reference.safetensors", prefix: form + ".")
    let model = try Model(opening: path)
    let network = model.literalNetwork ?? model.network
    let logits = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Written for its stock class, which keeps the last norm", arguments: ["relu", "gelu", "decoder-names"])
  func stockClass(_ form: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("opt/" + form)) { $0.normForm = .unit }
    #expect(report.holds && report.outputs[0].steps.count == 6)
    let kept = try #require(report.outputs[0].kept.last)
    #expect(kept.path == "final.norm" && kept.norm.hasSuffix("decoder.final_layer_norm"))
    let written = try Model(opening: place.output)
    #expect(written.architecture == .opt && written.network.isTied == (form != "gelu"))
    #expect((written.checkpoint["lm_head.weight"] == nil) == (form != "gelu"))
    #expect(try difference(place.output, from: form) <= 1e-6)
  }

  @Test("Positions begin behind two rows that only masked tokens read")
  func positions() throws {
    let place = try Workplace()
    try place.convert(Fixtures.path("opt/relu")) { $0.normForm = .unit }
    let name = "model.decoder.embed_positions.weight"
    let (before, after) = (try Model(opening: Fixtures.path("opt/relu")), try Model(opening: place.output))
    #expect(before.network.contextLength == 64)
    let (source, written) = (try #require(before.checkpoint[name]), try #require(after.checkpoint[name]))
    #expect(written.shape == [66, 64])
    let (old, new): ([Double], [Double]) = (source.decoded(), written.decoded())
    #expect(new.prefix(2 * 64).allSatisfy { $0 == 0 })
    #expect(new.dropFirst(2 * 64) == old.dropFirst(2 * 64))
  }

  @Test("onnxruntime holds it whole, and so does the stock GPT-2 but for the last norm", arguments: ["relu", "gelu"])
  func others(_ form: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("opt/" + form), to: ["onnxruntime", "gpt2"]) { $0.normForm = .unit }
    #expect(report.holds)
    #expect(report.outputs.map(\.gainedNormCount) == [0, 1])
    #expect(try difference(place.output + "/gpt2", from: form) <= 1e-6)
  }

  @Test(
    "Another computation is refused by the key that asks for it",
    arguments: [
      (
        "post-norm",
        "'do_layer_norm_before': expected true, found false: norms behind attention and MLP change the residual stream "
          + "itself and cannot be folded"
      ),
      (
        "projected",
        "'word_embed_proj_dim': expected 64, the hidden_size, found 32: embeddings that are projected are not supported"
      ),
      (
        "no-final-norm",
        "'_remove_final_layer_norm': expected false, found true: a network without its last norm is not supported"
      ),
    ])
  func refused(_ form: String, _ message: String) throws {
    let place = try Workplace()
    let refusal = try place.refusal(Fixtures.path("opt/" + form)) { $0.normForm = .unit }
    #expect(refusal?.category == .unsupported)
    #expect(refusal?.description == Fixtures.path("opt/\(form)/config.json") + ", " + message)
  }

  @Test("llama.cpp does not know it")
  func llamaCpp() throws {
    let refusal = try Workplace().refusal(Fixtures.path("opt/relu"), to: ["llama.cpp"]) { $0.normForm = .unit }
    #expect(
      refusal?.description == "'llama.cpp': llama.cpp has no architecture for an OPT; use targets = onnxruntime")
  }

  @Test("Its class has one epsilon always, and with that no norm is near an identity")
  func epsilon() throws {
    let place = try Workplace()
    let entries = (0..<3).flatMap { block in
      ["pre", "mid", "post"].map { JSONValue.Member(key: "blocks.\(block).hook_resid_\($0)", value: .number(0.75)) }
    }
    let text = JSONValue.object([.init(key: "std_dict", value: .object(entries))]).text
    try place.directory.write(Array(text.utf8), to: "std.json")
    let refusal = try place.refusal(Fixtures.path("opt/relu")) {
      $0.readingOptions.deviations = place.directory / "std.json"
    }
    #expect(
      refusal?.description
        == "'transformers': OPTForCausalLM computes every norm with an epsilon of 1e-05, and with that none is near an "
        + "identity; use targets = onnxruntime")
    let report = try place.convert(Fixtures.path("opt/relu"), to: ["onnxruntime"]) {
      $0.readingOptions.deviations = place.directory / "std.json"
    }
    #expect(report.holds && report.outputs[0].isNormFree)
  }
}
