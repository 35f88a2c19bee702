import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// Value biases, centred writers, a centred unembedding: each alone and all together, in plain double-precision loops.
@Suite struct FoldingRuleTests {
  private static let tokens = [5, 0, 300, 17, 17, 511, 42, 8]

  private static func network(_ fixture: String = "tiny-2x32/lnfree") throws -> Network {
    try Model(opening: Fixtures.path(fixture)).network
  }

  private static func logits(_ network: Network) throws -> [[Double]] {
    var operations = PlainBackend(tokens: tokens)
    return try network.evaluate(on: &operations)
  }

  private static func mean(_ row: [Double]) -> Double { row.reduce(0, +) / Double(row.count) }

  /// Every choice among the rules.
  private static let choices: [[FoldingRule]] = (0..<8).map { bits in
    FoldingRule.allCases.enumerated().filter { bits >> $0.offset & 1 == 1 }.map(\.element)
  }

  @Test(
    "Whatever is chosen, the logits stay; with a centred unembedding they lose their mean, and nothing else",
    arguments: choices)
  func exact(_ rules: [FoldingRule]) throws {
    let source = try Self.network()
    let plan = try FoldingPlan(folding: source, options: .init(rules: rules))
    #expect(plan.rules == rules)
    #expect(plan.shiftsLogits == rules.contains(.centerUnembedding))
    let expected = try Self.logits(source).map { row in
      plan.shiftsLogits ? row.map { $0 - Self.mean(row) } : row
    }
    // Double rounding is six orders below.
    #expect(distance(expected, try Self.logits(plan.folded)) <= 1e-9)
  }

  @Test("The rules come in their own order, however they are named")
  func order() throws {
    let plan = try FoldingPlan(
      folding: try Self.network(), options: .init(rules: [.centerUnembedding, .foldValueBiases, .centerUnembedding]))
    #expect(plan.rules == [.foldValueBiases, .centerUnembedding])
  }

  // MARK: What each does

  @Test("Without value biases: zeros, and the output map adds what they came to")
  func valueBiases() throws {
    let plan = try FoldingPlan(folding: try Self.network(), options: .init(rules: [.foldValueBiases]))
    let plain = try FoldingPlan(folding: plan.source).folded
    for block in 0..<plain.blockCount {
      let path: (String) -> Path = { "blocks.\(block).attention.\($0)" }
      let (value, output) = try (
        #require(plan.folded[linear: path("value")]), #require(plan.folded[linear: path("output")])
      )
      let (oldValue, oldOutput) = try (#require(plain[linear: path("value")]), #require(plain[linear: path("output")]))
      #expect(value.bias == .constant(0, shape: [32]))
      // By hand: b_O + Σ b_V[i] · W_O[i, :].
      let values = ParameterReader(try #require(oldValue.bias)).values()
      let weight = ParameterReader(oldOutput.weight).values()
      let old = ParameterReader(try #require(oldOutput.bias)).values()
      let new = ParameterReader(try #require(output.bias)).values()
      for column in 0..<32 {
        let shift = (0..<32).reduce(0) { $0 + values[$1] * weight[$1 * 32 + column] }
        #expect(abs(old[column] + shift - new[column]) <= 1e-12)
      }
      #expect(zip(old, new).contains { abs($0 - $1) > 1e-3 }, "the value biases are too small to prove anything")
      #expect(value.weight == oldValue.weight)
    }
    // The stored form fuses three biases, one of them zero.
    let fused = try #require(plan.folded.gpt2Tensors.first { $0.name == "h.0.attn.c_attn.bias" })
    #expect(fused.value.shape == [96])
    #expect(ParameterReader(fused.value).values()[64...].allSatisfy { $0 == 0 })
  }

  @Test("Centred writers: the residual stream has mean zero at every depth")
  func residualStream() throws {
    let plan = try FoldingPlan(folding: try Self.network(), options: .init(rules: [.centerWritingWeights]))
    let before = try plan.source.streams(of: Self.tokens)
    let after = try plan.folded.streams(of: Self.tokens)
    // Or the loop would see less than all of them.
    try #require(!before.joined().isEmpty && after.map(\.count) == before.map(\.count))
    for (old, new) in zip(before.joined(), after.joined()) {
      #expect(abs(Self.mean(old)) > 1e-4)
      let centred = old.map { $0 - Self.mean(old) }
      #expect(new.count == old.count)
      #expect(zip(centred, new).allSatisfy { abs($0 - $1) <= 1e-11 })
    }
  }

  @Test("Centred writers of a tied network leave its unembedding alone")
  func unembeddingStays() throws {
    let source = try Self.network()
    let plan = try FoldingPlan(
      folding: source, options: .init(keptNorms: ["final.norm"], rules: [.centerWritingWeights]))
    #expect(plan.source.isTied)
    #expect(!plan.folded.isTied)
    #expect(plan.folded[linear: "unembedding"] == source[linear: "unembedding"])
    #expect(plan.folded[norm: "final.norm"] == source[norm: "final.norm"])
    #expect(distance(try Self.logits(source), try Self.logits(plan.folded)) <= 1e-9)
  }

  @Test("Computed layer norms ignore the mean too")
  func ordinary() throws {
    let source = try Self.network("tiny-2x32/vanilla")
    let centred = try source.centringWriters()
    #expect(centred.norms.count == source.norms.count)
    #expect(distance(try Self.logits(source), try Self.logits(centred)) <= 1e-9)
  }

  @Test("Each parameter has one formula over the stored tensors")
  func formulas() throws {
    let plan = try FoldingPlan(folding: try Self.network(), options: .init(rules: FoldingRule.allCases))
    let formulas = Dictionary(
      uniqueKeysWithValues: plan.folded.gpt2Tensors.map { ($0.name, $0.value.description) })
    func t(_ name: String) -> String { "transformer." + name }
    #expect(formulas["wte.weight"] == "centre(transformer.wte.weight)")
    #expect(formulas["wpe.weight"] == "centre(transformer.wpe.weight)")
    #expect(formulas["h.1.mlp.c_proj.weight"] == "centre(transformer.h.1.mlp.c_proj.weight)")
    #expect(formulas["h.1.mlp.c_proj.bias"] == "centre(transformer.h.1.mlp.c_proj.bias)")
    let (ln, attn) = (t("h.0.ln_1.bias"), "transformer.h.0.attn.")
    #expect(
      formulas["h.0.attn.c_proj.bias"]
        == "centre(\(attn)c_proj.bias + (\(attn)c_attn.bias[64:96] + \(ln)ᵀ · \(attn)c_attn.weight[:, 64:96])ᵀ · "
        + "\(attn)c_proj.weight)")
    #expect(formulas["lm_head.bias"] == "centre(transformer.ln_f.biasᵀ · transformer.wte.weightᵀ)")
    #expect(
      formulas["lm_head.weight"] == "centre(centre(transformer.wte.weight · diag(transformer.ln_f.weight / 1e+06)))")
    // Queries, keys and MLP inputs read a centred stream as they read the other.
    let plain = try FoldingPlan(folding: plan.source).folded
    for path: Path in ["blocks.0.mlp.input", "blocks.1.mlp.input"] {
      #expect(plan.folded[linear: path] == plain[linear: path])
    }
  }

  // MARK: Mistakes

  /// A rule done wrong, after all norms are folded.
  struct Mistake: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let alter: @Sendable (inout Network) -> Void

    static let all: [Mistake] = [
      Mistake(testDescription: "the output map centred along its input") {
        $0.changeWeight("blocks.0.mlp.output") { $0.centred(axis: 0) }
      },
      Mistake(testDescription: "the embedding centred over the vocabulary") {
        let table = $0[table: "embedding.tokens"]
        $0[table: "embedding.tokens"] = table?.centred(axis: 0)
      },
      Mistake(testDescription: "the unembedding centred, its bias not") {
        $0.changeWeight("unembedding") { $0.centred(axis: 1) }
        let bias = $0[linear: "unembedding"]?.bias
        $0[linear: "unembedding"]?.bias = bias?.multiplied(by: 0.999)
      },
      Mistake(testDescription: "value biases folded through the transpose") {
        guard let bias = $0[linear: "blocks.1.attention.value"]?.bias,
          let output = $0[linear: "blocks.1.attention.output"], let own = output.bias
        else { return }
        $0[linear: "blocks.1.attention.output"]?.bias = own.adding(bias.projected(through: output.weight.transposed()))
        $0[linear: "blocks.1.attention.value"]?.bias = .constant(0, shape: bias.shape)
      },
      Mistake(testDescription: "value biases dropped") {
        $0[linear: "blocks.0.attention.value"]?.bias = .constant(0, shape: [32])
      },
    ]
  }

  @Test("The same, done wrong, is far off", arguments: Mistake.all)
  func mistakes(_ mistake: Mistake) throws {
    let source = try Self.network()
    var wrong = try FoldingPlan(folding: source).folded
    mistake.alter(&wrong)
    let (a, b) = (try Self.logits(source), try Self.logits(wrong))
    let shifted = zip(a, b).map { a, b in
      let shift = Self.mean(b) - Self.mean(a)
      return b.map { $0 - shift }
    }
    #expect(distance(a, shifted) > 1e-5)
  }

  // MARK: Refusals

  private static func refusal(_ network: Network) throws -> Refusal? {
    #expect(throws: Refusal.self) { _ = try network.centringWriters() }
  }

  private static let advice: Message = "convert from the checkpoint that still has its norms, or leave the option out"

  @Test("Maps that see the mean are refused, by name")
  func refusals() throws {
    var one = try FoldingPlan(folding: try Self.network()).folded
    let output = try #require(one[linear: "blocks.1.mlp.output"])
    one[linear: "blocks.1.mlp.input"]?.weight = output.weight.transposed()
    #expect(
      try Self.refusal(one)
        == Refusal(
          .unsupported, subject: "\(.rules, FoldingRule.centerWritingWeights)",
          "the map 'blocks.1.mlp.input' may see the mean of the residual stream", advice: Self.advice))

    var bare = try Self.network()
    for (path, _) in bare.norms { bare[norm: path] = nil }
    #expect(
      try Self.refusal(bare)
        == Refusal(
          .unsupported, subject: "\(.rules, FoldingRule.centerWritingWeights)",
          "9 maps may see the mean of the residual stream, first 'blocks.0.attention.query'", advice: Self.advice))

    // An RMS norm divides by what the mean contributes to, whoever reads it.
    var rms = try FoldingPlan(folding: try Self.network(), options: .init(keptNorms: ["blocks.0.mlp.norm"])).folded
    rms[norm: "blocks.0.mlp.norm"]?.kind = .rms
    #expect(
      try Self.refusal(rms)
        == Refusal(
          .unsupported, subject: "\(.rules, FoldingRule.centerWritingWeights)",
          "the map 'blocks.0.mlp.input' may see the mean of the residual stream", advice: Self.advice))
  }

  @Test("A plan with a rule that would not be exact is refused; the other rules are exact for any network")
  func plan() throws {
    var bare = try Self.network()
    for (path, _) in bare.norms { bare[norm: path] = nil }
    #expect(throws: Refusal.self) { try FoldingPlan(folding: bare, options: .init(rules: [.centerWritingWeights])) }
    let plan = try FoldingPlan(folding: bare, options: .init(rules: [.foldValueBiases, .centerUnembedding]))
    let expected = try Self.logits(bare).map { row in row.map { $0 - Self.mean(row) } }
    #expect(distance(expected, try Self.logits(plan.folded)) <= 1e-9)
  }

  @Test("Whether a recipe says that its mean is zero")
  func isCentred() throws {
    let matrix = try #require(try Self.network()[linear: "blocks.0.mlp.output"]).weight
    let vector = Parameter.concatenating([.constant(2, shape: [64]), .constant(1, shape: [64])], axis: 0)
    let centred = matrix.centred(axis: 0)
    #expect(!matrix.isCentred(axis: 0))
    #expect(centred.isCentred(axis: 0))
    #expect(!centred.isCentred(axis: 1))
    #expect(centred.transposed().isCentred(axis: 1))
    #expect(centred.sliced(axis: 1, 0..<5).isCentred(axis: 0))
    #expect(!centred.sliced(axis: 0, 0..<5).isCentred(axis: 0))
    #expect(!centred.scaled(by: vector, axis: 0).isCentred(axis: 0))
    #expect(centred.multiplied(by: 3).isCentred(axis: 0))
    #expect(centred.centred(axis: 1).isCentred(axis: 0))
    #expect(centred.adding(centred.multiplied(by: 2)).isCentred(axis: 0))
    #expect(!centred.adding(matrix).isCentred(axis: 0))
    #expect(Parameter.concatenating([centred, centred.multiplied(by: 2)], axis: 1).isCentred(axis: 0))
    #expect(!Parameter.concatenating([centred, centred.multiplied(by: 2)], axis: 0).isCentred(axis: 0))
    #expect(Parameter.constant(0, shape: [2, 2]).isCentred(axis: 0))
    #expect(!Parameter.constant(1, shape: [2, 2]).isCentred(axis: 0))
  }

  @Test("A wide matrix, centred along its rows, can be read in parts")
  func wideRows() throws {
    let wide = try #require(try Self.network().tokenEmbedding).transposed()
    #expect(wide.columnCount > wide.rowCount)
    let reader = ParameterReader(wide.centred(axis: 1))
    let all = reader.values()
    let plain = ParameterReader(wide).values()
    for row in 0..<wide.rowCount {
      let start = row * 512
      let mean = Self.mean(Array(plain[start..<start + 512]))
      for column in 0..<512 { #expect(abs(plain[start + column] - mean - all[start + column]) <= 1e-15) }
      let part = reader.values(rows: row..<row + 1, columns: 100..<140)
      #expect(part == Array(all[start + 100..<start + 140]))
    }
  }
}
