import NormFoldFormats
import NormFoldMeasurement
import Testing
import TestSupport

/// A network whose residual stream is infinite from position 10 on.
@Suite struct NonFiniteTests {
  private let checkpoint: AlteredCheckpoint

  init() throws {
    checkpoint = try AlteredCheckpoint(of: "tiny-2x32/vanilla") {
      $0.tensors.change("transformer.wpe.weight") { $0[10 * 32] = .infinity }
    }
  }

  private var input: MeasurementInput { MeasurementInput(model: checkpoint.path, text: .ids(Array(1...128))) }

  @Test("Tokens without a finite loss are counted, and in no statistic")
  func evaluation() throws {
    let loss = try Evaluation(input).run().loss
    #expect(loss.tokenCount == 2 * 63)
    #expect(loss.nonFiniteTokenCount == 2 * 53)
    #expect(loss.byPosition.map(\.position) == Array(1...10))
    #expect(loss.mean.isFinite && loss.largest.isFinite)
  }

  @Test("They are in no divergence either, whichever model they are of")
  func comparison() throws {
    var evaluation = Evaluation(input)
    evaluation.other = Fixtures.path("tiny-2x32/vanilla")
    let forwards = try #require(try evaluation.run().comparison)
    #expect(forwards.unjudgedTokenCount == 2 * 53)
    // Rows are computed alone where a value is not finite, and OpenBLAS may sum one row in another order than several.
    #expect(abs(forwards.meanDivergence) <= 1e-12)
    #expect(abs(forwards.meanJensenShannon) <= 1e-12)
    #expect(forwards.top1Agreement == 1)
    evaluation.input.model = Fixtures.path("tiny-2x32/vanilla")
    evaluation.other = checkpoint.path
    #expect(try evaluation.run().comparison?.unjudgedTokenCount == 2 * 53)
  }

  @Test("A deviation that is no number is refused by name")
  func calibration() throws {
    let refusal = #expect(throws: Refusal.self) { try Calibration(input).run() }
    #expect(refusal?.category == .nonFinite)
    #expect(refusal?.subject == "transformer.h.0.ln_1")
  }

  @Test("A diagnosis shows what is no number")
  func diagnosis() throws {
    let report = try Diagnosis(input).run()
    #expect(report.attention.entropy.joined().allSatisfy { $0.isNaN })
    #expect(report.residual.meanNorm[0][0].isFinite)
    #expect(!report.residual.meanNorm[0][4].isFinite)
  }

  @Test("Nothing is generated from logits that are no numbers")
  func generation() throws {
    let refusal = #expect(throws: Refusal.self) {
      try Generation(model: checkpoint.path, prompt: .tokens(Array(1...12))).run()
    }
    #expect(refusal?.category == .nonFinite)
  }
}
