import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import Testing
import TestSupport

@Suite struct EncoderConversionTests {
  private static func path(_ name: String) -> String { Fixtures.path("encoders/" + name) }

  private static func partial(_ conversion: inout Conversion) { conversion.allowsPartial = true }

  @Test("An encoder becomes its own class with its norms' biases moved, and a graph", arguments: EncoderFixtures.names)
  func converts(_ name: String) throws {
    let place = try Workplace()
    let source = try Model(opening: Self.path(name))
    let report = try place.convert(Self.path(name), to: ["transformers", "onnxruntime"], Self.partial)
    #expect(report.holds && report.published)
    for verdict in report.verdicts { #expect(verdict.measures.allSatisfy { $0.holds ?? true }) }
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture == source.architecture)
    #expect(written.network.isTied == source.network.isTied)
    for (path, norm) in written.network.norms where path != written.network.output {
      let bias = try #require(norm.bias)
      #expect(ParameterReader(bias).values().allSatisfy { $0 == 0 }, "\(norm.name)")
    }
    let graph = try ONNXGraph(reading: place.output + "/onnxruntime")
    let outputs: [Task: [String]] = [
      .features: ["last_hidden_state"], .questionAnswering: ["start_logits", "end_logits"],
    ]
    #expect(graph.outputs.map(\.name) == outputs[source.network.task] ?? ["logits"])
    let hasTypes = source.network.tokenTypeEmbedding != nil
    #expect(graph.inputs.map(\.name) == ["input_ids", "attention_mask"] + (hasTypes ? ["token_type_ids"] : []))
  }

  @Test("What was written is the same network for every input, and a graph likewise", arguments: EncoderFixtures.names)
  func verifies(_ name: String) throws {
    let place = try Workplace()
    try place.convert(Self.path(name), to: ["transformers", "onnxruntime"], Self.partial)
    for target in ["transformers", "onnxruntime"] {
      let report = try VerificationRun(reference: Self.path(name), candidate: place.output + "/" + target).run()
      #expect(report.holds && report.judgement.isComplete)
    }
  }

  @Test("Hidden states are judged by their angles, and distributions by theirs")
  func measures() throws {
    let states = try Workplace().convert(Self.path("bert-model"), Self.partial)
    let kinds = states.verdicts[0].measures.map(\.kind)
    #expect(kinds.contains(.cosineDistance) && !kinds.contains(.divergence) && !kinds.contains(.top1Agreement))
    let masked = try Workplace().convert(Self.path("bert-masked-lm"), Self.partial)
    let others = masked.verdicts[0].measures.map(\.kind)
    #expect(!others.contains(.cosineDistance) && others.contains(.divergence) && others.contains(.top1Agreement))
  }

  @Test("A tied unembedding stays tied for its class: the norm before it keeps its gain alone")
  func tied() throws {
    let place = try Workplace()
    let report = try place.convert(Self.path("bert-masked-lm"), Self.partial)
    let kept = try #require(report.outputs[0].kept.last)
    #expect(kept.path == "head.norm")
    #expect(kept.reason == "folding its gain would untie the unembedding from the embedding")
    let step = try #require(report.outputs[0].steps.last)
    #expect(step.path == "head.norm" && step.absorbed == "bias" && step.readers == ["unembedding"])
    let written = try Checkpoint(safetensors: place.output + "/model.safetensors")
    #expect(written["cls.predictions.bias"] != nil)
    #expect(written["cls.predictions.decoder.weight"] == nil && written["cls.predictions.decoder.bias"] == nil)
  }

  @Test("An unembedding of its own takes the gain, and its bias is written under both of its names")
  func untied() throws {
    let place = try Workplace()
    let report = try place.convert(Self.path("bert-untied"), Self.partial)
    #expect(report.holds)
    let written = try Checkpoint(safetensors: place.output + "/model.safetensors")
    let names = ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"]
    for name in names { #expect(written[name] != nil, "\(name)") }
    let gain: [Double] = try #require(written["cls.predictions.transform.LayerNorm.weight"]).decoded()
    #expect(gain.allSatisfy { $0 == 1 })
  }

  @Test("The last norm of a classifier folds into it, through the choice of the first token")
  func classifier() throws {
    for name in ["bert-sequence", "bert-token"] {
      let report = try Workplace().convert(Self.path(name), Self.partial)
      let step = try #require(report.outputs[0].steps.last)
      #expect(step.path == "blocks.1.mlp.norm" && step.absorbed == "gain-and-bias")
      #expect(step.readers == [name == "bert-sequence" ? "pooler" : "classifier"])
    }
  }

  @Test("Without leave to keep norms, all of them are listed with what reads them")
  func refused() throws {
    let refusal = try Workplace().refusal(Self.path("bert-token"))
    #expect(refusal?.category == .notFoldable)
    #expect(
      refusal?.description
        == "5 norms are not a linear map: bert.embeddings.LayerNorm: it is read by blocks.0.middle, a sum, which is no "
        + "linear map; bert.encoder.layer.0.attention.output.LayerNorm: it is read by blocks.0, a sum, which is no linear "
        + "map; bert.encoder.layer.0.output.LayerNorm: it is read by blocks.1.middle, a sum, which is no linear map; "
        + "bert.encoder.layer.1.attention.output.LayerNorm: it is read by blocks.1, a sum, which is no linear map; "
        + "bert.encoder.layer.1.output.LayerNorm: its deviation is still computed (epsilon 1e-12); finish the removal, or "
        + "pass allowsPartial to fold the rest and keep these")
    let rms = try Workplace().refusal(Self.path("bert-token"), to: ["onnxruntime"]) { $0.normForm = .rms }
    #expect(rms?.category == .unsupported)
  }

  @Test("Other targets, and other questions, are refused by name")
  func otherTargets() throws {
    for target in ["gpt2", "transformer-lens", "llama.cpp"] {
      let refusal = try Workplace().refusal(Self.path("bert-model"), to: [target], Self.partial)
      #expect(refusal?.category == .unsupported, "\(target)")
      #expect(refusal?.description.contains("BERT") == true, "\(refusal?.description ?? "")")
    }
    let mixed = #expect(throws: Refusal.self) {
      _ = try VerificationRun(reference: Self.path("bert-token"), candidate: Self.path("bert-question")).run()
    }
    #expect(mixed?.description.contains("only networks with the same head can be compared") == true)
  }

  /// A mistake in a fold of a post-norm network.
  struct Mistake: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let alter: @Sendable (inout Network) -> Void

    static let all: [Mistake] = [
      Mistake(testDescription: "a bias that is left out of the branch beside it") {
        $0[linear: "blocks.0.attention.output"]?.bias = .constant(0, shape: [24])
      },
      Mistake(testDescription: "a bias of a norm that went nowhere") {
        $0[norm: "blocks.0.attention.norm"]?.bias = nil
      },
      Mistake(testDescription: "a gain that is off by a thousandth") {
        guard let norm = $0[norm: "blocks.1.attention.norm"] else { return }
        $0[norm: "blocks.1.attention.norm"]?.gain = norm.gain.multiplied(by: 1.001)
      },
      Mistake(testDescription: "types of texts in the places of others") {
        guard let table = $0.tokenTypeEmbedding else { return }
        let rows = [1, 0].map { table.sliced(axis: 0, $0..<$0 + 1) }
        $0[table: "embedding.types"] = .concatenating(rows, axis: 0)
      },
    ]
  }

  @Test(
    "A broken fold is caught by the parts, in both forms of output", arguments: Mistake.all,
    ["bert-model", "bert-sequence"])
  func broken(_ mistake: Mistake, _ name: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(name), to: ["onnxruntime"]) { conversion in
      conversion.allowsPartial = true
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        mistake.alter(&altered)
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!report.holds && !report.published)
    let verification = try #require(report.verification)
    #expect(verification.targets[0].partsHold == false)
  }

  @Test("Attention that does not look ahead, and another token than the first, are other parts")
  func otherOperations() throws {
    let network = try Model(opening: Self.path("bert-sequence")).network
    var causal = network
    causal.changeAttentions { _, attention in attention.mask = .causal }
    var unselected = network
    unselected.remove("pooler.first")
    for altered in [causal, unselected] {
      let claim = PartsClaim(of: altered, against: network, allowance: .conversion)
      #expect(!claim.holds)
    }
    #expect(PartsClaim(of: network, against: network, allowance: .conversion).holds)
  }
}
