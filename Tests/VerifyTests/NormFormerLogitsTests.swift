import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// NormFormers in checkpoints of fairseq, held against a reimplementation (`fixtures/generate/normformer.py`).
@Suite struct NormFormerLogitsTests {
  static let forms = ["full", "learned", "old"]

  private func difference<Scalar: ArithmeticScalar>(
    of form: String, from reference: String? = nil, in _: Scalar.Type, options: ReadingOptions = .init()
  ) throws -> Double {
    let reference = try ReferenceLogits("normformer/reference.safetensors", prefix: (reference ?? form) + ".")
    let network = try Model(opening: Fixtures.path("normformer/\(form).pt"), options: options).network
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

  @Test("Head scales of the weeks in which they exchanged heads and features are read where that is said")
  func exchanged() throws {
    var options = ReadingOptions()
    options.permutesHeadScales = true
    #expect(try difference(of: "full", from: "full.exchanged", in: Double.self, options: options) <= 1e-12)
    #expect(try difference(of: "full", from: "full.exchanged", in: Double.self) > 1e-3)
  }

  @Test("The plain forward pass has what is new, too", arguments: forms)
  func plain(_ form: String) throws {
    let reference = try ReferenceLogits("normformer/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("normformer/\(form).pt")).network
    var logits: [Double] = []
    for probe in reference.probes {
      var plain = PlainBackend(tokens: probe.tokens, positions: probe.positions)
      logits += try network.evaluate(on: &plain).flatMap { $0 }
    }
    let fast = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    #expect(relativeDifference(logits, fast) <= 1e-13)
  }

  @Test("A last norm that fairseq leaves out takes no part, and is accounted for")
  func oldVersion() throws {
    let model = try Model(opening: Fixtures.path("normformer/old.pt"))
    #expect(model.network[norm: "final.norm"] == nil)
    #expect(
      model.dropped.map(\.name).sorted() == [
        "decoder.layer_norm.bias", "decoder.layer_norm.weight", "decoder.version",
      ])
  }
}
