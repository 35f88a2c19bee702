import Formats
import Foundation
import TestSupport
import Testing

private typealias P = PickleWriter

/// An archive of torch.save, and what the reader makes of it.
struct StateDictCase: CustomTestStringConvertible {
  let testDescription: String
  let bytes: @Sendable () throws -> [UInt8]
  let verdict: Verdict

  /// A file that torch wrote (`fixtures/generate/pytorch.py`).
  init(fixture name: String, _ verdict: Verdict) {
    testDescription = name
    bytes = { try Fixtures.bytes("pytorch/" + name) }
    self.verdict = verdict
  }

  init(_ name: String, records: [ZipWriter.Record], _ verdict: Verdict) {
    testDescription = name
    bytes = { ZipWriter(records: records).archive }
    self.verdict = verdict
  }

  init(_ name: String, pickle: [UInt8], _ verdict: Verdict) {
    self.init(name, records: P.records(pickle), verdict)
  }
}

extension StateDictCase {
  private static let linear = "weight F32 [2, 3], bias F32 [2]"

  private static func unchecked(_ indices: [Int], _ change: (inout ZipWriter.Record) -> Void = { _ in })
    -> [ZipWriter.Record]
  {
    var records = P.sound
    for index in indices {
      change(&records[index])
      records[index].crc = 0
    }
    return records
  }

  static let checksums: [StateDictCase] = [
    .init(
      fixture: "no-checksums.pt",
      .accepted(
        linear,
        warnings: [
          "m.pt: 8 of its 8 records have no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to them is not noticed"
        ])),
    .init(
      fixture: "skip-data.pt",
      .accepted(
        linear,
        warnings: [
          "m.pt: 2 of its 8 records have no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to them is not noticed"
        ])),
    .init(
      "deflated without a checksum", records: unchecked([2]) { $0 = $0.deflated },
      .accepted(
        "w F32 [2, 3]",
        warnings: [
          "m.pt: 1 of its 4 records has no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to it is not noticed"
        ])),
    .init(
      "sizes and no checksum in the local header", records: unchecked([2]) { $0.flags = 0 },
      .accepted(
        "w F32 [2, 3]",
        warnings: [
          "m.pt: 1 of its 4 records has no checksum (a CRC-32 of 0, as torch.save writes it when told to compute none), so damage to it is not noticed"
        ])),
    .init(
      "an empty record, whose checksum is 0",
      records: P.records(P.dict(["w": P.tensor([0], strides: [1], storage: P.storage(count: 0))])).map { record in
        record.name == "a/data/0" ? record.with { $0.bytes = [] } : record
      }, .accepted("w F32 [0]")),
  ]
}

@Suite struct StateDictTests {
  @Test(
    "reads or refuses", arguments: StateDictCase.checksums)
  func rows(_ row: StateDictCase) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(try row.bytes(), to: "m.pt")
    let verdict = Verdict(in: directory.path) {
      let checkpoint = try Checkpoint(pytorch: path)
      try checkpoint.checkIntegrity()
      for tensor in checkpoint.tensors where tensor.info.type == .f32 {
        let values = tensor.decoded(as: Float.self)
        #expect(values == [0, 1, 2, 3, 4, 5] || values == [0.5, -0.5] || values.isEmpty, "\(tensor.name)")
      }
      return (checkpoint.summary, checkpoint.warnings)
    }
    #expect(verdict == row.verdict, "ROW|\(row.testDescription)|\(verdict)|END")
  }

  /// A checksum that is there is still held against the bytes, beside records that have none.
  @Test("a record without a checksum does not excuse the others")
  func checksumsBesideNone() throws {
    let directory = try TemporaryDirectory()
    var bytes = try Fixtures.bytes("pytorch/skip-data.pt")
    let place = try #require(bytes.indices.first { bytes[$0...].starts(with: Array("weightq".utf8)) })
    bytes[place] ^= 1
    let path = try directory.write(bytes, to: "m.pt")
    let refusal = #expect(throws: Refusal.self) { _ = try Checkpoint(pytorch: path) }
    #expect(refusal?.problem.hasPrefix("CRC-32: expected 0cb59300, found ") == true)
    #expect(try Checkpoint(pytorch: Fixtures.path("pytorch/skip-data.pt")).integrityChecks.isEmpty)
  }
}
