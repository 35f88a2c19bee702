import Arithmetic
import Formats
import Networks
import TestSupport
import Testing

/// Decoders with norms inside their branches held against what torchscale computed.
@Suite struct TorchscaleLogitsTests {
  static let forms = ["sub-ln", "under-model", "scaled", "pre-norm"]

  private func difference<Scalar: ArithmeticScalar>(of form: String, in _: Scalar.Type) throws -> Double {
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("torchscale/" + form)).network
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

  @Test("The plain forward pass has the norms inside the branches, too")
  func plain() throws {
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: "sub-ln.")
    let network = try Model(opening: Fixtures.path("torchscale/sub-ln")).network
    var logits: [Double] = []
    for probe in reference.probes {
      var plain = PlainBackend(tokens: probe.tokens, positions: probe.positions)
      logits += try network.evaluate(on: &plain).flatMap { $0 }
    }
    let fast = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    #expect(relativeDifference(logits, fast) <= 1e-13)
  }
}
