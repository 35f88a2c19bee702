import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct RetNetConversionTests {
  private func difference(_ path: String, from form: String) throws -> Double {
    let reference = try ReferenceLogits("retnet/reference.safetensors", prefix: form + ".")
    let logits = try Model(opening: path).network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test(
    "Norms of the stream become bare, those of the heads are kept and named with what reads them",
    arguments: [("xatl", "xatl"), ("lit", "lit/lit_model.pth"), ("affine", "affine")])
  func unit(_ form: String, _ file: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("retnet/" + file), to: ["onnxruntime", "transformers"]) {
      $0.normForm = .unit
    }
    #expect(report.holds)
    let group = form == "affine" ? "group.norm" : "group"
    for output in report.outputs {
      #expect(output.steps.count == 5)
      let bare = Set(output.steps.map(\.norm))
      let kept = output.kept.filter { !bare.contains($0.norm) }
      #expect(
        kept.map(\.path)
          == (form == "affine" ? ["embedding.norm"] : []) + (0..<2).map { "blocks.\($0).attention.\(group)" })
      #expect(
        kept.last?.reason == "it is read by blocks.1.attention.hidden, a product of two values, which is no linear map")
    }
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture == .retNet)
    for (path, norm) in written.network.norms where path != "embedding.norm" && !path.contains(component: "group") {
      #expect(ParameterReader(norm.gain).values().allSatisfy { $0 == 1 }, "\(path)")
    }
    #expect(try difference(place.output + "/transformers", from: form) <= 1e-6)
    let code = try String(contentsOfFile: place.output + "/transformers/modeling_retnet.py", encoding: .utf8)
    #expect(code.contains("class RetNetForCausalLM(PreTrainedModel, GenerationMixin):"))
  }

  @Test("What is measured at the norms of the stream folds them whole, and leaves those of the heads")
  func fixed() throws {
    let place = try Workplace()
    var input = MeasurementInput(
      model: Fixtures.path("retnet/xatl"), text: .ids((0..<240).map { ($0 * 37 + $0 / 7) % 96 }))
    input.chunking.contextLength = 24
    let measured = try Calibration(input).run()
    #expect(
      measured.sites.map(\.norm) == [
        "model.layers.0.retention_layer_norm", "model.layers.0.final_layer_norm",
        "model.layers.1.retention_layer_norm", "model.layers.1.final_layer_norm", "model.layer_norm",
      ])
    try place.directory.write(Array(measured.deviationFile.utf8), to: "std.json")
    let source = Fixtures.path("retnet/xatl")
    let report = try place.convert(source, to: ["onnxruntime", "transformers"]) {
      $0.readingOptions.deviations = place.directory / "std.json"
      $0.allowsPartial = true
    }
    #expect(report.holds)
    for output in report.outputs {
      #expect(output.steps.count { $0.absorbed == "whole" } == 5)
      #expect(output.kept.map(\.path) == ["blocks.0.attention.group", "blocks.1.attention.group"])
    }
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.network.norms.count == 2)
    #expect(written.checkpoint.tensors.allSatisfy { !$0.name.contains("norm") })
    #expect(
      try Workplace().refusal(source, to: ["onnxruntime"]) {
        $0.readingOptions.deviations = place.directory / "std.json"
      }?.description.hasPrefix(
        "2 norms are not a linear map: blocks.0.attention.group: it is read by blocks.0.attention.hidden, a product of two "
          + "values, which is no linear map") == true)
  }

  @Test("What knows no retention says so")
  func others() throws {
    let source = Fixtures.path("retnet/xatl")
    #expect(
      try Workplace().refusal(source, to: ["llama.cpp"]) { $0.normForm = .unit }?.description
        == "'llama.cpp': llama.cpp has no architecture for a RetNet; use targets = onnxruntime")
    #expect(
      try Workplace().refusal(source, to: ["gpt2"]) { $0.normForm = .unit }?.description
        == "'gpt2': writes GPT-2 only, and this is a RetNet; use targets = transformers")
    let integers = try IntegerArithmetic(parsing: "fixed:64,20")
    #expect(
      try Workplace().refusal(source, to: ["onnxruntime"]) {
        $0.normForm = .unit
        $0.integers = integers
      }?.description == "'blocks.0.attention.mixed': retention has no form in integers; leave the integers out")
    let input = MeasurementInput(model: source, text: .ids(Array(0..<40)))
    let refusal = #expect(throws: Refusal.self) { try Diagnosis(input).run() }
    #expect(
      refusal?.description
        == source
        + ", 'blocks.0.attention.mixed': is retention, whose weights are no distribution over tokens that could have an entropy"
    )
  }

  @Test("Biases of values stay where they are: weights of retention do not sum to one")
  func valueBiases() throws {
    let network = try Model(opening: Fixtures.path("retnet/xatl")).network
    #expect(network.foldingValueBiases().nodes == network.nodes)
  }
}
