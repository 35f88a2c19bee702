import NormFold
import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldCommand

@Suite struct MatrixTests {
  /// Rows for which there is nothing that could be bad here yet, with the reason.
  static let inapplicable: [Int: String] = [
    55: "nothing to refuse: a large spread is what verification measures (row 71)",
    59: "Tests/Faults/run: needs a small file system",
    61: "Tests/Faults/run: needs a process to kill",
    62: "Tests/Faults/run: fsync is seen to be called, and to be heeded where it fails",
    63: "StagedOutputTests and Tests/Faults/run: modes are part of what is compared there",
    64: "every row here: the whole directory is renamed at once, and is compared",
    65: "ChangingInputTests and Tests/Faults/run: needs a second writer",
    67: "DamageTests of the ONNX module: what is read again is what we wrote ourselves",
    72: "VerificationRunTests: networks that differ, and by how much",
    70: "OutputTests of the command; names are escaped in every row here that has one",
  ]

  @Test("Files of users' own programs are read, or refused by their true reason, and the destination stays as it was")
  func users() throws {
    var accepted = 0
    for user in UserRow.all {
      let outcome = try user.row.run()
      if case .accepted = user.row.answer { accepted += 1 }
      #expect(outcome.isAsSpecified, "ROW|\(user.kind)|\(outcome.found)|END")
      print("\(outcome.isAsSpecified ? "as specified" : "OTHERWISE   ")  \(user.kind): \(user.reason)")
    }
    #expect(Set(UserRow.all.map(\.kind)).count == UserRow.all.count)
    print(
      "\(UserRow.all.count) kinds of users' files: \(accepted) to be accepted, \(UserRow.all.count - accepted) to be refused"
    )
  }

  @Test("What cannot be an encoder, an adapter, or something to measure them on, is refused by its true reason")
  func encoders() throws {
    for row in EncoderRow.conversions {
      let outcome = try row.run()
      #expect(outcome.isAsSpecified, "ROW|\(row.number)|\(row.name)|\(outcome.found)|END")
    }
    for row in EncoderRow.measured {
      let place = try TemporaryDirectory()
      var (refusal, path): (Refusal?, String) = (nil, place.path + "/in")
      do {
        try row.measure(place)
      } catch let found as Refusal {
        refusal = found
      } catch let found as EncoderRow.Renamed {
        (refusal, path) = (found.refusal, found.path)
      }
      guard let refusal else {
        Issue.record("ROW|0|\(row.name)|accepted|END")
        continue
      }
      let status = ExitStatus(refusal.category).rawValue
      let sentence = refusal.text(naming: .flags).replacing(path, with: "in").replacing(place.path + "/", with: "")
        .replacing(Fixtures.path(""), with: "")
      #expect(
        status == row.status && sentence == row.sentence,
        "ROW|0|\(row.name)|refused(\(status), \(sentence.debugDescription))|END")
    }
    print("\(EncoderRow.conversions.count + EncoderRow.measured.count) inputs of encoders and of their measurements")
  }

  @Test("Every known bad input gets its answer, and the destination stays as it was")
  func matrix() throws {
    let rows =
      MatrixRow.safetensors + MatrixRow.gguf + MatrixRow.shards + MatrixRow.archives + MatrixRow.models
      + MatrixRow.llamas
      + MatrixRow.innerNorms + MatrixRow.retNets + MatrixRow.outputs
    var asSpecified: [Int: Int] = [:]
    var all: [Int: Int] = [:]
    var refused = 0
    for row in rows {
      let outcome = try row.run()
      all[row.number, default: 0] += 1
      if outcome.isAsSpecified { asSpecified[row.number, default: 0] += 1 }
      if case .accepted = row.answer {} else { refused += outcome.isAsSpecified ? 1 : 0 }
      #expect(outcome.isAsSpecified, "ROW|\(row.number)|\(row.name)|\(outcome.found)|END")
    }
    let numbers = Set(all.keys).union(Self.inapplicable.keys)
    #expect(Set(1...72) == numbers, "rows without a test: \(Set(1...72).subtracting(numbers).sorted())")

    print("row  inputs  as specified")
    for number in numbers.sorted() {
      func column(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
      }
      let count = all[number].map { column("\($0)", 8) + column("\(asSpecified[number] ?? 0)", 14) }
      print(column("\(number)", 3) + (count ?? "       –  \(Self.inapplicable[number] ?? "")"))
    }
    let accepted = rows.count - rows.count { if case .accepted = $0.answer { false } else { true } }
    print(
      "\(rows.count) inputs for \(all.count) of 72 rows: \(refused) refused as specified, \(accepted) accepted as specified,",
      "\(rows.count - asSpecified.values.reduce(0, +)) otherwise; 0 crashes")
  }
}
