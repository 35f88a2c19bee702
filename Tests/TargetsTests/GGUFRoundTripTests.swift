import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

private let shakespeare = Fixtures.path("shakespeare-4x128/lnfree")

@Suite("GGUF and back")
struct GGUFRoundTripTests {
  @Test(
    "every type, read back, stays inside its limits",
    arguments: [shakespeare, Fixtures.path("tiny-2x32/fakeln-safetensors"), Fixtures.path("tiny-2x32/lnfree-bf16")],
    LlamaCppTarget().types)
  func everyType(_ source: String, _ type: ElementType) throws {
    let converted = try Converted(source, type: type)
    let claims = (try #require(converted.report.verification)).targets[0]
    #expect(claims.algebraHolds)
    #expect(claims.arithmeticHolds)
    #expect(claims.judgement.holdsReferenceMatrices == (type.elementsPerBlock > 1))
    #expect(converted.report.published)
    // The file again, through the command's other door.
    guard source != shakespeare else { return }
    let run = try VerificationRun(reference: source, candidate: converted.path).run()
    #expect(run.holds)
  }

  @Test("GGUF to safetensors and to GGUF again loses nothing", arguments: [ElementType.f32, .q8_0, .q4_0])
  func thereAndBack(_ type: ElementType) throws {
    let first = try Converted(shakespeare, type: type) {
      $0.readingOptions.tokenizer = .directory(Fixtures.path("shakespeare-4x128/tokenizer"))
    }
    let middle = try Converted(first.path, to: "gpt2")
    #expect(middle.report.published)
    let last = try Converted(middle.path)
    #expect(last.report.published)
    let run = try VerificationRun(reference: first.path, candidate: last.path).run()
    #expect(run.holds)
    #expect(run.judgement.double.logits.relative < 1e-6)
    // The tokenizer came along through vocab.json and merges.txt, each key with its type.
    let (before, after) = (try first.header(), try last.header())
    for (key, value) in before.metadata where key.hasPrefix("tokenizer.") {
      #expect(after.value(key) == value, "\(key)")
    }
  }

  @Test("GGUF to GGUF keeps quantised matrices bit for bit", arguments: [ElementType.q8_0, .q5_0, .q4_0])
  func again(_ type: ElementType) throws {
    let first = try Converted(shakespeare, type: type) {
      $0.readingOptions.tokenizer = .directory(Fixtures.path("shakespeare-4x128/tokenizer"))
    }
    let second = try Converted(first.path, type: type)
    let (before, after) = (try first.checkpoint(), try second.checkpoint())
    #expect(before.tensors.count == after.tensors.count)
    for tensor in before.tensors { #expect(after[tensor.name]?.bytes == tensor.bytes, "\(tensor.name)") }
    // Keys of the model and its tokenizer, of exactly the same types.
    let keys = try second.header()
    for (key, value) in try first.header().metadata where !key.hasPrefix("normfold.") {
      #expect(keys.value(key) == value, "\(key)")
    }
  }

  @Test("factors of rotary frequencies that are all 1 change nothing; others divide them", arguments: [Float(1), 8])
  func rotaryFactors(_ factor: Float) throws {
    let converted = try Converted(Fixtures.path("llama/random")) { $0.allowsPartial = true }
    let file = try converted.checkpoint()
    let place = try TemporaryDirectory()
    let factors = TensorInfo(name: "rope_freqs.weight", type: .f32, shape: [3])
    let writer = try TensorWriter(
      gguf: place / "model.gguf", metadata: converted.header().metadata,
      tensors: file.tensors.map(\.info) + [factors])
    for info in writer.order {
      try writer.append(
        file[info.name]?.bytes ?? (0..<3).flatMap { little((($0 == 2 ? factor : 1) as Float).bitPattern) })
    }
    try writer.finish()
    let model = try Model(opening: place.path)
    #expect(model.dropped.map(\.rule) == ["factors of rotary frequencies"])
    let verified = try VerificationRun(reference: converted.path, candidate: place.path).run()
    #expect(verified.holds == (factor == 1))
    guard factor != 1 else { return }
    guard case .rotate(let rotary, _) = model.network["blocks.0.attention.query.rotated"] else {
      Issue.record("nothing is rotated")
      return
    }
    #expect(rotary.scaling == .divided(by: [1, 1, 8]))
    // They are written as they were read.
    let again = try Converted(place.path) { $0.allowsPartial = true }
    let written: [Double]? = try again.checkpoint()["rope_freqs.weight"]?.decoded()
    #expect(written == [1, 1, 8])
    // transformers has formulas only.
    let refusal = #expect(throws: Refusal.self) {
      try Converted(place.path, to: "transformers") { $0.allowsPartial = true }
    }
    #expect(
      refusal?.problem
        == "LlamaForCausalLM has no word for rotary positions of type default with a factor for each pair")
  }

  @Test("an unembedding of its own and an unusual attention scale come through", arguments: [ElementType.f32, .q5_0])
  func untied(_ type: ElementType) throws {
    let source = try CheckpointLocation(path: Fixtures.path("tiny-2x32/lnfree")).open()
    let place = try TemporaryDirectory()
    let table = try #require(source["transformer.wte.weight"])
    let head = TensorInfo(name: "lm_head.weight", type: .f32, shape: [512, 32])
    let writer = try TensorWriter(
      safetensors: place / "model.safetensors", tensors: source.tensors.map(\.info) + [head], metadata: [:])
    for info in writer.order {
      // The embedding upside down is an unembedding of its own.
      try writer.append(source[info.name]?.bytes ?? Array(table.bytes.chunked(32 * 4).reversed().joined()))
    }
    try writer.finish()
    let config = try String(contentsOf: URL(filePath: Fixtures.path("tiny-2x32/lnfree/config.json")), encoding: .utf8)
    try place.write(
      Array(
        config.replacing(#""tie_word_embeddings": true"#, with: #""tie_word_embeddings": false"#)
          .replacing(#""scale_attn_by_inverse_layer_idx": false"#, with: #""scale_attn_by_inverse_layer_idx": true"#)
          .utf8), to: "config.json")
    let converted = try Converted(place.path, type: type)
    #expect(converted.report.published)
    #expect(try converted.checkpoint()["output.weight"]?.info.type == (type == .f32 ? .f32 : .q8_0))
    // The second block's scores were divided by two: its queries are, now, and more was rounded than of the source.
    #expect(!(try #require(converted.report.verification)).targets[0].judgement.holdsReferenceMatrices)
    let model = try Model(opening: converted.path)
    #expect(!model.network.isTied && Set(model.network.attentions.map(\.attention.scale)).count == 1)
  }

  @Test("quantised, scales kept in the norms and scales folded into the matrices are equally good here")
  func bothWays() throws {
    var ratio = 1.0
    let types = LlamaCppTarget().types.filter { $0.elementsPerBlock > 1 }
    for type in types {
      func measured(_ norms: Set<Path>) throws -> LogitDifference {
        let converted = try Converted(shakespeare, type: type) {
          $0.probeOptions.probeLength = 64
          $0.fold = { network, _ throws(Refusal) in
            try FoldingPlan(folding: network, options: .init(keptNorms: norms))
          }
        }
        return try #require(converted.report.verification).targets[0].judgement.single.logits
      }
      let kept = try measured(Set(try Model(opening: shakespeare).network.norms.map(\.path)))
      let folded = try measured(["final.norm"])
      ratio *= kept.meanDivergence / folded.meanDivergence
    }
    // The scales of its norms are within a fifth of each other. One order of the features differs from the next by more
    // than the two ways do, so that one run can only see a gross difference.
    let mean = pow(ratio, 1 / Double(types.count))
    #expect(mean > 0.5 && mean < 2)
  }

  @Test("a verification sees what a quantised file computes, and nothing worse")
  func limitsCanFail() throws {
    let model = try Model(opening: shakespeare)
    let probes = ProbeSet.standard(for: model.network, endOfText: 0)
    let converted = try Converted(shakespeare, type: .q4_0)
    func claims(_ alter: (inout Network) -> Void) throws -> Verification.TargetClaims {
      let read = try Model(opening: converted.path)
      var network = try #require(read.literalNetwork)
      alter(&network)
      return try Verification(
        source: model.network, literal: nil,
        written: [
          .init(name: "llama.cpp", exact: model.network, model: .network(network, meant: network), type: .q4_0)
        ],
        probes: probes
      ).targets[0]
    }
    #expect(try claims { _ in }.arithmeticHolds)
    // One norm of nine, off by a hundredth: a hundredth of what quantising does.
    let altered = try claims { network in
      let gain = network[norm: "blocks.2.mlp.norm"]?.gain.multiplied(by: 1.01)
      if let gain { network[norm: "blocks.2.mlp.norm"]?.gain = gain }
    }
    #expect(!altered.arithmeticHolds)
    #expect(try !claims { $0[norm: "final.norm"]?.bias = nil }.arithmeticHolds)
  }

  @Test("rounding the source to blocks is what reading them back gives", arguments: [ElementType.q8_0, .q5_1, .q4_0])
  func rounding(_ type: ElementType) throws {
    let converted = try Converted(shakespeare, type: type)
    let read = try Model(opening: converted.path)
    let source = try Model(opening: shakespeare)
    let probes = [Probe(name: "some", tokens: [5, 80, 1023, 0, 17, 300])]
    let found = try source.network.logits(on: FastBackend<Double>(probes: probes, rounding: Storage(of: read.network)))
      .all().array
    let expected = try read.network.logits(on: FastBackend<Double>(probes: probes)).all().array
    let largest = expected.reduce(0) { max($0, $1.magnitude) }
    for (a, b) in zip(found, expected) { #expect((a - b).magnitude <= 1e-9 * largest) }
  }
}

@Suite("Checkpoints of other architectures")
struct OtherArchitectureTests {
  private let directory: TemporaryDirectory
  private var path: String { directory / "model.gguf" }

  /// A LLaMA that calls itself something else.
  init() throws {
    directory = try TemporaryDirectory()
    var bytes = try Fixtures.bytes("found/stories260K/stories260K.gguf")
    let key = try #require(bytes.firstRange(of: Array("general.architecture".utf8)))
    let name = try #require(bytes[key.upperBound...].firstRange(of: Array("llama".utf8)))
    bytes.replaceSubrange(name, with: Array("mamba".utf8))
    try directory.write(bytes, to: "model.gguf")
  }

  @Test("inspecting another architecture lists all of it, and says that it is not supported for conversion")
  func inspection() throws {
    guard case .listing(let listing) = try InspectionResult(of: path) else {
      Issue.record("expected a listing")
      return
    }
    #expect(listing.architecture == "mamba" && !listing.isSupported && listing.container == "gguf")
    #expect(listing.tensorCount == 48 && listing.tensors.count == 48)
    #expect(listing.elementTypes == ["F32": 48])
    #expect(listing.tensors.first { $0.name == "token_embd.weight" }?.shape == [512, 64])
    #expect(listing.metadata.first { $0.key == "llama.attention.head_count_kv" }?.value == "4")
    #expect(listing.metadata.first { $0.key == "tokenizer.ggml.tokens" }?.value.hasPrefix("512 × \"<unk>\"") == true)
  }

  @Test("converting another architecture is refused by its name")
  func conversion() throws {
    let refusal = #expect(throws: Refusal.self) { try Converted(path, to: "transformers") }
    #expect(
      refusal?.description
        == "\(path), 'general.architecture': 'mamba' is not supported yet; supported are gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, phi3, olmo2, phi, gpt_neox, opt, torchscale, normformer, retnet, eye-tracking-roberta, bert, roberta, distilbert and vit"
    )
  }

  @Test("a network is inspected as before")
  func network() throws {
    guard case .network(let inspection) = try InspectionResult(of: shakespeare) else {
      Issue.record("expected a network")
      return
    }
    #expect(inspection.foldableSiteCount == 9)
  }
}

extension [UInt8] {
  fileprivate func chunked(_ count: Int) -> [ArraySlice<UInt8>] {
    stride(from: 0, to: self.count, by: count).map { self[$0..<$0 + count] }
  }
}
