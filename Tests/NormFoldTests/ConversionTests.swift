import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// A source of the fixtures and a type to write.
struct ConversionCase: CustomTestStringConvertible, Sendable {
  let family: String
  let folder: String
  let type: ElementType
  var testDescription: String { "\(family)/\(folder) as \(type.displayName)" }
  var source: String { Fixtures.path("\(family)/\(folder)") }
  /// Whose logits the reference has; the shards hold the tensors of lnfree.
  var prefix: String { (folder == "lnfree-sharded" ? "lnfree" : folder) + "." }
  var blockCount: Int { family == "tiny-2x32" ? 2 : 4 }

  static let all = ["tiny-2x32", "shakespeare-4x128"].flatMap { family in
    ["lnfree", "lnfree-sharded", "lnfree-bf16"].flatMap { folder in
      [ElementType.f32, .bf16, .f16].map { ConversionCase(family: family, folder: folder, type: $0) }
    }
  }
}

@Suite struct ConversionTests {
  private static func expectedNames(_ given: ConversionCase, target: String) -> Set<String> {
    let maps = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    let norms = target == "gpt2" ? ["ln_1", "ln_2"] : []
    let blocks = (0..<given.blockCount).flatMap { block in
      (maps + norms).flatMap { ["h.\(block).\($0).weight", "h.\(block).\($0).bias"] }
    }
    return target == "gpt2"
      ? Set(blocks + ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"])
      : Set((blocks + ["wte.weight", "wpe.weight"]).map { "transformer." + $0 } + ["lm_head.weight", "lm_head.bias"])
  }

  @Test("The report names every file that was written, with its size")
  func files() throws {
    let workplace = try Workplace()
    let report = try workplace.convert(Fixtures.path("tiny-2x32/lnfree"), to: Targets.all.map(\.name))
    for output in report.outputs {
      let content = try TestSupport.content(ofDirectory: output.directory)
      #expect(Set(output.files.map(\.name)) == Set(content.keys))
      for file in output.files { #expect(file.byteCount == content[file.name]??.count) }
    }
    #expect(report.outputs.first { $0.target == "onnxruntime" }?.files.map(\.name).contains("model.onnx") == true)
  }

  @Test(
    "Every published checkpoint of the fixtures converts to every target, and all claims hold",
    arguments: ConversionCase.all)
  func converts(_ given: ConversionCase) throws {
    let place = try Workplace()
    let targets = given.type == .f16 ? ["transformers"] : ["transformers", "gpt2"]
    let report = try place.convert(given.source, to: targets) { $0.type = given.type }
    #expect(report.holds)
    #expect(report.published)
    #expect(try place.content().keys.allSatisfy { !$0.hasPrefix(".") })
    #expect((try #require(report.verification)).targets.map(\.target) == targets)
    let reference = try ReferenceLogits("\(given.family)/reference/reference.safetensors", prefix: given.prefix)
    for (target, claims) in zip(targets, (try #require(report.verification)).targets) {
      #expect(claims.judgement.double.logits.relative <= Verification.algebraLimit)
      #expect(claims.algebraHolds)
      #expect(claims.arithmeticHolds)
      let path = targets.count == 1 ? place.output : "\(place.output)/\(target)"
      let checkpoint = try Checkpoint(safetensors: path + "/model.safetensors")
      #expect(Set(checkpoint.tensors.map(\.name)) == Self.expectedNames(given, target: target))
      #expect(checkpoint.tensors.allSatisfy { $0.info.type == given.type })
      let tensorCount = report.outputs.first { $0.target == target }?.verifiedTensorCount
      #expect(tensorCount == checkpoint.tensors.count)

      let written = try Model(opening: path)
      if target == "transformers" {
        #expect(written.network.norms.isEmpty)
      } else {
        for norm in written.network.norms where norm.path != "final.norm" {
          // 10⁶ is no bfloat16; the nearest is 999,424.
          let gain = given.type == .bf16 ? 999_424.0 : 1e6
          #expect(ParameterReader(norm.norm.gain).values().allSatisfy { $0 == gain })
          #expect(norm.norm.bias.map { ParameterReader($0).values().allSatisfy { $0 == 0 } } == true)
        }
        #expect(written.network.isTied)
      }
      let logits = try (written.literalNetwork ?? written.network).logits(
        on: FastBackend<Double>(probes: reference.probes)
      ).all()
      // Rounding each weight once moves the logits by a few times the unit of the type: 2⁻²⁴, 2⁻⁹, 2⁻¹²; a wrong fold
      // by order one.
      let limit = given.type == .f32 ? 2e-6 : given.type == .bf16 ? 5e-2 : 5e-3
      #expect(reference.relativeDifference(reference.select(logits)) <= limit)
    }
  }

  @Test("Shards and a single file give the same bytes of weights", arguments: ["tiny-2x32", "shakespeare-4x128"])
  func shards(_ family: String) throws {
    let (single, sharded) = (try Workplace(), try Workplace())
    try single.convert(Fixtures.path("\(family)/lnfree"))
    try sharded.convert(Fixtures.path("\(family)/lnfree-sharded"))
    let (a, b) = (
      try Checkpoint(safetensors: single.output + "/model.safetensors"),
      try Checkpoint(safetensors: sharded.output + "/model.safetensors")
    )
    #expect(a.tensors.map(\.info) == b.tensors.map(\.info))
    #expect(a.tensors.map { Fingerprint(of: $0) } == b.tensors.map { Fingerprint(of: $0) })
  }

  @Test("The file says what made it of what")
  func metadata() throws {
    let place = try Workplace()
    let source = Fixtures.path("tiny-2x32/lnfree")
    let report = try place.convert(source, to: ["gpt2"])
    let file = try Checkpoint(safetensors: place.output + "/model.safetensors")
    let digest = DigestAlgorithm.tree.digest(of: try MappedFile(path: source + "/model.safetensors"), workers: .one)
    #expect(
      file.metadata == [
        "format": .string("pt"), "normfold.version": .string(Tool.version),
        "normfold.source": .string("model.safetensors"),
        "normfold.source.digest": .string(digest),
        "normfold.dialect": .string("published LN-removed form (epsilon 1e+12)"),
        "normfold.folded": .string(
          "transformer.h.0.ln_1 transformer.h.0.ln_2 transformer.h.1.ln_1 transformer.h.1.ln_2"),
      ])
    #expect(report.sourceFiles.map(\.digest) == [digest])
  }

  @Test("The config is the source's, for the class that reads the file", arguments: ["transformers", "gpt2"])
  func config(_ target: String) throws {
    let place = try Workplace()
    try place.convert(Fixtures.path("tiny-2x32/lnfree"), to: [target])
    func json(_ path: String) throws -> [String: JSONValue] {
      let file = try MappedFile(path: path)
      let json = try file.withBytes { try JSONValue(parsing: $0, file: path) }
      return Dictionary(uniqueKeysWithValues: (json.members ?? []).map { ($0.key, $0.value) })
    }
    let (config, source) = (
      try json(place.output + "/config.json"), try json(Fixtures.path("tiny-2x32/lnfree/config.json"))
    )
    for key in [
      "n_layer", "n_head", "n_embd", "n_positions", "n_ctx", "vocab_size", "n_inner", "activation_function",
      "bos_token_id", "eos_token_id", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "initializer_range",
    ] {
      #expect(config[key] == source[key], "\(key)")
    }
    #expect(config["torch_dtype"] == .string("float32"))
    #expect(config["resid_pdrop"] == .number("0.0"))
    if target == "gpt2" {
      #expect(config["model_type"] == .string("gpt2"))
      #expect(config["architectures"] == .array([.string("GPT2LMHeadModel")]))
      #expect(config["layer_norm_epsilon"] == .number("1000000000000.0"))
      #expect(config["tie_word_embeddings"] == .bool(true))
      #expect(config["auto_map"] == nil)
    } else {
      #expect(config["model_type"] == .string("gpt2_folded"))
      #expect(config["architectures"] == .array([.string("GPT2FoldedLMHeadModel")]))
      #expect(config["layer_norm_epsilon"] == nil)
      #expect(config["tie_word_embeddings"] == .bool(false))
      #expect(config["auto_map"]?["AutoModelForCausalLM"] == .string("modeling_gpt2_folded.GPT2FoldedLMHeadModel"))
    }
  }

  @Test("What a config says of attention and activation is carried along, and verified")
  func carried() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.config["scale_attn_by_inverse_layer_idx"] = .bool(true)
      $0.config["activation_function"] = .string("gelu")
    }
    let place = try Workplace()
    #expect(try place.convert(altered.path, to: ["transformers", "gpt2"]).holds)
    for target in ["transformers", "gpt2"] {
      let network = try Model(opening: place.output + "/" + target).network
      #expect(network.attentions.map(\.attention.scale) == [0.25, 0.125])
      #expect(network.activations == [.geluErf, .geluErf])
    }
  }

  @Test("Beside the weights stand the files that the source's directory has for its runtime")
  func sideFiles() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { _ in }
    try Data("{\"a\": 1}".utf8).write(to: URL(filePath: altered.path + "/tokenizer.json"))
    try Data("private".utf8).write(to: URL(filePath: altered.path + "/notes.txt"))
    let place = try Workplace()
    let report = try place.convert(altered.path)
    let names = ["README.md", "config.json", "model.safetensors", "modeling_gpt2_folded.py", "tokenizer.json"]
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.output).sorted() == names)
    #expect(report.outputs[0].files.map(\.name).sorted() == names)
    #expect(try Data(contentsOf: URL(filePath: place.output + "/tokenizer.json")) == Data("{\"a\": 1}".utf8))
  }

  @Test("An untied unembedding stays one of its own")
  func untied() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      var head = $0.tensors.entry("transformer.wte.weight")
      head[40] += 0.5
      $0.tensors["lm_head.weight"] = head
      $0.config["tie_word_embeddings"] = .bool(false)
    }
    let place = try Workplace()
    #expect(try place.convert(altered.path, to: ["transformers", "gpt2"]).holds)
    #expect(try Checkpoint(safetensors: place.output + "/gpt2/model.safetensors")["lm_head.weight"] != nil)
  }

  // MARK: Again

  @Test("Converting what was converted changes no number")
  func again() throws {
    let (once, twice) = (try Workplace(), try Workplace())
    try once.convert(Fixtures.path("tiny-2x32/lnfree"))
    let report = try twice.convert(once.output)
    #expect(report.holds)
    #expect(report.dialect == "folded: no norms")
    #expect(report.outputs[0].foldedNormCount == 0)
    let (a, b) = (
      try Checkpoint(safetensors: once.output + "/model.safetensors"),
      try Checkpoint(safetensors: twice.output + "/model.safetensors")
    )
    #expect(a.tensors.map(\.info) == b.tensors.map(\.info))
    #expect(a.tensors.map { Fingerprint(of: $0) } == b.tensors.map { Fingerprint(of: $0) })
  }

  @Test("What was written for the stock class is a published form again", arguments: ["transformers", "gpt2"])
  func stockAgain(_ target: String) throws {
    let (once, twice) = (try Workplace(), try Workplace())
    try once.convert(Fixtures.path("tiny-2x32/lnfree"), to: ["gpt2"])
    let report = try twice.convert(once.output, to: [target])
    #expect(report.holds)
    #expect(report.dialect == "published LN-removed form (epsilon 1e+12)")
  }

  @Test("An unembedding with a bias has no place in the stock class")
  func headBias() throws {
    let (once, twice) = (try Workplace(), try Workplace())
    try once.convert(Fixtures.path("tiny-2x32/lnfree"))
    let refusal = try twice.refusal(once.output, to: ["gpt2"])
    #expect(
      refusal?.description
        == "'lm_head.bias': the target gpt2 has no place for a bias of the unembedding; use targets = transformers")
    #expect(refusal?.category == .unsupported)
  }
}
