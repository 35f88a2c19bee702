import Foundation
import Logging
import NormFold
import NormFoldFormats
import Testing
import TestSupport

@Suite struct FileClaimTests {
  @Test("A byte that changes on its way to the disk is noticed, and nothing is published")
  func corruption() throws {
    let place = try Workplace()
    let directory = place.directory.path
    let conversion = Conversion(
      source: Fixtures.path("shakespeare-4x128/lnfree"), destination: place.output, targets: ["transformers"])
    let refusal = #expect(throws: Refusal.self) {
      _ = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) { progress in
        // The first megabyte has left the buffer by now.
        guard progress.stage == .writing, progress.done > 2_500_000 else { return }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        guard let staged = names.first(where: { $0.hasPrefix(".out.normfold-") }),
          let file = FileHandle(forUpdatingAtPath: "\(directory)/\(staged)/model.safetensors")
        else { return }
        try? file.seek(toOffset: 500_000)
        try? file.write(contentsOf: Data([0x5A, 0x5A, 0x5A]))
        try? file.close()
      }
    }
    #expect(refusal?.category == .mismatch)
    #expect(refusal?.file == "model.safetensors")
    #expect(
      refusal?.description.hasSuffix(
        "': the file that was just written does not hold what was meant; another program changed it, or the disk fails; "
          + "nothing was published") == true)
    #expect(try place.content().isEmpty)
  }
}
