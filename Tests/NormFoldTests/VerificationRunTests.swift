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
