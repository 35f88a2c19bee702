import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct CalibrationTests {
  private let reference: Reference

  init() throws { reference = try Reference.read() }

  private func calibration(_ model: String) -> Calibration {
    var input = MeasurementInput(model: Reference.model(model), text: .ids(reference.tokens))
    input.precision = .double
    return Calibration(input)
  }

  @Test("Deviations at the norms are PyTorch's")
  func deviations() throws {
    let report = try calibration("vanilla").run()
    #expect(Set(report.sites.map(\.key)) == Set(reference.deviations.keys))
    #expect(report.sites.count == 9)
    for site in report.sites {
      for (part, found) in [("usual", site.usual), ("first", site.first)] {
        let expected = try #require(reference.deviations[site.key]?[part])
        #expect(found.tokenCount == (part == "first" ? 7 : 7 * 127))
        #expect(
          relative(
            [found.mean, found.smallest, found.largest, found.pooled],
            [expected.mean, expected.smallest, expected.largest, expected.pooled]) < 1e-10)
        #expect(relative([found.standardDeviation], [expected.standardDeviation]) < 1e-8)
        #expect(found.value == found.mean)
      }
    }
    #expect(report.sites[0].norm == "transformer.h.0.ln_1")
    #expect(report.sites[8].norm == "transformer.ln_f")
    #expect(report.sites[8].block == nil)
  }

  @Test("In single precision, to six digits")
  func single() throws {
    var calibration = calibration("vanilla")
    calibration.input.precision = .single
    for site in try calibration.run().sites {
      let expected = try #require(reference.deviations[site.key]?["usual"])
      #expect(relative([site.usual.mean], [expected.mean]) < 1e-6)
    }
  }

  @Test("The file that follows is read back, by either estimator", arguments: CalibrationReport.Estimator.allCases)
  func file(_ estimator: CalibrationReport.Estimator) throws {
    var calibration = calibration("vanilla")
    calibration.estimator = estimator
    let report = try calibration.run()
    let place = try TemporaryDirectory()
    try report.deviationFile.write(toFile: place / "deviations.json", atomically: true, encoding: .utf8)
    var options = ReadingOptions()
    options.deviations = place / "deviations.json"
    let model = try Model(opening: Reference.model("vanilla"), options: options)
    #expect(model.network.norms.count == 9)
    for (path, norm) in model.network.norms {
      guard case .fixed(let deviation) = norm.deviation else {
        Issue.record("\(norm.name) is still computed")
        continue
      }
      let key = DeviationFile.key(of: path, in: model.network)
      let expected = try #require(reference.deviations[key]?["usual"])
      let value = try #require(deviation.constantValue)
      #expect(relative([value], [estimator == .pooled ? expected.pooled : expected.mean]) < 1e-10)
    }
    // As in the published files: every site of every block, what is behind one before the next.
    let json = try JSONDecoder().decode(
      [String: [String: Double]].self, from: Data(contentsOf: URL(filePath: place / "deviations.json")))
    let published: [String: [String: Double]] = try Fixtures.decode("published-scales/gpt2_std_dicts.json")
    #expect(Set(json.keys) == Set(published.keys))
    for table in ["std_dict", "std_bos_dict"] {
      let keys = published[table]?.keys.filter { ["0", "1", "2", "3"].contains($0.split(separator: ".")[1]) }
      #expect(json[table].map { Set($0.keys) } == keys.map { Set($0) })
      #expect(json[table]?["blocks.1.hook_resid_post"] == json[table]?["blocks.2.hook_resid_pre"])
    }
  }

  @Test("Norms that are fixed already are measured, too, with the epsilon of their training")
  func fixed() throws {
    let report = try calibration("lnfree").run()
    #expect(report.sites.count == 9)
    #expect(report.sites.allSatisfy { $0.epsilon == 1e-5 })
  }
}
