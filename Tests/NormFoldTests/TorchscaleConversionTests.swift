import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct TorchscaleConversionTests {
  private func difference(_ path: String, from form: String) throws -> Double {
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: form + ".")
    let logits = try Model(opening: path).network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Every norm becomes bare, those inside the branches too", arguments: ["sub-ln", "scaled", "pre-norm"])
  func unit(_ form: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("torchscale/" + form), to: ["onnxruntime", "transformers"]) {
      $0.normForm = .unit
    }
    #expect(report.holds)
    for output in report.outputs {
      #expect(output.steps.count == (form == "pre-norm" ? 5 : 9))
    }
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture == .torchscale && !written.network.isTied)
    for (path, norm) in written.network.norms where path != "embedding.norm" {
      #expect(ParameterReader(norm.gain).values().allSatisfy { $0 == 1 }, "\(path)")
    }
    #expect(try difference(place.output + "/transformers", from: form) <= 1e-6)
    let code = try String(contentsOfFile: place.output + "/transformers/modeling_torchscale.py", encoding: .utf8)
    #expect(code.contains("class TorchscaleForCausalLM(PreTrainedModel, GenerationMixin):"))
  }

  @Test("The norm behind the embedding keeps its gain, which the residual stream reads")
  func embeddingNorm() throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("torchscale/scaled"), to: ["onnxruntime"]) { $0.normForm = .unit }
    let kept = report.outputs[0].kept.filter { !report.outputs[0].steps.map(\.norm).contains($0.norm) }
    #expect(kept.map(\.norm) == ["layernorm_embedding"])
  }

  @Test("Norms of fixed deviation fold whole, and with them biases of values that they centre")
  func fixed() throws {
    let place = try Workplace()
    let measured = try calibration(of: "sub-ln")
    #expect(
      measured.sites.map(\.key) == [
        "blocks.0.hook_resid_pre", "blocks.0.attn.hook_z", "blocks.0.hook_resid_mid", "blocks.0.mlp.hook_post",
        "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.1.hook_resid_mid", "blocks.1.mlp.hook_post",
        "blocks.1.hook_resid_post",
      ])
    try place.directory.write(Array(measured.deviationFile.utf8), to: "std.json")
    let report = try place.convert(Fixtures.path("torchscale/sub-ln"), to: ["onnxruntime", "transformers"]) {
      $0.readingOptions.deviations = place.directory / "std.json"
      $0.rules = [.foldValueBiases]
    }
    #expect(report.holds)
    for output in report.outputs { #expect(output.steps.count == 9 && output.kept.isEmpty) }
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.network.norms.isEmpty)
    #expect(written.checkpoint.tensors.allSatisfy { !$0.name.contains("norm") && !$0.name.contains("_ln") })
  }

  private func calibration(of form: String) throws -> CalibrationReport {
    var input = MeasurementInput(
      model: Fixtures.path("torchscale/" + form), text: .ids((0..<240).map { ($0 * 37 + $0 / 7) % 96 }))
    input.chunking.contextLength = 24
    return try Calibration(input).run()
  }

  @Test("A norm behind the embedding has a deviation of its own name")
  func embeddingDeviation() throws {
    #expect(try calibration(of: "scaled").sites.map(\.key).prefix(2) == ["hook_embed", "blocks.0.hook_resid_pre"])
  }

  @Test("What is behind the residual sum cannot be folded whatever is fixed")
  func embeddingNormFixed() throws {
    let refusal = try Workplace().refusal(Fixtures.path("torchscale/scaled"), to: ["onnxruntime"]) {
      $0.readingOptions.deviation = 0.5
    }
    #expect(
      refusal?.description
        == "1 norm is not a linear map: layernorm_embedding: it is read by blocks.0.attention.norm, a norm, which is no "
        + "linear map; finish the removal, or pass allowsPartial to fold the rest and keep these")
  }

  @Test("llama.cpp and the stock GPT-2 do not know it")
  func others() throws {
    let source = Fixtures.path("torchscale/sub-ln")
    #expect(
      try Workplace().refusal(source, to: ["llama.cpp"]) { $0.normForm = .unit }?.description
        == "'llama.cpp': llama.cpp has no architecture for a torchscale decoder; use targets = onnxruntime")
    #expect(
      try Workplace().refusal(source, to: ["gpt2"]) { $0.normForm = .unit }?.description
        == "'gpt2': writes GPT-2 only, and this is a torchscale decoder; use targets = transformers")
  }
}
