import Foundation
import Logging
import NormFold
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// What is written for TransformerLens, held against what is written for Hugging Face, element by element.
@Suite struct TransformerLensTargetTests {
  /// A place for one output.
  private struct Place {
    let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }
    var output: String { directory / "out" }

    @discardableResult
    func convert(
      _ source: String = Fixtures.path("tiny-2x32/lnfree"), to targets: [String] = ["transformer-lens"],
      _ alter: (inout Conversion) -> Void = { _ in }
    ) throws -> ConversionReport {
      var conversion = Conversion(source: source, destination: output, targets: targets)
      alter(&conversion)
      return try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    var isEmpty: Bool {
      get throws { try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty }
    }
  }

  private static let shapes: [String: [Int]] = {
    var shapes = [
      "embed.W_E": [512, 32], "pos_embed.W_pos": [64, 32], "unembed.W_U": [32, 512], "unembed.b_U": [512],
    ]
    for block in 0..<2 {
      let (attention, mlp) = ("blocks.\(block).attn.", "blocks.\(block).mlp.")
      for letter in ["Q", "K", "V"] {
        shapes[attention + "W_" + letter] = [2, 32, 16]
        shapes[attention + "b_" + letter] = [2, 16]
      }
      shapes[attention + "W_O"] = [2, 16, 32]
      shapes[attention + "b_O"] = [32]
      shapes[mlp + "W_in"] = [32, 128]
      shapes[mlp + "b_in"] = [128]
      shapes[mlp + "W_out"] = [128, 32]
      shapes[mlp + "b_out"] = [32]
    }
    return shapes
  }()

  @Test("Names, shapes and every element, against the same weights written for transformers")
  func elements() throws {
    let place = try Place()
    let report = try place.convert(to: ["transformers", "transformer-lens"])
    #expect(report.published)
    let lens = EditableTensors(of: try Checkpoint(safetensors: place.output + "/transformer-lens/model.safetensors"))
    let face = EditableTensors(of: try Checkpoint(safetensors: place.output + "/transformers/model.safetensors"))
    #expect(lens.entries.mapValues(\.shape) == Self.shapes)
    var count = 0
    func expect(_ name: String, _ other: String, at place: (_ index: [Int]) -> Int) {
      let (found, source) = (lens.entry(name), face.entry(other))
      var index = [Int](repeating: 0, count: found.shape.count)
      for element in 0..<found.shape.reduce(1, *) {
        var rest = element
        for axis in found.shape.indices.reversed() {
          index[axis] = rest % found.shape[axis]
          rest /= found.shape[axis]
        }
        if found[element] != source[place(index)] {
          Issue.record("\(name) \(index): \(found[element]), expected \(source[place(index)])")
          return
        }
      }
      count += 1
    }
    expect("embed.W_E", "transformer.wte.weight") { $0[0] * 32 + $0[1] }
    expect("pos_embed.W_pos", "transformer.wpe.weight") { $0[0] * 32 + $0[1] }
    expect("unembed.W_U", "lm_head.weight") { $0[1] * 32 + $0[0] }
    expect("unembed.b_U", "lm_head.bias") { $0[0] }
    for block in 0..<2 {
      let (attention, stored) = ("blocks.\(block).attn.", "transformer.h.\(block).")
      for (part, letter) in ["Q", "K", "V"].enumerated() {
        // c_attn [in, part · head · dHead]
        expect(attention + "W_" + letter, stored + "attn.c_attn.weight") { $0[1] * 96 + part * 32 + $0[0] * 16 + $0[2] }
        expect(attention + "b_" + letter, stored + "attn.c_attn.bias") { part * 32 + $0[0] * 16 + $0[1] }
      }
      expect(attention + "W_O", stored + "attn.c_proj.weight") { ($0[0] * 16 + $0[1]) * 32 + $0[2] }
      expect(attention + "b_O", stored + "attn.c_proj.bias") { $0[0] }
      expect("blocks.\(block).mlp.W_in", stored + "mlp.c_fc.weight") { $0[0] * 128 + $0[1] }
      expect("blocks.\(block).mlp.b_in", stored + "mlp.c_fc.bias") { $0[0] }
      expect("blocks.\(block).mlp.W_out", stored + "mlp.c_proj.weight") { $0[0] * 32 + $0[1] }
      expect("blocks.\(block).mlp.b_out", stored + "mlp.c_proj.bias") { $0[0] }
    }
    #expect(count == Self.shapes.count)
  }

  @Test("The config is what HookedTransformerConfig takes, no more and no less")
  func config() throws {
    let place = try Place()
    let report = try place.convert()
    #expect(report.outputs[0].files.map(\.name) == ["model.safetensors", "config.json", "README.md"])
    #expect(report.outputs[0].isNormFree)
    #expect(
      try String(contentsOfFile: place.output + "/config.json", encoding: .utf8) == """
        {
          "act_fn": "gelu_new",
          "d_head": 16,
          "d_mlp": 128,
          "d_model": 32,
          "d_vocab": 512,
          "default_prepend_bos": false,
          "n_ctx": 64,
          "n_heads": 2,
          "n_layers": 2,
          "normalization_type": null,
          "original_architecture": "GPT2LMHeadModel",
          "positional_embedding_type": "standard",
          "scale_attn_by_inverse_layer_idx": false,
          "use_attn_scale": true
        }

        """)
  }

  @Test("What was written is read, and what is read would be written: every recipe is the stored tensor itself")
  func inverse() throws {
    let place = try Place()
    try place.convert()
    let model = try Model(opening: place.output)
    #expect(model.layout.name == "TransformerLens")
    #expect(model.dialect.displayName == "folded: no norms")
    #expect(model.network.norms.isEmpty)
    let parameters = Layout.transformerLens.tensors(of: model.network, sizes: model.hyperparameters)
    #expect(Set(parameters.map(\.slot.name)) == Set(Self.shapes.keys))
    for (slot, value) in parameters {
      let tensor = try #require(value.storedTensor, "\(slot.name) = \(value)")
      #expect(
        tensor.reshaped(Layout.transformerLens.storedShape(of: slot, in: model.hyperparameters))
          == model.checkpoint[slot.name])
    }
    let again = try Place()
    #expect(try again.convert(place.output).published)
    let (a, b) = (
      try Checkpoint(safetensors: place.output + "/model.safetensors"),
      try Checkpoint(safetensors: again.output + "/model.safetensors")
    )
    #expect(a.tensors.map { Fingerprint(of: $0) } == b.tensors.map { Fingerprint(of: $0) })
    // And back to Hugging Face.
    let back = try Place()
    #expect(try back.convert(place.output, to: ["transformers"]).published)
  }

  @Test(
    "Every type and every rule, for this target and the others",
    arguments: [ElementType.f32, .bf16, .f16], [[], [.foldValueBiases], FoldingRule.allCases] as [[FoldingRule]])
  func rules(_ type: ElementType, _ rules: [FoldingRule]) throws {
    let place = try Place()
    let report = try place.convert(to: ["transformer-lens", "transformers"]) {
      $0.type = type
      $0.rules = rules
    }
    #expect(report.published)
    for (output, claims) in zip(report.outputs, (try #require(report.verification)).targets) {
      #expect(claims.judgement.isUpToShift == rules.contains(.centerUnembedding))
      // The shift itself is far above the limit: it is allowed, not overlooked.
      #expect(claims.judgement.single.logits.isWithin(claims.judgement.limits.logits) != claims.judgement.isUpToShift)
      #expect(output.rules == rules)
      #expect(output.notes.prefix(rules.count) == rules.map { Message("\($0.rawValue): \($0.summary)") }[...])
    }
    let file = try Checkpoint(safetensors: place.output + "/transformer-lens/model.safetensors")
    #expect(
      file.metadata["normfold.rules"]?.string == (rules.isEmpty ? nil : rules.map(\.rawValue).joined(separator: " ")))
    // The stored weights themselves, to what storing rounds.
    guard rules == FoldingRule.allCases, type == .f32 else { return }
    let tensors = EditableTensors(of: file)
    for block in 0..<2 {
      let zeros = tensors.entry("blocks.\(block).attn.b_V")
      #expect((0..<32).allSatisfy { zeros[$0] == 0 })
    }
    for (name, width) in [
      ("embed.W_E", 32), ("blocks.1.mlp.W_out", 32), ("blocks.0.attn.W_O", 32), ("unembed.W_U", 512),
    ] {
      let entry = tensors.entry(name)
      for row in 0..<entry.shape.reduce(1, *) / width {
        let sum = (0..<width).reduce(0.0) { $0 + Double(entry[row * width + $1]) }
        #expect(abs(sum) < 1e-4, "\(name), row \(row)")
      }
    }
  }

  @Test("Without leave to shift, a centred unembedding is another network; with it, the same")
  func upToShift() throws {
    let place = try Place()
    try place.convert { $0.rules = [.centerUnembedding] }
    var run = VerificationRun(reference: Fixtures.path("tiny-2x32/lnfree"), candidate: place.output)
    #expect(try !run.run().holds)
    run.isUpToShift = true
    let report = try run.run()
    #expect(report.holds)
    #expect(report.isUpToShift)
    // Leave to shift is not leave to differ.
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.h.1.mlp.c_proj.weight") { $0[77] *= 1.01 }
    }
    run.reference = altered.path
    #expect(try !run.run().holds)
  }

  @Test("A plan names the rules, and the formula of each tensor")
  func plan() throws {
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/lnfree"), destination: "unused", targets: ["transformer-lens"])
    conversion.rules = [.centerUnembedding]
    let plan = try ConversionPlan(of: conversion)
    #expect(plan.rules == [.centerUnembedding])
    let table = Dictionary(uniqueKeysWithValues: plan.tensors.map { ($0.name, $0) })
    #expect(table["blocks.0.attn.W_Q"]?.shape == [2, 32, 16])
    let head = "centre(diag(transformer.h.0.ln_1.weight / 1e+06) · transformer.h.0.attn.c_attn.weight"
    #expect(table["blocks.0.attn.W_Q"]?.formula == "[\(head)[:, 0:16]) | \(head)[:, 16:32])]")
    #expect(table["unembed.b_U"]?.formula == "centre(transformer.ln_f.biasᵀ · transformer.wte.weightᵀ)")
  }

  @Test("Biases that the network does not have are zeros")
  func noBiases() throws {
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
    var network = try FoldingPlan(folding: model.network).folded
    network[linear: "unembedding"]?.bias = nil
    network[linear: "blocks.1.attention.key"]?.bias = nil
    let output = try TransformerLensTarget().output(of: network, from: try TargetSource(model), options: .init())
    #expect(Set(output.parameters.map(\.info.name)) == Set(Self.shapes.keys))
    for name in ["unembed.b_U", "blocks.1.attn.b_K"] {
      let parameter = try #require(output.parameters.first { $0.info.name == name })
      #expect(parameter.value.constantValue == 0)
      #expect(parameter.info.shape == Self.shapes[name])
    }
  }

  // MARK: Broken on purpose

  /// A target that writes something else than it was given.
  struct Break: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let name: String
    let alter: @Sendable (Parameter) -> Parameter

    static let all: [Break] = [
      Break(testDescription: "b_U dropped", name: "unembed.b_U") { .constant(0, shape: $0.shape) },
      Break(testDescription: "b_Q dropped", name: "blocks.0.attn.b_Q") { .constant(0, shape: $0.shape) },
      Break(testDescription: "W_O transposed", name: "blocks.1.attn.W_O") { $0.transposed() },
      Break(testDescription: "heads of W_V exchanged", name: "blocks.0.attn.W_V") {
        .concatenating([$0.sliced(axis: 0, 32..<64), $0.sliced(axis: 0, 0..<32)], axis: 0)
      },
      Break(testDescription: "W_out not scaled alike", name: "blocks.1.mlp.W_out") { $0.multiplied(by: 1.001) },
    ]
  }

  @Test("A target that is broken is caught before anything appears", arguments: Break.all, [[], FoldingRule.allCases])
  func broken(_ broken: Break, rules: [FoldingRule]) throws {
    let place = try Place()
    let report = try place.convert { conversion in
      conversion.rules = rules
      conversion.output = { (target, network, model, options) throws(Refusal) in
        let output = try target.output(of: network, from: model, options: options)
        return TargetOutput(
          fileName: output.fileName,
          parameters: output.parameters.map {
            .init(info: $0.info, value: $0.info.name == broken.name ? broken.alter($0.value) : $0.value)
          }, writer: output.writer, sideFiles: output.sideFiles, notes: output.notes)
      }
    }
    // The algebra is right; what was written is not.
    #expect((try #require(report.verification)).targets[0].algebraHolds)
    #expect(!(try #require(report.verification)).targets[0].arithmeticHolds)
    #expect(!report.published)
    #expect(try place.isEmpty)
  }

  @Test("A rule that is broken is caught by the algebra", arguments: FoldingRule.allCases)
  func brokenRule(_ rule: FoldingRule) throws {
    let place = try Place()
    let report = try place.convert { conversion in
      conversion.rules = [rule]
      conversion.fold = { (network, options) throws(Refusal) in
        var altered = network
        switch rule {
        case .foldValueBiases: altered[linear: "blocks.0.attention.value"]?.bias = .constant(0, shape: [32])
        case .centerWritingWeights:
          altered.changeWeight("blocks.0.mlp.output") { $0.centred(axis: 0) }
        case .centerUnembedding: altered[norm: "final.norm"]?.bias = nil
        }
        return try FoldingPlan(folding: altered, options: options)
      }
    }
    #expect(!(try #require(report.verification)).targets[0].algebraHolds)
    #expect(!report.published)
    #expect(try place.isEmpty)
  }

  // MARK: Refusals

  @Test("A norm that stays has no place")
  func keptNorm() throws {
    let place = try Place()
    let refusal = #expect(throws: Refusal.self) {
      try place.convert(Fixtures.path("tiny-2x32/vanilla")) { $0.allowsPartial = true }
    }
    #expect(
      refusal?.description
        == "'transformer.h.0.ln_1': is still a norm, and the target transformer-lens has one normalization_type for "
        + "all of them, None; finish the removal, or use targets = transformers")
    #expect(refusal?.category == .unsupported)
    #expect(try place.isEmpty)
  }

  @Test("An activation that HookedTransformer does not have")
  func activation() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.config["activation_function"] = .string("leaky_relu")
    }
    let place = try Place()
    let refusal = #expect(throws: Refusal.self) { try place.convert(altered.path) }
    #expect(
      refusal?.description
        == "'leaky_relu': the target transformer-lens has no such activation; use targets = transformers")
  }

  /// A directory for TransformerLens with one thing wrong.
  struct Defect: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let message: String
    let alter: @Sendable (inout [String: JSONValue], inout EditableTensors) -> Void

    init(
      _ name: String, _ message: String,
      _ alter: @escaping @Sendable (inout [String: JSONValue], inout EditableTensors) -> Void
    ) {
      (testDescription, self.message, self.alter) = (name, message, alter)
    }

    static let all: [Defect] = [
      Defect(
        "norms of another kind",
        "config.json, 'normalization_type': expected null, \"LN\" or \"LNPre\", found \"RMS\""
      ) { config, _ in config["normalization_type"] = .string("RMS") },
      Defect(
        "norms that are not there",
        "model.safetensors: 10 tensors are missing: blocks.0.ln1.w, blocks.1.ln1.w, blocks.0.ln1.b, blocks.1.ln1.b, "
          + "blocks.0.ln2.w, blocks.1.ln2.w, blocks.0.ln2.b, blocks.1.ln2.b, ln_final.w, ln_final.b; these are all of its "
          + "norms: if they were taken out of the network, pass missingNorms = identity; if not, the checkpoint is incomplete"
      ) { config, _ in config["normalization_type"] = .string("LN") },
      Defect(
        "rotary positions",
        "config.json, 'positional_embedding_type': expected \"standard\", found \"rotary\"; of "
          + "TransformerLens, only networks with learned positions are read"
      ) { config, _ in config["positional_embedding_type"] = .string("rotary") },
      Defect(
        "an argument that may mean anything",
        "config.json: 1 argument of HookedTransformerConfig not supported yet: parallel_attn_mlp"
      ) { config, _ in config["parallel_attn_mlp"] = .bool(true) },
      Defect(
        "logits that are capped, and other scores",
        "config.json: 2 arguments of HookedTransformerConfig not supported yet: attn_scale, output_logits_soft_cap"
      ) { config, _ in
        (config["output_logits_soft_cap"], config["attn_scale"]) = (.number(30), .number(2))
        // What asks for nothing is no argument against it.
        (config["attn_scores_soft_cap"], config["attention_dir"]) = (.number(-1), .string("causal"))
        (config["gated_mlp"], config["window_size"], config["yarn_factor"]) = (.bool(false), .null, .number(1))
      },
      Defect(
        "head width", "config.json, 'd_head': expected 2 heads that make up the width 32, found 8 each"
      ) { config, _ in config["d_head"] = .number(8) },
      Defect("no activation", "config.json, 'act_fn': is missing") { config, _ in config["act_fn"] = nil },
      Defect("no head count", "config.json, 'n_heads': expected a whole number, found nothing") { config, _ in
        config["n_heads"] = nil
      },
      Defect(
        "blocks",
        "config.json, 'n_layers': says 3, but the tensors have 2; the config belongs to another checkpoint, "
          + "or tensors are missing"
      ) { config, _ in config["n_layers"] = .number(3) },
      Defect(
        "a bias and the unembedding dropped",
        "model.safetensors: 2 tensors are missing: blocks.1.attn.b_K, "
          + "unembed.W_U; the checkpoint is incomplete; a runtime may fill them with random numbers"
      ) { _, tensors in
        tensors["blocks.1.attn.b_K"] = nil
        tensors["unembed.W_U"] = nil
      },
      Defect(
        "heads last", "model.safetensors, 'blocks.0.attn.W_Q': expected shape [2, 32, 16], found [32, 2, 16]"
      ) { _, tensors in tensors.change("blocks.0.attn.W_Q") { $0.shape = [32, 2, 16] } },
      Defect(
        "transposed",
        "model.safetensors, 'unembed.W_U': expected shape [32, 512], found [512, 32]; this is the "
          + "transpose: TransformerLens stores [in, out]"
      ) { _, tensors in tensors.change("unembed.W_U") { $0 = $0.transposed } },
      Defect(
        "a norm's tensor",
        "model.safetensors: 1 tensor of unknown meaning: blocks.0.ln1.w; if they take no part in "
          + "the network, pass ignoredTensors with their names"
      ) { _, tensors in tensors["blocks.0.ln1.w"] = .init([1], shape: [1]) },
    ]
  }

  @Test("What is read is held to its config and its shapes", arguments: Defect.all)
  func defects(_ defect: Defect) throws {
    let place = try Place()
    try place.convert()
    let file = try MappedFile(path: place.output + "/config.json")
    let json = try file.withBytes { try JSONValue(parsing: $0, file: file.path) }
    var config = Dictionary(uniqueKeysWithValues: (json.members ?? []).map { ($0.key, $0.value) })
    var tensors = EditableTensors(of: try Checkpoint(safetensors: place.output + "/model.safetensors"))
    defect.alter(&config, &tensors)
    let altered = place.directory / "altered"
    try FileManager.default.createDirectory(atPath: altered, withIntermediateDirectories: false)
    try tensors.write(to: altered + "/model.safetensors")
    let members = config.sorted { $0.key < $1.key }.map { JSONValue.Member(key: $0.key, value: $0.value) }
    try Data(JSONValue.object(members).text.utf8).write(to: URL(filePath: altered + "/config.json"))
    let refusal = #expect(throws: Refusal.self) { try Model(opening: altered) }
    #expect(refusal?.description.replacing(altered + "/", with: "") == defect.message)
  }

  @Test(
    "Norms that HookedTransformer computes are read, with gains and without, and so are its names beside another config",
    arguments: ["LN", "LNPre", "config of transformers"])
  func norms(_ kind: String) throws {
    let reference = Fixtures.path("tiny-2x32/vanilla")
    var network = try Model(opening: reference).network
    if kind == "LNPre" { network = try FoldingPlan(folding: network, options: .init(normForm: .unit)).folded }
    var tensors = EditableTensors()
    for (slot, value) in Layout.transformerLens.tensors(of: network, sizes: network.sizes) {
      let shape = Layout.transformerLens.storedShape(of: slot, in: network.sizes)
      tensors[slot.name] = .init(ParameterReader(value).values(), shape: shape)
    }
    if kind != "LNPre" {
      for (path, norm) in network.norms {
        let name = path.description.replacing("attention.norm", with: "ln1").replacing("mlp.norm", with: "ln2")
          .replacing("final.norm", with: "ln_final")
        tensors[name + ".w"] = .init(ParameterReader(norm.gain).values(), shape: [32])
        tensors[name + ".b"] = .init(ParameterReader(try #require(norm.bias)).values(), shape: [32])
      }
    }
    let place = try Place()
    try place.convert()
    var config = try String(contentsOfFile: place.output + "/config.json", encoding: .utf8)
    config = config.replacing(#""normalization_type": null"#, with: #""eps": 1e-05, "normalization_type": "\#(kind)""#)
    if kind == "config of transformers" {
      config = try String(contentsOfFile: reference + "/config.json", encoding: .utf8)
    }
    let written = place.directory / "written"
    try FileManager.default.createDirectory(atPath: written, withIntermediateDirectories: false)
    try tensors.write(to: written + "/model.safetensors")
    try Data(config.utf8).write(to: URL(filePath: written + "/config.json"))
    let found = try VerificationRun(reference: reference, candidate: written).run()
    #expect(found.holds)
    #expect(found.judgement.double.logits.relative < 1e-6)
    #expect(try Model(opening: written).network.norms.count == 5)
  }

  @Test("The mask that HookedTransformer's own state dict holds is left out by name")
  func mask() throws {
    let place = try Place()
    try place.convert()
    let path = place.output + "/model.safetensors"
    var tensors = EditableTensors(of: try Checkpoint(safetensors: path))
    for block in 0..<2 {
      tensors["blocks.\(block).attn.mask"] = .init(type: .bool, shape: [0, 0], bytes: [])
      tensors["blocks.\(block).attn.IGNORE"] = .init([-.infinity], shape: [])
    }
    let altered = place.directory / "altered"
    try FileManager.default.createDirectory(atPath: altered, withIntermediateDirectories: false)
    try tensors.write(to: altered + "/model.safetensors")
    try FileManager.default.copyItem(atPath: place.output + "/config.json", toPath: altered + "/config.json")
    let model = try Model(opening: altered)
    #expect(
      Set(model.dropped.map(\.rule)) == ["causal mask buffer", "causal mask constant"])
    #expect(model.dropped.count == 4)
  }
}
