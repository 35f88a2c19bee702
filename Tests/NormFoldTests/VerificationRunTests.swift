import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct VerificationRunTests {
  @Test(
    "A checkpoint is the same network as itself, in every form that the fixtures have of it",
    arguments: [
      ("tiny-2x32/lnfree", "tiny-2x32/lnfree"), ("tiny-2x32/lnfree", "tiny-2x32/lnfree-sharded"),
      ("tiny-2x32/lnfree", "tiny-2x32/lnfree-bf16"), ("tiny-2x32/vanilla", "tiny-2x32/vanilla"),
    ])
  func same(reference: String, candidate: String) throws {
    let report = try VerificationRun(reference: Fixtures.path(reference), candidate: Fixtures.path(candidate)).run()
    #expect(report.holds)
    #expect(report.judgement.limits.logits > 0)
  }

  /// A published checkpoint whose stream is so large that its ε of 10¹² does not make its norms linear.
  private static func largeStream(
    _ change: (inout AlteredCheckpoint.Content) -> Void = { _ in }
  ) throws -> AlteredCheckpoint {
    try AlteredCheckpoint(of: "tiny-2x32/lnfree") { content in
      for name in ["transformer.wte.weight", "transformer.wpe.weight"] {
        content.tensors.change(name) { entry in
          for index in 0..<entry.shape.reduce(1, *) { entry[index] *= 3_000 }
        }
      }
      change(&content)
    }
  }

  @Test("A checkpoint whose stored epsilon moves its logits is the same as itself, and another is not")
  func largeStream() throws {
    let (one, two) = (try Self.largeStream(), try Self.largeStream())
    let report = try VerificationRun(reference: one.path, candidate: two.path).run()
    #expect(report.holds)
    // It is the stored form that costs more than float32.
    let noise = report.judgement.noise.logits.largest
    #expect(report.judgement.double.logits.largest > 4 * noise)
    let other = try Self.largeStream { content in
      content.tensors.change("transformer.h.1.mlp.c_fc.weight") { $0[5] *= 1.001 }
    }
    #expect(try !VerificationRun(reference: one.path, candidate: other.path).run().holds)
  }

  @Test("A graph in F16 whose scores leave F16 is refused by their place, as onnxruntime computes it")
  func overflow() throws {
    let (source, place) = (try Self.largeStream(), try Workplace())
    let report = try place.convert(source.path, to: ["onnxruntime"]) { $0.type = .f16 }
    let claims = try #require(report.verification?.targets.first)
    #expect(claims.partsHold && !claims.arithmeticHolds && !report.published)
    let overflow = try #require(claims.judgement.overflow)
    #expect(overflow.place.hasSuffix(".attention.mixed.scores") && abs(overflow.value) > overflow.largest)
    #expect(
      report.failures.last
        == "It computes in F16, which ends at 65504, and \(overflow.place) reaches \(Quantity.short(overflow.value)): take a "
        + "type of a larger range.")
    let wide = try place.convert(source.path, to: ["onnxruntime"]) { $0.type = .f32 }
    #expect(wide.holds && wide.verification?.targets.first?.judgement.overflow == nil)
  }

  @Test(
    "A conversion that rounds is the same network, whatever type the source has",
    arguments: [
      "tiny-2x32/lnfree", "tiny-2x32/lnfree-bf16",
    ], [ElementType.f32, .bf16, .f16])
  func rounded(source: String, type: ElementType) throws {
    let place = try Workplace()
    try place.convert(Fixtures.path(source)) { $0.type = type }
    #expect(try VerificationRun(reference: Fixtures.path(source), candidate: place.output).run().holds)
  }

  @Test(
    "Another network is told apart",
    arguments: [
      ("tiny-2x32/lnfree", "tiny-2x32/vanilla"), ("tiny-2x32/vanilla", "tiny-2x32/lnfree"),
    ])
  func another(reference: String, candidate: String) throws {
    let report = try VerificationRun(reference: Fixtures.path(reference), candidate: Fixtures.path(candidate)).run()
    #expect(!report.holds)
  }

  @Test("A square matrix that lies the other way is seen by holding it against the original")
  func transposedSquare() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.h.0.attn.c_proj.weight") { $0 = $0.transposed }
    }
    #expect(try !VerificationRun(reference: Fixtures.path("tiny-2x32/lnfree"), candidate: altered.path).run().holds)
  }

  @Test("The probes are as long as asked for")
  func probeLength() throws {
    var run = VerificationRun(
      reference: Fixtures.path("tiny-2x32/lnfree"), candidate: Fixtures.path("tiny-2x32/lnfree"))
    run.probeOptions.probeLength = 5
    #expect(
      try run.run().probes == [
        "one token (1)", "5 tokens (5)", "end-of-text first (5)", "end-of-text in the middle (5)",
      ])
  }
}
