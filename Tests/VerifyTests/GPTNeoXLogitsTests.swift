import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// GPT-NeoX networks held against what transformers computed with rotary tables in double precision, and the one with fixed
/// norms against the forward pass that is written out in the fixtures' generator.
@Suite struct GPTNeoXLogitsTests {
  static let forms = ["parallel", "sequential", "full-rotary", "half-precision", "fakeln"]

  private func difference<Scalar: ArithmeticScalar>(of form: String, in _: Scalar.Type) throws -> Double {
    let reference = try ReferenceLogits("gpt-neox/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("gpt-neox/" + form)).network
    let logits = try network.logits(on: FastBackend<Scalar>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Double forward is the reference's float64", arguments: forms)
  func double(_ form: String) throws {
    let difference = try difference(of: form, in: Double.self)
    #expect(difference <= 1e-12)
  }

  @Test("Float forward is within float32 noise of it", arguments: forms)
  func single(_ form: String) throws {
    let difference = try difference(of: form, in: Float.self)
    #expect(difference <= 4e-6)
  }

  @Test("The stream that enters each block is the reference's", arguments: ["parallel", "sequential"])
  func streams(_ form: String) throws {
    let file = try Checkpoint(safetensors: Fixtures.path("gpt-neox/reference.safetensors"))
    let reference = try ReferenceLogits("gpt-neox/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("gpt-neox/" + form)).network
    var execution = Execution(network, on: FastBackend<Double>(probes: reference.probes))
    #expect(network.blockCount == 3)
    for block in 0..<network.blockCount {
      try execution.run(stage: block)
      let expected: [Double] = try #require(file["\(form).residual.\(block).f64"]).decoded()
      #expect(relativeDifference(reference.select(execution.stream(atDepth: block)), expected) <= 1e-12)
    }
  }

  @Test("Queries that are taken for keys, and halves of the rotated features for whole heads, are far off")
  func wrong() throws {
    let reference = try ReferenceLogits("gpt-neox/reference.safetensors", prefix: "parallel.")
    let network = try Model(opening: Fixtures.path("gpt-neox/parallel")).network
    var swapped = network
    swapped[linear: "blocks.0.attention.query"] = network[linear: "blocks.0.attention.key"]
    swapped[linear: "blocks.0.attention.key"] = network[linear: "blocks.0.attention.query"]
    let whole = network.mappingOperations { _, operation in
      guard case .rotate(let rotary, let headCount) = operation else { return operation }
      return .rotate(Rotary(base: rotary.base, width: 16), headCount: headCount)
    }
    for altered in [swapped, whole] {
      let logits = try altered.logits(on: FastBackend<Double>(probes: reference.probes)).all()
      #expect(reference.relativeDifference(reference.select(logits)) > 1e-3)
    }
  }
}
