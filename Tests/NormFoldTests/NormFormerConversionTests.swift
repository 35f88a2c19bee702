import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct NormFormerConversionTests {
  private func difference(_ path: String, from form: String) throws -> Double {
    let reference = try ReferenceLogits("normformer/reference.safetensors", prefix: form + ".")
    let logits = try Model(opening: path).network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Norms before and inside the branches become bare", arguments: [("full", 7), ("learned", 7), ("old", 4)])
  func unit(_ form: String, _ count: Int) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("normformer/\(form).pt"), to: ["onnxruntime", "transformers"]) {
      $0.normForm = .unit
    }
    #expect(report.holds)
    for output in report.outputs { #expect(output.steps.count == count) }
    #expect(try difference(place.output + "/transformers", from: form) <= 1e-6)
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture == .normFormer)
    // Head scales are part of the output maps; the residual stream's stay.
    #expect(!written.checkpoint.tensors.contains { $0.name.hasSuffix("c_attn") })
    #expect(written.checkpoint.tensors.filter { $0.name.hasSuffix("w_resid") }.count == (form == "full" ? 2 : 0))
  }

  @Test("The norm behind attention keeps its gain, which the residual stream reads")
  func kept() throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("normformer/full.pt"), to: ["onnxruntime"]) { $0.normForm = .unit }
    let folded = Set(report.outputs[0].steps.map(\.norm))
    #expect(
      report.outputs[0].kept.filter { !folded.contains($0.norm) }.map(\.norm) == [
        "decoder.layers.0.attn_ln", "decoder.layers.1.attn_ln",
      ])
  }

  @Test("With fixed deviations every norm goes, the one behind attention into the map before it")
  func fixed() throws {
    let place = try Workplace()
    var input = MeasurementInput(
      model: Fixtures.path("normformer/full.pt"), text: .ids((0..<200).map { 4 + ($0 * 37 + $0 / 7) % 60 }))
    input.chunking.contextLength = 20
    let measured = try Calibration(input).run()
    #expect(
      measured.sites.map(\.key) == [
        "blocks.0.hook_resid_pre", "blocks.0.hook_attn_out", "blocks.0.hook_resid_mid", "blocks.0.mlp.hook_post",
        "blocks.1.hook_resid_pre", "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid", "blocks.1.mlp.hook_post",
        "blocks.1.hook_resid_post",
      ])
    try place.directory.write(Array(measured.deviationFile.utf8), to: "std.json")
    let report = try place.convert(Fixtures.path("normformer/full.pt"), to: ["onnxruntime", "transformers"]) {
      $0.readingOptions.deviations = place.directory / "std.json"
    }
    #expect(report.holds)
    for output in report.outputs { #expect(output.steps.count == 9 && output.kept.isEmpty) }
    let step = try #require(report.outputs[0].steps.first { $0.path == "blocks.0.attention.outer.norm" })
    #expect(step.readers == ["blocks.0.attention.output"])
    #expect(try Model(opening: place.output + "/transformers").network.norms.isEmpty)
  }

  @Test("What cannot be is refused in one sentence")
  func refused() throws {
    let source = Fixtures.path("normformer/full.pt")
    #expect(
      try Workplace().refusal(source, to: ["llama.cpp"]) { $0.normForm = .unit }?.description
        == "'llama.cpp': llama.cpp has no architecture for a fairseq decoder; use targets = onnxruntime")
    #expect(
      try Workplace().refusal(source, to: ["onnxruntime"]) { $0.normForm = .rms }?.description
        == "'normForm = rms': 'blocks.1.residual' writes into the residual stream and is neither a linear map nor an "
        + "embedding; leave the option out")
    #expect(
      try Workplace().refusal(Fixtures.path("normformer/old.pt"), to: ["onnxruntime"]) {
        $0.normForm = .unit
        $0.readingOptions.permutesHeadScales = true
      }?.description
        == Fixtures.path("normformer/old.pt") + ", 'permutesHeadScales': there are no head scales; leave it out")
  }
}
