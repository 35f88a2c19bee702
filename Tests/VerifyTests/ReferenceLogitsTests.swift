import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

struct ModelCase: CustomTestStringConvertible, Sendable {
  let path: String
  let reference: String
  let prefix: String
  var testDescription: String { path }

  static let all: [ModelCase] =
    ["shakespeare-4x128", "tiny-2x32"].flatMap { family in
      ["vanilla", "lnfree", "lnfree-bf16", "lnfree-sharded"].map { folder in
        // The shards hold the tensors of lnfree.
        let prefix = folder == "lnfree-sharded" ? "lnfree" : folder
        return ModelCase(
          path: "\(family)/\(folder)", reference: "\(family)/reference/reference.safetensors", prefix: prefix + ".")
      }
    } + [ModelCase(path: "found/capp-gpt", reference: "found/capp-gpt/reference.safetensors", prefix: "")]
    + ["relu", "leaky", "global", "per-layer", "ln"].map { form in
      ModelCase(path: "norm-free/\(form)", reference: "norm-free/reference.safetensors", prefix: form + ".")
    }
}

@Suite struct ReferenceLogitsTests {
  @Test("Double forward is the reference's float64", arguments: ModelCase.all)
  func double(_ model: ModelCase) throws {
    let reference = try ReferenceLogits(model.reference, prefix: model.prefix)
    let source = try Model(opening: Fixtures.path(model.path))
    let logits = try (source.literalNetwork ?? source.network).logits(on: FastBackend<Double>(probes: reference.probes))
      .all()
    let difference = reference.relativeDifference(reference.select(logits))
    #expect(difference <= 1e-9)
  }

  @Test("Float forward is within float32 noise of the reference's float64", arguments: ModelCase.all)
  func single(_ model: ModelCase) throws {
    let reference = try ReferenceLogits(model.reference, prefix: model.prefix)
    let source = try Model(opening: Fixtures.path(model.path))
    let logits = try (source.literalNetwork ?? source.network).logits(on: FastBackend<Float>(probes: reference.probes))
      .all()
    let difference = reference.relativeDifference(reference.select(logits))
    // 2e-6, plus the error that the reference's own float32 run makes on the same tokens where there is one.
    #expect(difference <= 2e-6 + (reference.single.map { reference.relativeDifference($0) } ?? 0))
  }
}
