import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// Training checkpoints of every form, converted and read back.
@Suite struct DialectConversionTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let path: String
    let prefix: String
    var deviations: String?
    var testDescription: String { path }

    static let all = [
      Case(path: "tiny-2x32/fakeln", prefix: "fakeln."), Case(path: "tiny-2x32/fakeln-bf16", prefix: "fakeln-bf16."),
      Case(path: "tiny-2x32/fakeln-feature0", prefix: "fakeln-feature0."),
      Case(path: "tiny-2x32/nanogpt", prefix: "nanogpt.", deviations: "tiny-2x32/nanogpt/std_dicts.json"),
      Case(path: "shakespeare-4x128/fakeln", prefix: "fakeln."),
    ]
  }

  @Test("The written result computes the defining program's logits", arguments: Case.all)
  func converts(_ form: Case) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path(form.path), to: ["transformers", "gpt2"]) {
      $0.readingOptions.deviations = form.deviations.map(Fixtures.path)
    }
    #expect(report.holds)
    let reference = try ReferenceLogits(
      form.path.split(separator: "/")[0] + "/reference/reference.safetensors", prefix: form.prefix)
    for target in ["transformers", "gpt2"] {
      let written = try Model(opening: place.output + "/" + target)
      let logits = try (written.literalNetwork ?? written.network).logits(
        on: FastBackend<Double>(probes: reference.probes)
      ).all()
      // Weights rounded once to float32: far below the 2e-6 that a float32 run is allowed.
      #expect(reference.relativeDifference(reference.select(logits)) <= 5e-7)
    }
  }

  @Test("A PyTorch archive and a safetensors file of the same model give the same bytes")
  func sameBytes() throws {
    let (archive, tensors) = (try Workplace(), try Workplace())
    try archive.convert(Fixtures.path("tiny-2x32/fakeln"))
    try tensors.convert(Fixtures.path("tiny-2x32/fakeln-safetensors"))
    let (a, b) = (
      try Checkpoint(safetensors: archive.output + "/model.safetensors"),
      try Checkpoint(safetensors: tensors.output + "/model.safetensors")
    )
    #expect(a.tensors.map(\.info) == b.tensors.map(\.info))
    for (one, other) in zip(a.tensors, b.tensors) { #expect(Fingerprint(of: one) == Fingerprint(of: other)) }
  }

  @Test("Few threads, which hand over what they compute, write the bytes of many, which compute in pages of the file")
  func threads() throws {
    let source = Fixtures.path("shakespeare-4x128/fakeln-safetensors")
    let files = ["transformers": "model.safetensors", "llama.cpp": "model.gguf", "onnxruntime": "model.onnx_data"]
    for (target, name) in files {
      let written = try [1, 64].map { count in
        let place = try Workplace()
        try place.convert(source, to: [target]) { $0.workers = Workers(count: count) }
        return try Data(contentsOf: URL(filePath: "\(place.output)/\(name)"))
      }
      #expect(written[0] == written[1])
    }
  }

  @Test("A checkpoint compressed by zstd converts like the one it was")
  func compressed() throws {
    let (plain, packed) = (try Workplace(), try Workplace())
    let source = try TemporaryDirectory()
    try source.write(Fixtures.compressed("tiny-2x32/fakeln/pytorch_model.bin"), to: "pytorch_model.bin.zst")
    try source.write(Fixtures.bytes("tiny-2x32/fakeln/config.json"), to: "config.json")
    try plain.convert(Fixtures.path("tiny-2x32/fakeln"))
    try packed.convert(source.path)
    let names = try Checkpoint(safetensors: plain.output + "/model.safetensors").tensors
    let others = try Checkpoint(safetensors: packed.output + "/model.safetensors")
    for tensor in names { #expect(others[tensor.name].map { Fingerprint(of: $0) } == Fingerprint(of: tensor)) }
  }

  @Test(
    "What is still computed is listed, and refused",
    arguments: [
      (
        "shakespeare-4x128/fakeln-partial-safetensors",
        "3 norms are not a linear map: transformer.h.2.ln_1 (values): its deviation is still computed (epsilon 1e-05); "
          + "transformer.h.3.ln_1 (values): its deviation is still computed (epsilon 1e-05); "
          + "transformer.ln_f: its deviation is still computed (epsilon 1e-05); "
          + "finish the removal, or pass allowsPartial to fold the rest and keep these"
      ),
      (
        "tiny-2x32/fakeln-partial",
        "1 norm is not a linear map: transformer.ln_f: its deviation is still computed (epsilon 1e-05); "
          + "finish the removal, or pass allowsPartial to fold the rest and keep these"
      ),
      (
        "tiny-2x32/fakeln-positional",
        "5 norms are not a linear map: transformer.h.0.ln_1: its deviation depends on the position (0.33986038 at 0, 0.09710296 at 1); "
          + "transformer.h.0.ln_2: its deviation depends on the position (0.3378898 at 0, 0.09653994 at 1); "
          + "transformer.h.1.ln_1: its deviation depends on the position (0.5803044 at 0, 0.16580126 at 1); "
          + "transformer.h.1.ln_2: its deviation depends on the position (0.6299903 at 0, 0.17999722 at 1); "
          + "transformer.ln_f: its deviation depends on the position (0.87061006 at 0, 0.24874572 at 1); "
          + "finish the training phase that gives all positions one deviation (disable_bos)"
      ),
    ])
  func refuses(path: String, message: String) throws {
    let refusal = try Workplace().refusal(Fixtures.path(path))
    #expect(refusal?.description == message)
    #expect(refusal?.category == .notFoldable)
  }

  @Test(
    "With --allow-partial the rest is folded, and the kept norms compute what they did",
    arguments: [
      ("shakespeare-4x128/fakeln-partial-safetensors", ["h.2.ln_1", "h.3.ln_1", "ln_f"]),
      ("tiny-2x32/fakeln-partial", ["ln_f"]),
    ])
  func partial(path: String, kept: [String]) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path(path)) { $0.allowsPartial = true }
    #expect(report.holds)
    #expect(!report.outputs[0].isNormFree)
    #expect(report.outputs[0].hasComputedNorms)
    let written = try Model(opening: place.output)
    #expect(written.dialect.displayName == "folded: \(kept.count) norm\(kept.count == 1 ? "" : "s") kept")
    #expect(Set(written.network.norms.map(\.norm.name)) == Set(kept))
    // Nothing that was written says that no norms are left.
    for (name, content) in try place.content() where !name.hasSuffix(".safetensors") {
      let text = content.map { String(decoding: $0, as: UTF8.self).lowercased() } ?? ""
      #expect(!text.contains("ln-free") && !text.contains("lnfree") && !text.contains("norm-free"), "\(name)")
    }
    let reference = try ReferenceLogits(
      path.split(separator: "/")[0] + "/reference/reference.safetensors", prefix: "fakeln-partial.")
    let logits = try written.network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 5e-7)
  }

  @Test("A target with one epsilon for all norms says that it cannot keep computed ones")
  func partialForStock() throws {
    let refusal = try Workplace().refusal(Fixtures.path("tiny-2x32/fakeln-partial"), to: ["gpt2"]) {
      $0.allowsPartial = true
    }
    #expect(
      refusal?.description
        == "'transformer.ln_f': is still computed, and the target gpt2 has one epsilon for all norms; finish the removal, or use targets = transformers"
    )
  }

  @Test("Deviations given to an ordinary GPT-2: the report says that the function changes, and by how much")
  func changesFunction() throws {
    let report = try Workplace().convert(Fixtures.path("tiny-2x32/vanilla")) {
      $0.readingOptions.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json")
    }
    #expect(report.holds)
    #expect(report.changesFunction)
    let literal = try #require(report.verification?.literal)
    #expect(literal.logits.meanDivergence > 0.01)
  }
}
