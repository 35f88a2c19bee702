import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// LayerNorms that stay, bare, as RMSNorms and as compressed RMSNorms, in plain double-precision loops.
@Suite struct NormFormTests {
  private static let tokens = [5, 0, 30, 17, 17, 39, 12, 8]

  private static func network(_ fixture: String = "tiny-2x32/vanilla") throws -> Network {
    try Model(opening: Fixtures.path(fixture)).network
  }

  private static func plan(
    _ form: NormForm, of network: Network, rules: [FoldingRule] = []
  ) throws(Refusal) -> FoldingPlan {
    try FoldingPlan(folding: network, options: .init(rules: rules, normForm: form))
  }

  private static func logits(_ network: Network) throws -> [[Double]] {
    var operations = PlainBackend(tokens: tokens)
    return try network.evaluate(on: &operations)
  }

  // MARK: What each form is

  @Test("The compressed norm of three features is the RMSNorm of all four")
  func golden() throws {
    func norm(_ kind: Norm.Kind, width: Int) -> Norm {
      Norm(
        name: "n", kind: kind, gain: .constant(1, shape: [width]), bias: nil, deviation: .computed(epsilon: 1e-5))
    }
    // [1, −2, 3, −2] has mean zero. Computed by hand in double precision: √(18/4 + 1e-5).
    let expected = [0.471403997009, -0.942807994018, 1.414211991027]
    let reference = PlainBackend(tokens: [0])
    let whole = try reference.normalise([[1, -2, 3, -2]], by: norm(.rms, width: 4))[0]
    let compressed = try reference.normalise([[1, -2, 3]], by: norm(.crms, width: 3))[0]
    for index in 0..<3 {
      #expect(abs(whole[index] - expected[index]) <= 1e-11)
      #expect(abs(compressed[index] - expected[index]) <= 1e-11)
    }
  }

  @Test(
    "The logits stay, with any of the other rules and beside norms that fold",
    arguments: NormForm.allCases,
    [
      "tiny-2x32/vanilla", "tiny-2x32/fakeln-partial-safetensors", "shakespeare-4x128/fakeln-partial-safetensors",
      "found/capp-gpt", "norm-free/ln",
    ])
  func exact(_ form: NormForm, fixture: String) throws {
    let source = try Self.network(fixture)
    let expected = try Self.logits(source)
    for rules in [[], [.foldValueBiases], [.foldValueBiases, .centerWritingWeights]] as [[FoldingRule]] {
      let plan = try Self.plan(form, of: source, rules: rules)
      #expect(plan.normForm == form)
      #expect(distance(expected, try Self.logits(plan.folded)) <= 1e-9)
    }
    let shifted = try Self.logits(try Self.plan(form, of: source, rules: [.centerUnembedding]).folded)
    let centred = expected.map { row in
      let mean = row.reduce(0, +) / Double(row.count)
      return row.map { $0 - mean }
    }
    #expect(distance(centred, shifted) <= 1e-9)
  }

  @Test("Every computed norm is bare, of the form's kind, with the epsilon that it had", arguments: NormForm.allCases)
  func norms(_ form: NormForm) throws {
    let source = try Self.network()
    let plan = try Self.plan(form, of: source)
    #expect(plan.folded.norms.count == source.norms.count)
    for (path, norm) in plan.folded.norms {
      #expect(norm.kind == form.kind)
      #expect(norm.gain == .constant(1, shape: [form == .crms ? 31 : 32]))
      #expect(norm.bias == nil)
      #expect(norm.deviation == source[norm: path]?.deviation)
    }
    #expect(plan.folded.streamWidth == (form == .crms ? 31 : 32))
    #expect(plan.folded.width(of: "blocks.0.attention.mixed") == 32)
    // γ and β are what the readers have got, so that the form is not empty.
    #expect(ParameterReader(try #require(source[norm: "final.norm"]?.gain)).values().contains { abs($0 - 1) > 0.01 })
  }

  @Test("The stream of rms is the centred one, that of crms the same without its last feature")
  func residualStream() throws {
    let source = try Self.network()
    let before = try source.streams(of: Self.tokens)
    let rms = try Self.plan(.rms, of: source).folded.streams(of: Self.tokens)
    let crms = try Self.plan(.crms, of: source).folded.streams(of: Self.tokens)
    // Or the loop would see less than all of them.
    try #require(!before.joined().isEmpty)
    try #require(rms.map(\.count) == before.map(\.count) && crms.map(\.count) == before.map(\.count))
    for (old, (whole, part)) in zip(before.joined(), zip(rms.joined(), crms.joined())) {
      let mean = old.reduce(0, +) / 32
      #expect(abs(mean) > 1e-5)
      #expect(whole.count == old.count)
      #expect(zip(old, whole).allSatisfy { abs($0 - mean - $1) <= 1e-11 })
      #expect(part.count == 31)
      #expect(zip(part, whole).allSatisfy { abs($0 - $1) <= 1e-11 })
    }
  }

  @Test("Each parameter has one formula over the stored tensors")
  func formulas() throws {
    let plan = try Self.plan(.crms, of: try Self.network())
    let formulas = Dictionary(
      uniqueKeysWithValues: plan.folded.gpt2Tensors.map { ($0.name, $0.value.description) })
    #expect(formulas["wte.weight"] == "centre(transformer.wte.weight)[:, 0:31]")
    #expect(formulas["h.1.mlp.c_proj.bias"] == "centre(transformer.h.1.mlp.c_proj.bias)[0:31]")
    #expect(
      formulas["h.0.attn.c_attn.weight"]
        == "compress(diag(transformer.h.0.ln_1.weight) · transformer.h.0.attn.c_attn.weight)")
    #expect(formulas["lm_head.weight"] == "compress(transformer.wte.weight · diag(transformer.ln_f.weight))")
    #expect(formulas["lm_head.bias"] == "transformer.ln_f.biasᵀ · transformer.wte.weightᵀ")
  }

  @Test("A compressed parameter stays in normal form")
  func compressedParameters() throws {
    let matrix = try #require(try Self.network()[linear: "blocks.0.mlp.output"]).weight  // [128, 32]
    #expect(matrix.compressed(axis: 0).shape == [127, 32])
    #expect(matrix.compressed(axis: 1).shape == [128, 31])
    #expect(matrix.compressed(axis: 0).transposed() == matrix.transposed().compressed(axis: 1))
    // Parts that were treated alike are one again, and centred they stay.
    let parts = [0..<10, 10..<32].map { matrix.sliced(axis: 1, $0).compressed(axis: 0) }
    #expect(Parameter.concatenating(parts, axis: 1) == matrix.compressed(axis: 0))
    #expect(matrix.compressed(axis: 0).sliced(axis: 1, 0..<10) == parts[0])
    #expect(matrix.centred(axis: 1).compressed(axis: 0).isCentred(axis: 1))
    #expect(!matrix.centred(axis: 0).compressed(axis: 0).isCentred(axis: 0))
    #expect(matrix.compressed(axis: 0).storedTensors == matrix.storedTensors)
  }

  // MARK: Mistakes

  /// A form made wrong.
  struct Mistake: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let form: NormForm
    let alter: @Sendable (inout Network, _ source: Network) -> Void

    static let all: [Mistake] = [
      Mistake(testDescription: "the positions not centred", form: .rms) {
        $0[table: "embedding.positions"] = $1[table: "embedding.positions"]
      },
      Mistake(testDescription: "a bias not centred", form: .rms) {
        $0[linear: "blocks.0.mlp.output"]?.bias = $1[linear: "blocks.0.mlp.output"]?.bias
      },
      Mistake(testDescription: "an output centred along its input", form: .rms) {
        guard let map = $1[linear: "blocks.1.attention.output"] else { return }
        $0[linear: "blocks.1.attention.output"]?.weight = map.weight.centred(axis: 0)
      },
      Mistake(testDescription: "another epsilon", form: .rms) { network, _ in
        for (path, _) in network.norms { network[norm: path]?.deviation = .computed(epsilon: 1e-6) }
      },
      Mistake(testDescription: "a gain left behind", form: .unit) { $0[norm: "final.norm"] = $1[norm: "final.norm"] },
      Mistake(testDescription: "divided by d − 1", form: .crms) { network, _ in
        // √((d − 1)/d), with d = 32.
        for (path, _) in network.norms { network[norm: path]?.gain = .constant((31.0 / 32).squareRoot(), shape: [31]) }
      },
      Mistake(testDescription: "the last feature not counted", form: .crms) { network, _ in
        for (path, _) in network.norms { network[norm: path]?.kind = .rms }
      },
      Mistake(testDescription: "the unembedding cut, and not compressed", form: .crms) {
        guard let map = $1[linear: "unembedding"], let norm = $1[norm: "final.norm"] else { return }
        let weight = map.weight.scaled(by: norm.gain, axis: 0)
        $0[linear: "unembedding"]?.weight = weight.sliced(axis: 0, 0..<31)
      },
    ]
  }

  @Test("A form made wrong does not pass the verification", arguments: Mistake.all)
  func mistakes(_ mistake: Mistake) throws {
    let source = try Self.network()
    var wrong = try Self.plan(mistake.form, of: source).folded
    func verification() throws -> Verification {
      try Verification(
        source: source, literal: nil,
        written: [.init(name: "t", exact: wrong, model: .network(wrong, meant: wrong), type: .f32)],
        probes: ProbeSet.standard(for: source, endOfText: 0))
    }
    #expect(try verification().targets[0].algebraHolds)
    mistake.alter(&wrong, source)
    let claims = try verification().targets[0]
    #expect(!claims.algebraHolds)
    #expect(claims.judgement.double.logits.relative > 1e-6)
  }

  // MARK: Refusals

  private static func refusal(_ form: NormForm, of network: Network, keeping norms: Set<Path> = []) -> Refusal? {
    #expect(throws: Refusal.self) {
      _ = try FoldingPlan(folding: network, options: .init(keptNorms: norms, normForm: form))
    }
  }

  @Test("Where no norm is computed there is nothing to convert", arguments: NormForm.allCases)
  func nothing(_ form: NormForm) throws {
    let refusal = Self.refusal(form, of: try Self.network("tiny-2x32/lnfree"))
    #expect(
      refusal
        == Refusal(
          .usage, subject: "\(.normForm, form)", "there is no computed norm in this network to convert",
          advice: "leave it out: norms that are fixed fold into the weights and are gone"))
  }

  @Test("RMSNorms have no mean to lose; bare they can be")
  func rootMeanSquare() throws {
    var network = try Self.network()
    network.changeNorms { ($1.kind, $1.bias) = (.rms, nil) }
    for form in [NormForm.rms, .crms] {
      #expect(
        Self.refusal(form, of: network)
          == Refusal(
            .unsupported, subject: "\(.normForm, form)", "none of the norms that are computed is a LayerNorm",
            advice: "\(.normForm, NormForm.unit) moves their gains into the weights"))
    }
    let bare = try Self.plan(.unit, of: network).folded
    #expect(bare.norms.allSatisfy { $0.norm.kind == .rms && $0.norm.gain.constantValue == 1 })
    #expect(distance(try Self.logits(network), try Self.logits(bare)) <= 1e-9)
  }

  @Test("Where maps see the mean of the stream it is needed", arguments: [NormForm.rms, .crms])
  func meanIsRead(_ form: NormForm) throws {
    #expect(
      Self.refusal(form, of: try Self.network("norm-free/relu"))
        == Refusal(
          .unsupported, subject: "\(.normForm, form)",
          "8 maps may see the mean of the residual stream, first 'blocks.0.attention.query'",
          advice: "convert from the checkpoint that still has its norms, or leave the option out"))
  }

  @Test("A norm that stays for its target needs every feature")
  func keptNorm() throws {
    let refusal = Self.refusal(.crms, of: try Self.network(), keeping: ["final.norm"])
    #expect(
      refusal
        == Refusal(
          .unsupported, subject: "\(.normForm, NormForm.crms)",
          "the norm 'transformer.ln_f' stays as it is, and needs every feature",
          advice: "use a target that it can be folded for"))
    // As an RMSNorm it keeps gain and bias.
    let source = try Self.network()
    let plan = try FoldingPlan(folding: source, options: .init(keptNorms: ["final.norm"], normForm: .rms))
    #expect(plan.folded[norm: "final.norm"]?.gain == source[norm: "final.norm"]?.gain)
    #expect(plan.folded[norm: "final.norm"]?.kind == .rms)
    #expect(distance(try Self.logits(source), try Self.logits(plan.folded)) <= 1e-9)
  }
}
