import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// A network that cannot be folded, and the whole sentence that says so.
struct FoldingDefect: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let category: Refusal.Category
  let message: String
  let alter: @Sendable (inout Network) -> Void

  init(
    _ name: String, _ category: Refusal.Category, _ message: String,
    _ alter: @escaping @Sendable (inout Network) -> Void
  ) {
    testDescription = name
    self.category = category
    self.message = message
    self.alter = alter
  }

  private static func deviation(_ value: Double, spelt: String) -> FoldingDefect {
    FoldingDefect(
      "deviation \(spelt)", .nonFinite,
      "'transformer.h.1.ln_2': the deviation of feature 0 is \(spelt), expected a positive number; "
        + "the training run that wrote it may have diverged, or was not finished"
    ) { $0[norm: "blocks.1.mlp.norm"]?.deviation = .fixed(.constant(value, shape: [32])) }
  }

  static let all: [FoldingDefect] = [
    deviation(0, spelt: "0.0"), deviation(-0.0, spelt: "-0.0"), deviation(-1, spelt: "-1.0"),
    deviation(.nan, spelt: "nan"),
    deviation(.infinity, spelt: "inf"),
    FoldingDefect(
      "deviation of one feature zero", .nonFinite,
      "'transformer.h.0.ln_2': the deviation of feature 5 is 0.0, expected a positive number; "
        + "the training run that wrote it may have diverged, or was not finished"
    ) {
      let parts = [(5, 1.0), (1, 0), (26, 1)].map { Parameter.constant($1, shape: [$0]) }
      $0[norm: "blocks.0.mlp.norm"]?.deviation = .fixed(.concatenating(parts, axis: 0))
    },
    FoldingDefect(
      "the last norm is still computed", .notFoldable,
      "1 norm is not a linear map: transformer.ln_f: its deviation is still computed (epsilon 1e-05); "
        + "finish the removal, or pass allowsPartial to fold the rest and keep these"
    ) { $0[norm: "final.norm"]?.deviation = .computed(epsilon: 1e-5) },
    FoldingDefect(
      "one path of an attention is still computed", .notFoldable,
      "1 norm is not a linear map: transformer.h.1.ln_1 (values): its deviation is still computed (epsilon 1e-05); "
        + "finish the removal, or pass allowsPartial to fold the rest and keep these"
    ) { $0[norm: $0.splitValueNorm(ofBlock: 1)]?.deviation = .computed(epsilon: 1e-5) },
    FoldingDefect(
      "by position and by token", .notFoldable,
      "2 norms are not a linear map: transformer.h.0.ln_2: its deviation depends on the position (1.0 at 0, 1.0 at 1); "
        + "transformer.ln_f: its deviation depends on the token (1.0, but 3.0 for the end of text); "
        + "finish the training phase that gives all positions one deviation (disable_bos)"
    ) {
      $0[norm: "blocks.0.mlp.norm"]?.deviation = .perPosition(.constant(1, shape: [64]))
      $0[norm: "final.norm"]?.deviation = .perToken(
        usual: .constant(1, shape: [32]), endOfText: .constant(3, shape: [32]))
    },
    FoldingDefect(
      "by token", .notFoldable,
      "1 norm is not a linear map: transformer.h.0.ln_1 (values): its deviation depends on the token "
        + "(1.0, but 3.0 for the end of text); finish the training phase that treats the end of text like any token "
        + "(disable_eot), or pass assumesEndOfTextDisabled"
    ) {
      $0[norm: $0.splitValueNorm(ofBlock: 0)]?.deviation = .perToken(
        usual: .constant(1, shape: [32]), endOfText: .constant(3, shape: [32]))
    },
  ]
}

@Suite struct FoldingRefusalTests {
  @Test("A network that cannot be folded is refused in one exact sentence", arguments: FoldingDefect.all)
  func refuses(_ defect: FoldingDefect) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    defect.alter(&network)
    let refusal = #expect(throws: Refusal.self) { _ = try FoldingPlan(folding: network) }
    #expect(refusal?.description == defect.message)
    #expect(refusal?.category == defect.category)
  }

  @Test("An ordinary GPT-2 is told from one whose removal is not finished")
  func ordinary() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let refusal = #expect(throws: Refusal.self) {
      _ = try FoldingPlan(folding: network, options: .init(networkName: "GPT-2"))
    }
    #expect(refusal?.category == .notFoldable)
    #expect(
      refusal?.description
        == "this is an ordinary GPT-2: the deviations of all its norms are computed, so none is a linear map; remove its "
        + "LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with deviations, or keep the norms in another form with normForm"
    )
  }

  @Test("A deviation that is no number is refused where its norm stays, too", arguments: [0.0, -1, .nan, .infinity])
  func keptSite(_ value: Double) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    network[norm: "final.norm"]?.deviation = .fixed(.constant(value, shape: [32]))
    let refusal = #expect(throws: Refusal.self) {
      _ = try FoldingPlan(folding: network, options: .init(keptNorms: ["final.norm"]))
    }
    #expect(refusal?.category == .nonFinite)
    #expect(refusal?.subject == "transformer.ln_f")
  }
}
