import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct FoldingPlanTests {
  private static func network() throws -> Network { try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network }

  private static func formulas(_ network: Network) -> [String: String] {
    Dictionary(uniqueKeysWithValues: network.gpt2Tensors.map { ($0.name, $0.value.description) })
  }

  @Test("Each output tensor has one formula over the stored tensors")
  func formulas() throws {
    let plan = try FoldingPlan(folding: try Self.network())
    func t(_ name: String) -> String { "transformer." + name }
    var expected = ["wte.weight": t("wte.weight"), "wpe.weight": t("wpe.weight")]
    for h in ["h.0.", "h.1."] {
      for (norm, reader) in [("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")] {
        expected[h + reader + ".weight"] =
          "centre(diag(\(t(h + norm)).weight / 1e+06) · \(t(h + reader)).weight)"
        expected[h + reader + ".bias"] = "\(t(h + reader)).bias + \(t(h + norm)).biasᵀ · \(t(h + reader)).weight"
      }
      for kept in ["attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"] {
        expected[h + kept] = t(h + kept)
      }
    }
    expected["lm_head.weight"] = "centre(transformer.wte.weight · diag(transformer.ln_f.weight / 1e+06))"
    expected["lm_head.bias"] = "transformer.ln_f.biasᵀ · transformer.wte.weightᵀ"
    // c_attn is one formula: queries, keys and values were folded alike.
    #expect(Self.formulas(plan.folded) == expected)
  }

  @Test("Every norm is folded once, in the order of computation, into all of its readers")
  func steps() throws {
    let plan = try FoldingPlan(folding: try Self.network())
    #expect(
      plan.steps.map(\.norm) == [
        "transformer.h.0.ln_1", "transformer.h.0.ln_2", "transformer.h.1.ln_1", "transformer.h.1.ln_2",
        "transformer.ln_f",
      ])
    #expect(
      plan.steps.map { $0.readers.map(\.description) } == [
        ["blocks.0.attention.query", "blocks.0.attention.key", "blocks.0.attention.value"], ["blocks.0.mlp.input"],
        ["blocks.1.attention.query", "blocks.1.attention.key", "blocks.1.attention.value"], ["blocks.1.mlp.input"],
        ["unembedding"],
      ])
    #expect(plan.steps.map(\.path) == plan.source.norms.map(\.path))
    #expect(plan.folded.norms.isEmpty)
    #expect(plan.kept.isEmpty)
    #expect(plan.source.norms.count == 5)
  }

  @Test("The unembedding is untied by folding the last norm; nothing else of the embedding changes")
  func unties() throws {
    let plan = try FoldingPlan(folding: try Self.network())
    #expect(plan.source.isTied)
    #expect(!plan.folded.isTied)
    #expect(plan.folded[table: "embedding.tokens"] == plan.source[table: "embedding.tokens"])
    #expect(plan.folded[table: "embedding.positions"] == plan.source[table: "embedding.positions"])
  }

  @Test("A site that is to stay stays, and all others are folded")
  func keptSites() throws {
    let source = try Self.network()
    let plan = try FoldingPlan(folding: source, options: .init(keptNorms: ["final.norm", "blocks.1.mlp.norm"]))
    #expect(plan.kept.map(\.norm) == ["transformer.h.1.ln_2", "transformer.ln_f"])
    #expect(plan.folded.norms.map(\.path) == ["blocks.1.mlp.norm", "final.norm"])
    #expect(plan.folded[norm: "final.norm"] == source[norm: "final.norm"])
    #expect(plan.folded[linear: "unembedding"] == source[linear: "unembedding"])
    #expect(plan.folded[linear: "blocks.1.mlp.input"] == source[linear: "blocks.1.mlp.input"])
    #expect(plan.steps.count == 3)
  }

  @Test("Folding again finds nothing to fold and changes nothing")
  func again() throws {
    let once = try FoldingPlan(folding: try Self.network())
    let twice = try FoldingPlan(folding: once.folded)
    #expect(twice.steps.isEmpty)
    #expect(Self.formulas(twice.folded) == Self.formulas(once.folded))
  }

  @Test("The two paths of an attention with different deviations are folded each with its own")
  func separatePaths() throws {
    var network = try Self.network()
    network[norm: network.splitValueNorm(ofBlock: 0)]?.deviation = .fixed(.constant(2, shape: [32]))
    let plan = try FoldingPlan(folding: network)
    #expect(
      plan.folded[linear: "blocks.0.attention.query"]?.weight.description
        == "centre(diag(transformer.h.0.ln_1.weight / 1e+06) · transformer.h.0.attn.c_attn.weight[:, 0:32])")
    #expect(
      plan.folded[linear: "blocks.0.attention.value"]?.weight.description
        == "centre(diag(transformer.h.0.ln_1.weight / 2) · transformer.h.0.attn.c_attn.weight[:, 64:96])")
    // A step for the norm still names every reader.
    #expect(plan.steps.filter { $0.norm.hasPrefix("transformer.h.0.ln_1 (") }.flatMap(\.readers).count == 3)
  }
}
