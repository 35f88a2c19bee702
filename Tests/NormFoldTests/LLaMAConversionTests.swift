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

@Suite struct LLaMAConversionTests {
  private static let stories = Fixtures.path("found/stories260K/stories260K.gguf")

  /// How far what was written is from a reference, as its own runtime computes it, in double precision.
  private func difference(
    _ path: String, from reference: String = "found/stories260K/reference.safetensors", prefix: String = ""
  ) throws -> Double {
    let reference = try ReferenceLogits(reference, prefix: prefix)
    let model = try Model(opening: path)
    let logits = try (model.literalNetwork ?? model.network).logits(on: FastBackend<Double>(probes: reference.probes))
      .all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Gains are folded as told, and the norms stay, bare", arguments: ["transformers", "llama.cpp", "onnxruntime"])
  func partial(_ target: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.stories, to: [target]) {
      $0.allowsPartial = true
      $0.probeOptions.probeLength = 64
    }
    #expect(report.holds && report.outputs[0].hasComputedNorms && !report.outputs[0].isNormFree)
    guard target != "onnxruntime" else { return }
    let written = try Model(opening: place.output)
    for (path, norm) in written.network.norms where path.description.hasSuffix("mlp.norm") {
      #expect(ParameterReader(norm.gain).values().allSatisfy { $0 == 1 })
    }
    #expect(written.network[norm: "final.norm"]?.deviation == .computed(epsilon: 1e-5))
    #expect(try difference(place.output) <= 1e-6)
  }

  /// Gains √l times what they were: scaled as LayerNorm Scaling does, the network is the one that was.
  private func scaled(alter: (inout AlteredCheckpoint.Content) -> Void = { _ in }) throws -> AlteredCheckpoint {
    let place = try Workplace()
    try place.convert(Self.stories) {
      $0.allowsPartial = true
      $0.probeOptions.probeLength = 8
    }
    return try AlteredCheckpoint(ofCheckpointAt: place.output) { content in
      for block in 0..<5 {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
          content.tensors.change("model.layers.\(block).\(norm).weight") { gain in
            for feature in 0..<64 { gain[feature] *= Float(Double(block + 1).squareRoot()) }
          }
        }
      }
      alter(&content)
    }
  }

  @Test("A checkpoint of LayerNorm Scaling becomes a plain LLaMA", arguments: ["transformers", "llama.cpp"])
  func layerNormScaling(_ target: String) throws {
    let source = try scaled()
    #expect(try difference(source.path) > 0.1, "without the scale it is another network")
    let place = try Workplace()
    let report = try place.convert(source.path, to: [target]) {
      $0.readingOptions.normScaling = .lns
      $0.probeOptions.probeLength = 64
    }
    #expect(report.holds)
    #expect(report.outputs[0].notes.contains("the scales of 8 norms are in their gains now: γ' = γ · s"))
    #expect(report.warnings.contains { $0.description.hasPrefix("taken as told (normScaling = lns)") })
    #expect(try difference(place.output) <= 1e-6)
    // Nothing but gains has changed.
    let (before, after) = (try Model(opening: source.path).network, try Model(opening: place.output).network)
    let names = (0..<5).map { "blocks.\($0).attention.key.weight" } + ["final.norm.weight"]
    for name in names {
      let (old, new) = (try #require(before.parameter(named: name)), try #require(after.parameter(named: name)))
      #expect(ParameterReader(old).values() == ParameterReader(new).values())
    }
  }

  @Test("The weights of a GGUF file under LayerNorm Scaling compute what PyTorch computed", arguments: [false, true])
  func againstPyTorch(allowsPartial: Bool) throws {
    let place = try Workplace()
    let report = try place.convert(Self.stories, to: ["llama.cpp"]) {
      $0.readingOptions.normScaling = .lns
      $0.allowsPartial = allowsPartial
      $0.probeOptions.probeLength = 64
    }
    #expect(report.holds)
    let found = try difference(place.output, from: "llama/stories260K-scaled.safetensors", prefix: "lns.")
    // Gains rounded to F32.
    #expect(found <= 1e-6)
  }

  @Test("Gains that were scaled are F32 where matrices are BF16")
  func storage() throws {
    let place = try Workplace()
    let source = try scaled()
    let report = try place.convert(source.path) {
      $0.readingOptions.normScaling = .lns
      $0.type = .bf16
      $0.probeOptions.probeLength = 64
    }
    #expect(report.holds)
    let file = try Checkpoint(safetensors: place.output + "/model.safetensors")
    #expect(file["model.layers.3.input_layernorm.weight"]?.info.type == .f32)
    #expect(file["model.layers.3.mlp.up_proj.weight"]?.info.type == .bf16)
    #expect(report.outputs[0].notes.contains { $0.description.contains("gains are F32, since BF16 would round") })
  }

  @Test("Learned scales of branches are in the output maps", arguments: ["transformers", "llama.cpp"])
  func branchScales(_ target: String) throws {
    let reference = try Checkpoint(safetensors: Fixtures.path("llama/stories260K-scaled.safetensors"))
    let plain = try Workplace()
    try plain.convert(Self.stories) {
      $0.allowsPartial = true
      $0.probeOptions.probeLength = 8
    }
    let source = try AlteredCheckpoint(ofCheckpointAt: plain.output) { content in
      for branch in ["attn", "mlp"] {
        let values: [Double] = reference["branches.\(branch)"]?.decoded() ?? []
        for block in 0..<5 {
          content.tensors["model.layers.\(block).raw_scaling_factor_\(branch)"] = .init([values[block]], shape: [])
        }
      }
    }
    let place = try Workplace()
    let report = try place.convert(source.path, to: [target]) { $0.probeOptions.probeLength = 64 }
    #expect(report.holds)
    #expect(report.outputs[0].notes.contains("the scales of 10 branches are in their output maps now: W' = s · W"))
    let found = try difference(place.output, from: "llama/stories260K-scaled.safetensors", prefix: "branches.")
    #expect(found <= 1e-6)
  }

  @Test("Fixed norms fold by the rule of the others", arguments: ["transformers", "llama.cpp", "onnxruntime"])
  func fixed(_ target: String) throws {
    let source = try AlteredCheckpoint(of: "llama/random") { content in
      content.config["rms_norm_eps"] = .number(1e12)
      for name in content.tensors.names where name.contains("norm") {
        let gain = content.tensors.entry(name)
        let values = (0..<24).map { 1e6 * Double($0 % 5 + 3) / 4 }
        content.tensors[name] = .init(values, shape: gain.shape)
      }
    }
    let place = try Workplace()
    let report = try place.convert(source.path, to: [target])
    #expect(report.holds && !report.outputs[0].hasComputedNorms)
    #expect(report.outputs[0].foldedNormCount == (target == "onnxruntime" ? 5 : 4))
    #expect(report.outputs[0].isNormFree == (target == "onnxruntime"))
    guard target != "onnxruntime" else { return }
    let written = try Model(opening: place.output)
    #expect(written.dialect.displayName == "published LN-removed form (epsilon 1e+12)" && written.network.isTied)
  }

  @Test("Deviations from a file fix the norms of a LLaMA")
  func sideFile() throws {
    let place = try Workplace()
    let entries = (0..<2).flatMap { block in
      ["pre", "mid", "post"].map { JSONValue.Member(key: "blocks.\(block).hook_resid_\($0)", value: .number(0.75)) }
    }
    let text = JSONValue.object([.init(key: "std_dict", value: .object(entries))]).text
    try place.directory.write(Array(text.utf8), to: "std.json")
    let report = try place.convert(Fixtures.path("llama/random")) {
      $0.readingOptions.deviations = place.directory / "std.json"
    }
    #expect(report.holds && report.changesFunction && report.outputs[0].foldedNormCount == 4)
  }

  // MARK: Broken folds

  static let broken: [BrokenFold] = [
    BrokenFold(testDescription: "the last norm scaled, too") { $0.multiply("final.norm", by: 0.5) },
    BrokenFold(testDescription: "the root forgotten") { network in
      network.changeScales { $1 *= $1 }
    },
    BrokenFold(testDescription: "layers counted from 0") { network in
      network.changeScales { path, scale in scale = 1 / Double(max(1, path.block ?? 1)).squareRoot() }
    },
    BrokenFold(testDescription: "the norm before the MLP left out") { network in
      network.changeScales { path, scale in if path.contains(component: "mlp") { scale = 1 } }
    },
    BrokenFold(testDescription: "a gate that does not absorb") { network in
      network[linear: "blocks.2.mlp.gate"] = network[linear: "blocks.2.mlp.input"]
    },
    BrokenFold(testDescription: "pairs of rotary features not put back") { network in
      for block in 0..<network.blockCount {
        for part in ["query", "key"] {
          network.changeWeight("blocks.\(block).attention.\(part)") {
            $0.reordered(axis: 1, AxisOrder(extents: [2, 4], order: [1, 0]))
          }
        }
      }
    },
  ]

  @Test("A broken fold is caught, and nothing is written", arguments: broken, ["transformers", "llama.cpp"])
  func caught(_ broken: BrokenFold, target: String) throws {
    let place = try Workplace()
    let before = try place.content()
    let report = try place.convert(Self.stories, to: [target]) { conversion in
      conversion.readingOptions.normScaling = .lns
      conversion.probeOptions.probeLength = 32
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        broken.alter(&altered)
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!report.holds && !report.published && report.verification?.targets[0].algebraHolds == false)
    #expect(try place.content() == before)
  }

  @Test("Rows that are not put back for llama.cpp are caught in what was written, where the fold itself is right")
  func order() throws {
    let place = try Workplace()
    let report = try place.convert(Self.stories, to: ["llama.cpp"]) { conversion in
      conversion.allowsPartial = true
      conversion.probeOptions.probeLength = 32
      conversion.output = { (target, network, model, options) throws(Refusal) in
        var altered = network
        altered.changeWeight("blocks.4.attention.key") {
          $0.reordered(axis: 1, AxisOrder(extents: [4, 2], order: [1, 0]))
        }
        return try target.output(of: altered, from: model, options: options)
      }
    }
    let claims = try #require(report.verification?.targets[0])
    #expect(claims.algebraHolds && !claims.arithmeticHolds && !report.published)
  }

  @Test("Targets that cannot hold it refuse it by name", arguments: ["gpt2", "transformer-lens"])
  func refused(_ target: String) throws {
    let refusal = try Workplace().refusal(Fixtures.path("llama/random"), to: [target]) { $0.allowsPartial = true }
    #expect(
      refusal?.description == "'\(target)': writes GPT-2 only, and this is a LLaMA; use targets = transformers")
  }

  @Test(
    "Tied, with biases, grouped heads wider than the model: written and read again",
    arguments: ["transformers", "llama.cpp", "onnxruntime"])
  func random(_ target: String) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path("llama/random"), to: [target]) { $0.allowsPartial = true }
    #expect(report.holds)
    guard target != "onnxruntime" else { return }
    #expect(try Model(opening: place.output).network.isTied)
    #expect(try difference(place.output, from: "llama/random/reference.safetensors") <= 1e-6)
  }
}
