import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// OPT networks held against what transformers computed.
@Suite struct OPTLogitsTests {
  static let forms = ["relu", "gelu", "decoder-names"]

  private func difference<Scalar: ArithmeticScalar>(of form: String, in _: Scalar.Type) throws -> Double {
    let reference = try ReferenceLogits("opt/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("opt/" + form)).network
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

  @Test("The stream that enters each block is the reference's")
  func streams() throws {
    let file = try Checkpoint(safetensors: Fixtures.path("opt/reference.safetensors"))
    let reference = try ReferenceLogits("opt/reference.safetensors", prefix: "relu.")
    let network = try Model(opening: Fixtures.path("opt/relu")).network
    var execution = Execution(network, on: FastBackend<Double>(probes: reference.probes))
    #expect(network.blockCount == 3)
    for block in 0..<network.blockCount {
      try execution.run(stage: block)
      let expected: [Double] = try #require(file["relu.residual.\(block).f64"]).decoded()
      #expect(relativeDifference(reference.select(execution.stream(atDepth: block)), expected) <= 1e-12)
    }
  }
}
