import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// A small defect in a network, which the verification must see.
struct NetworkDefect: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let alter: @Sendable (inout EditableTensors) -> Void

  init(_ name: String, _ alter: @escaping @Sendable (inout EditableTensors) -> Void) {
    testDescription = name
    self.alter = alter
  }

  private static func element(_ name: String, _ index: Int) -> NetworkDefect {
    NetworkDefect("\(name), element \(index), by a thousandth") {
      $0.change("transformer." + name) { $0[index] *= 1.001 }
    }
  }

  private static func noBias(_ name: String) -> NetworkDefect {
    NetworkDefect("without \(name)") {
      $0.change("transformer." + name) { entry in for index in 0..<entry.shape[0] { entry[index] = 0 } }
    }
  }

  static let all: [NetworkDefect] = [
    element("wpe.weight", 0), element("h.0.attn.c_attn.weight", 17), element("h.0.attn.c_proj.weight", 1_023),
    element("h.1.mlp.c_fc.weight", 2_000), element("h.1.mlp.c_proj.weight", 77), element("h.0.ln_1.weight", 31),
    element("ln_f.weight", 3), noBias("h.0.attn.c_attn.bias"), noBias("h.1.mlp.c_proj.bias"), noBias("ln_f.bias"),
    NetworkDefect("two heads of block 1 exchanged") {
      $0.change("transformer.h.1.attn.c_attn.weight") { entry in
        let old = entry
        for row in 0..<32 {
          for part in 0..<3 {
            for column in 0..<32 {
              entry[row * 96 + part * 32 + column] = old[row * 96 + part * 32 + (column + 16) % 32]
            }
          }
        }
      }
    },
    NetworkDefect("a square matrix lies the other way") {
      $0.change("transformer.h.0.attn.c_proj.weight") { $0 = $0.transposed }
    },
    NetworkDefect("positions shifted by one") {
      $0.change("transformer.wpe.weight") { entry in
        let old = entry
        for row in 0..<64 { for column in 0..<32 { entry[row * 32 + column] = old[(row + 1) % 64 * 32 + column] } }
      }
    },
    NetworkDefect("two rows of the embedding exchanged") {
      $0.change("transformer.wte.weight") { entry in
        let old = entry
        for column in 0..<32 {
          entry[column] = old[32 + column]
          entry[32 + column] = old[column]
        }
      }
    },
  ]
}

@Suite struct SensitivityTests {
  private static func verification(of altered: Network, against source: Network) throws -> Verification {
    try Verification(
      source: source, literal: nil,
      written: [.init(name: "t", exact: altered, model: .network(altered, meant: altered), type: .f32)],
      probes: ProbeSet.standard(for: source, endOfText: 0))
  }

  @Test("A network with a small defect does not pass", arguments: NetworkDefect.all)
  func seen(_ defect: NetworkDefect) throws {
    let source = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { defect.alter(&$0.tensors) }
    let verification = try Self.verification(of: try Model(opening: altered.path).network, against: source)
    #expect(!verification.targets[0].algebraHolds)
    #expect(!verification.holds)
  }

  @Test("The same network passes")
  func same() throws {
    let source = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { _ in }
    let verification = try Self.verification(of: try Model(opening: altered.path).network, against: source)
    #expect(verification.holds)
    #expect(verification.targets[0].judgement.double.logits.largest == 0)
  }

  @Test("The place along the residual stream where two networks part is reported")
  func residuals() throws {
    let source = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.h.1.mlp.c_fc.weight") { $0[5] *= 1.5 }
    }
    let verification = try Self.verification(of: try Model(opening: altered.path).network, against: source)
    let residuals = verification.targets[0].judgement.double.residuals
    #expect(residuals.map(\.depth) == [0, 1, 2])
    #expect(residuals[0].largest == 0)
    #expect(residuals[1].largest == 0)
    #expect(residuals[2].relative > 1e-6)
  }
}
