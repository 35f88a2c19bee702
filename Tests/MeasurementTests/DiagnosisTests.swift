import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldVerify
import Testing
import TestSupport

@Suite struct DiagnosisTests {
  private let reference: Reference

  init() throws { reference = try Reference.read() }

  @Test("Entropies, sinks and residual norms are PyTorch's", arguments: ["vanilla", "lnfree"])
  func diagnosis(_ model: String) throws {
    let expected = try #require(reference.diagnosis[model])
    var input = MeasurementInput(model: Reference.model(model), text: .ids(reference.tokens))
    // The published form computes each norm with its large epsilon: 1e-9 away from what it means.
    let limit = model == "lnfree" ? 1e-6 : 1e-10
    input.precision = .double
    let report = try Diagnosis(input).run()
    let (attention, residual) = (report.attention, report.residual)
    func flat(_ matrix: [[Double]]) -> [Double] { Array(matrix.joined()) }
    #expect(attention.entropy.count == 4)
    #expect(relative(flat(attention.entropy), flat(expected.entropy)) < limit)
    #expect(relative(flat(attention.sinkAttention), flat(expected.sinkAttention)) < limit)
    #expect(relative(flat(attention.sinkQueryShare), flat(expected.sinkQueryShare)) < 1e-12)
    #expect(attention.sinkRate == expected.sinkRate)
    #expect(residual.positions.map { [$0.first, $0.last] } == expected.positions)
    #expect(residual.meanNorm.count == 5)
    #expect(relative(flat(residual.meanNorm), flat(expected.meanNorm)) < limit)
    #expect(relative(flat(residual.largestNorm), flat(expected.largestNorm)) < limit)
    #expect(attention.headCountByQuarter.reduce(0, +) == 16)
  }

  @Test("In single precision, to six digits")
  func single() throws {
    let expected = try #require(reference.diagnosis["vanilla"])
    let report = try Diagnosis(MeasurementInput(model: Reference.model("vanilla"), text: .ids(reference.tokens))).run()
    #expect(relative(Array(report.attention.entropy.joined()), Array(expected.entropy.joined())) < 1e-6)
    #expect(relative(Array(report.residual.meanNorm.joined()), Array(expected.meanNorm.joined())) < 1e-6)
  }

  @Test("Where a query sees little else, every head is a sink")
  func sinks() throws {
    var input = MeasurementInput(model: Reference.model("vanilla"), text: .ids(reference.tokens))
    // The first of two queries has nothing but position 0 to look at.
    input.chunking.contextLength = 2
    let attention = try Diagnosis(input).run().attention
    #expect(attention.sinkRate == 1)
    #expect(attention.sinkAttention.joined().allSatisfy { $0 > 0.5 && $0 < 1 })
    #expect(attention.sinkQueryShare.joined().allSatisfy { $0 >= 0.5 })
  }

  @Test("Attention whose weights are not recorded is refused by what it is")
  func peculiarAttention() throws {
    let model = Fixtures.path("decoders/gemma2")
    let input = MeasurementInput(model: model, text: .ids((0..<80).map { $0 % 32 }))
    #expect {
      try Diagnosis(input).run()
    } throws: { error in
      (error as? Refusal)?.description
        == "\(model), 'blocks.0.attention.mixed': is attention with capped scores, which is not diagnosed yet"
    }
  }
}
