import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct InnerNormCalibrationTests {
  @Test(
    "σ is measured at every norm, those inside and behind branches too: what the plain forward pass divides by",
    arguments: ["torchscale/sub-ln", "torchscale/scaled", "normformer/full.pt", "normformer/learned.pt"])
  func everyNorm(_ name: String) throws {
    let (context, count) = (20, 100)
    let ids = (0..<count).map { 4 + ($0 * 37 + $0 / 7) % 60 }
    var input = MeasurementInput(model: Fixtures.path(name), text: .ids(ids))
    input.chunking.contextLength = context
    input.precision = .double
    let report = try Calibration(input).run()
    let network = try Model(opening: Fixtures.path(name)).network
    #expect(report.sites.map(\.norm) == network.norms.map(\.norm.name))
    #expect(Set(report.sites.map(\.key)).count == network.norms.count)
    var sums: [String: Double] = [:]
    for start in stride(from: 0, to: count, by: context) {
      var execution = Execution(network, on: PlainBackend(tokens: Array(ids[start..<start + context])))
      for stage in 0..<execution.stageCount {
        try execution.run(stage: stage) { (node, operands, _) throws(Refusal) in
          guard case .norm(let norm) = node.operation, case .computed(let epsilon) = norm.deviation else { return }
          for row in operands[0].dropFirst() {
            let mean = row.reduce(0, +) / Double(row.count)
            let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
            sums[norm.name, default: 0] += (variance + epsilon).squareRoot()
          }
        }
      }
    }
    for site in report.sites {
      let expected = try #require(sums[site.norm]) / Double(count - count / context)
      #expect(abs(site.usual.value - expected) <= 1e-12 * expected, "\(site.norm)")
    }
  }
}
