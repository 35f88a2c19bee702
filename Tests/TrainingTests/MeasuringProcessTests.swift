import Foundation
import NormFold
import NormFoldMeasurement
import NormFoldProcesses
import Testing
import TestSupport

/// Measurements by several processes, as threads of this one. The text is cut by the number of all threads, so that one process
/// with as many threads gets the same bits.
@Suite struct MeasuringProcessTests {
  /// A text of which the last chunk is left over, so that the processes get different numbers of chunks.
  private static func input(_ model: String = "tiny-2x32/vanilla", count: Int = 90) -> MeasurementInput {
    var input = MeasurementInput(
      model: Fixtures.path(model), text: .ids((0..<count).map { ($0 * $0 + 3 * $0) % 64 }))
    input.chunking.contextLength = 16
    input.precision = .double
    input.workers = Workers(count: 1)
    return input
  }

  /// The document of a report, but for the time that it took.
  private static func document(_ report: some Encodable) throws -> NSDictionary {
    let data = try JSONEncoder().encode(report)
    var document = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    document["seconds"] = nil
    return document as NSDictionary
  }

  @Test("Processes measure the loss of a text that one measures, and all of them get it", arguments: [2, 3, 4])
  func evaluation(count: Int) throws {
    var evaluation = Evaluation(Self.input())
    evaluation.other = Fixtures.path("tiny-2x32/lnfree")
    let measured = evaluation
    evaluation.input.workers = Workers(count: count)
    let alone = try Self.document(try evaluation.run())
    let reports = LocalProcesses.run(count) { process in try? measured.run(in: process) }
    #expect(reports.count == count)
    for report in reports { #expect(try Self.document(#require(report)) == alone) }
  }

  @Test("Numbers that leave integers are counted over all processes")
  func integers() throws {
    var evaluation = Evaluation(Self.input())
    evaluation.integers = try IntegerArithmetic(parsing: "fixed:14,6")
    let measured = evaluation
    evaluation.input.workers = Workers(count: 3)
    let alone = try evaluation.run()
    #expect(alone.integers?.overflows.isEmpty == false)
    let reports = LocalProcesses.run(3) { process in try? measured.run(in: process) }
    for report in reports { #expect(try Self.document(#require(report)) == Self.document(alone)) }
  }

  @Test("Processes measure the deviations that one measures", arguments: [2, 3, 8])
  func calibration(count: Int) throws {
    var calibration = Calibration(Self.input())
    let measured = calibration
    calibration.input.workers = Workers(count: count)
    let alone = try calibration.run()
    let reports = LocalProcesses.run(count) { process in try? measured.run(in: process) }
    for report in reports {
      let report = try #require(report)
      #expect(report.deviationFile == alone.deviationFile)
      #expect(try Self.document(report) == Self.document(alone))
    }
  }

  @Test("What keeps one process from measuring ends all of them, with its category")
  func refusal() {
    let refusals = LocalProcesses.run(3) { process -> Refusal? in
      // One of the machines lacks the checkpoint.
      let input = Self.input(process.rank == 1 ? "absent" : "tiny-2x32/vanilla")
      do throws(Refusal) {
        _ = try Evaluation(input).run(in: process)
        return nil
      } catch {
        return error
      }
    }
    #expect(refusals.compactMap(\.self).map(\.category) == [.malformed, .malformed, .malformed])
    #expect(refusals[1]?.problem.contains("process 1 says why") == false)
    #expect(refusals[0]?.problem == "process 1 says why")
  }
}
