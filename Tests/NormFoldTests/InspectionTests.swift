import NormFold
import Testing
import TestSupport

@Suite struct InspectionTests {
  @Test("A norm is not called foldable that a conversion refuses to fold", arguments: [Double.nan, .infinity, 0, -1])
  func deviation(_ deviation: Double) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/fakeln-safetensors") {
      for buffer in ["average_std_buffer", "bos_std_buffer"] {
        $0.tensors["transformer.h.1.ln_2." + buffer] = .init([Double](repeating: deviation, count: 32), shape: [32])
      }
    }
    let inspection = try Inspection(of: altered.path)
    #expect(inspection.sites.filter { !$0.isFoldable }.map(\.name) == ["transformer.h.1.ln_2"])
    #expect(try Inspection(of: Fixtures.path("tiny-2x32/fakeln-safetensors")).sites.allSatisfy { $0.isFoldable })
  }
}
