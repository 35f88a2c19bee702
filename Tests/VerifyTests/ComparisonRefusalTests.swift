import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct ComparisonRefusalTests {
  private func message(candidate: Network) throws -> String? {
    let reference = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    return #expect(throws: Refusal.self) {
      _ = try Comparison(
        of: [.init(name: "candidate", network: candidate, precision: .single)],
        with: .init(name: "reference", network: reference, precision: .double),
        on: ProbeSet.standard(for: reference, endOfText: 0).precise)
    }?.description
  }

  @Test("Networks of different vocabularies are not compared")
  func vocabulary() throws {
    let other = try Model(opening: Fixtures.path("shakespeare-4x128/lnfree")).network
    #expect(
      try message(candidate: other)
        == "candidate has a vocabulary of 1024, reference of 512; only networks with the same vocabulary can be compared"
    )
  }

  @Test("A network is not run on more tokens than it has positions")
  func context() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.config["n_positions"] = .number(32)
      $0.config["n_ctx"] = nil
      $0.tensors.change("transformer.wpe.weight") { $0 = .init((0..<32 * 32).map { _ in 0 }, shape: [32, 32]) }
    }
    #expect(
      try message(candidate: try Model(opening: altered.path).network)
        == "candidate has a context of 32 tokens, the probes have 64 positions; give probeLength 32 or less")
  }
}
