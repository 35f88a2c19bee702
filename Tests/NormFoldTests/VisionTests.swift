import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import Testing
import TestSupport

@Suite struct VisionTests {
  static let names = ["hf-classifier", "hf-model", "hf-no-bias", "timm", "timm-model"]

  private static func path(_ name: String) -> String { Fixtures.path("vision/" + name) }

  private static func reference() throws -> Checkpoint {
    try Checkpoint(safetensors: path("reference.safetensors"))
  }

  private static func numbers(_ name: String) throws -> [Double] { try #require(try reference()[name]).decoded() }

  private static func probes(for network: Network) throws -> [Probe] {
    let image = try #require(network.image)
    let pixels = try numbers("pixels")
    return (0..<3).map {
      Probe(name: "\($0)", pixels: Array(pixels[$0 * image.pixelCount..<($0 + 1) * image.pixelCount]), of: image)
    }
  }

  /// What a network gives for the reference's images: of a classifier one row for each.
  private static func outputs<Scalar: ArithmeticScalar>(
    of network: Network, in _: Scalar.Type = Scalar.self
  ) throws -> [Double] {
    let probes = try probes(for: network)
    let all = try network.logits(on: FastBackend<Scalar>(probes: probes)).all()
    let values = all.array.map { Double($0) }
    guard network.task.isPerSequence else { return values }
    let (width, rows) = (all.columnCount, network.contextLength)
    return probes.indices.flatMap { values[$0 * rows * width..<($0 * rows + 1) * width] }
  }

  // MARK: Forward

  @Test("Double forward is transformers' and timm's float64, float within its noise", arguments: names)
  func forward(_ name: String) throws {
    let network = try Model(opening: Self.path(name)).network
    let expected = try Self.numbers("\(name).output")
    #expect(relativeDifference(try Self.outputs(of: network, in: Double.self), expected) <= 1e-13)
    #expect(relativeDifference(try Self.outputs(of: network, in: Float.self), expected) <= 4e-6)
  }

  @Test("Plain loops compute the same", arguments: names)
  func plain(_ name: String) throws {
    let network = try Model(opening: Self.path(name)).network
    var found: [Double] = []
    for probe in try Self.probes(for: network) {
      var backend = PlainBackend(probe)
      let rows = try network.evaluate(on: &backend)
      found += network.task.isPerSequence ? rows[0] : rows.flatMap { $0 }
    }
    #expect(relativeDifference(found, try Self.numbers("\(name).output")) <= 1e-13)
  }

  @Test("The pooled state is the reference's")
  func pooled() throws {
    let network = try Model(opening: Self.path("hf-model")).network
    #expect(network.sideOutputs == ["pooler.activation"])
    var execution = Execution(network, on: FastBackend<Double>(probes: try Self.probes(for: network)))
    var pooled: [Double] = []
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage) { node, _, result in
        if node.path == "pooler.activation" { pooled = result.array }
      }
    }
    let width = network.streamWidth
    let rows = network.contextLength * width
    let first = (0..<3).flatMap { pooled[$0 * rows..<$0 * rows + width] }
    #expect(relativeDifference(first, try Self.numbers("hf-model.pooled")) <= 1e-13)
  }

  @Test("Every norm before a map folds: gains and biases, the last one's too before a classifier", arguments: names)
  func folds(_ name: String) throws {
    let network = try Model(opening: Self.path(name)).network
    let plan = try FoldingPlan(folding: network, options: .init(allowsPartial: true))
    let scaled = plan.folded.norms.filter { $0.norm.bias != nil || $0.norm.gain.constantValue != 1 }.map(\.path)
    #expect(scaled == (network.task == .features ? ["final.norm"] : []))
    #expect(
      relativeDifference(try Self.outputs(of: plan.folded, in: Double.self), try Self.numbers("\(name).output"))
        <= 1e-13)
  }

  @Test("Centred writers make RMSNorms of a stream of patches", arguments: ["hf-classifier", "timm"])
  func rms(_ name: String) throws {
    let network = try Model(opening: Self.path(name)).network
    let plan = try FoldingPlan(folding: network, options: .init(normForm: .rms))
    #expect(plan.folded.norms.allSatisfy { $0.norm.kind == .rms })
    #expect(
      relativeDifference(try Self.outputs(of: plan.folded, in: Double.self), try Self.numbers("\(name).output"))
        <= 1e-13)
  }

  // MARK: Conversion

  @Test("It becomes a stock ViT and a graph, whichever program wrote it", arguments: names)
  func converts(_ name: String) throws {
    let place = try Workplace()
    let report = try place.convert(Self.path(name), to: ["transformers", "onnxruntime"]) {
      if name == "hf-model" { $0.allowsPartial = true } else { $0.normForm = .unit }
    }
    #expect(report.published && report.verdicts.allSatisfy(\.holds))
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture.modelType == "vit")
    #expect(
      relativeDifference(try Self.outputs(of: written.network, in: Double.self), try Self.numbers("\(name).output"))
        <= 1e-6)
    let kernel = try #require(
      written.checkpoint.tensors.first { $0.name.hasSuffix("patch_embeddings.projection.weight") })
    #expect(kernel.shape == [24, 3, 8, 8])
    let graph = try ONNXGraph(reading: place.output + "/onnxruntime")
    #expect(graph.inputs.map(\.name) == ["pixel_values"])
    #expect(graph.outputs.map(\.name) == [name == "hf-model" ? "last_hidden_state" : "logits"])
    for target in ["transformers", "onnxruntime"] {
      let report = try VerificationRun(reference: Self.path(name), candidate: place.output + "/" + target).run()
      #expect(report.holds && report.judgement.isComplete)
    }
    let files = try place.content().keys
    let hasProcessor = files.contains { $0.hasSuffix("preprocessor_config.json") }
    #expect(hasProcessor == (name != "hf-model" && name != "hf-no-bias"))
  }

  @Test("A graph can be stored in F16, and read RMSNorms")
  func forms() throws {
    let place = try Workplace()
    let report = try place.convert(Self.path("hf-classifier"), to: ["onnxruntime"]) {
      $0.normForm = .rms
      $0.type = .f16
    }
    #expect(report.published)
  }

  // MARK: Mistakes

  /// A mistake in a network that reads images.
  struct Mistake: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let alter: @Sendable (inout Network) -> Void

    static let all: [Mistake] = [
      Mistake(testDescription: "a class token that is off") {
        guard let row = $0[table: "embedding.class"] else { return }
        $0[table: "embedding.class"] = row.multiplied(by: 1.01)
      },
      Mistake(testDescription: "a bias of patches that is left out") {
        $0[table: "embedding.patches.bias"] = .constant(0, shape: [1, 24])
      },
      Mistake(testDescription: "patches in columns") {
        guard let map = $0[linear: "embedding.patches"] else { return }
        let order = AxisOrder(extents: [3, 8, 8], order: [0, 2, 1])
        $0[linear: "embedding.patches"]?.weight = map.weight.reordered(axis: 0, order)
      },
      Mistake(testDescription: "a bias of a norm that went nowhere") {
        $0[linear: "blocks.1.mlp.input"]?.bias = .constant(0, shape: [40])
      },
    ]
  }

  @Test("A broken fold is caught by the parts, in both forms of output", arguments: Mistake.all)
  func broken(_ mistake: Mistake) throws {
    for target in ["transformers", "onnxruntime"] {
      let place = try Workplace()
      let report = try place.convert(Self.path("hf-classifier"), to: [target]) {
        $0.normForm = .unit
        $0.fold = { (network, options) throws(Refusal) in
          var altered = network
          mistake.alter(&altered)
          return try FoldingPlan(folding: altered, options: options)
        }
      }
      #expect(!report.holds && !report.published)
    }
  }

  // MARK: Tasks

  @Test(
    "Each task is a plain ViT that computes what its norms do",
    arguments: ["tasks/model.pth", "tasks-single/model.pth"], 0..<3)
  func tasks(_ name: String, _ task: Int) throws {
    var options = ReadingOptions()
    options.task = task
    let expected = try Self.numbers("tasks.\(task).output")
    let model = try Model(opening: Self.path(name), options: options)
    #expect(relativeDifference(try Self.outputs(of: model.network, in: Double.self), expected) <= 1e-13)
    #expect(model.dropped.contains { $0.name.hasSuffix("blocks.0.norm1.weight") })
    // Plain: the norms that are written are the task's, bit for bit.
    let place = try Workplace()
    let report = try place.convert(Self.path(name), to: ["transformers", "onnxruntime"]) {
      $0.readingOptions.task = task
      if task > 0 { $0.normForm = .unit } else { $0.allowsPartial = true }
    }
    #expect(report.published && report.verdicts.allSatisfy(\.holds))
    let written = try Model(opening: place.output + "/transformers")
    #expect(relativeDifference(try Self.outputs(of: written.network, in: Double.self), expected) <= 1e-6)
    let processor = place.output + "/transformers/preprocessor_config.json"
    #expect(try String(contentsOfFile: processor, encoding: .utf8).contains("\"do_normalize\": false"))
  }

  @Test("A task has to be named, and to be there")
  func unnamedTask() throws {
    func refusal(_ name: String, task: Int?) -> String? {
      var options = ReadingOptions()
      options.task = task
      let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: Self.path(name), options: options) }
      return refusal?.description.replacing(Fixtures.path("vision/"), with: "")
    }
    #expect(
      refusal("tasks/model.pth", task: nil)
        == "tasks/model.pth: has norms for 3 tasks, and nothing in it says which one an image belongs to; choose one with "
        + "task: 0 to 2")
    #expect(
      refusal("tasks/model.pth", task: 3) == "tasks/model.pth, 'task = 3': there is no such task; known are 0 to 2")
    #expect(
      refusal("timm", task: 0)
        == "timm/model.safetensors, 'task': there are no norms of several tasks (mln1.w, mln2.w, mln.w); leave it out")
    #expect(try Conversion.taskCount(of: Self.path("tasks/model.pth")) == 3)
    #expect(try Conversion.taskCount(of: Self.path("timm")) == nil)
  }

  // MARK: Refusals

  /// Changes of a config, and what is said of them.
  struct Defect: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let name: String
    let changes: [(old: String, new: String)]
    let sentence: String
  }

  static let defects: [Defect] = [
    Defect(
      testDescription: "patches that do not fill the image", name: "hf-no-bias",
      changes: [("\"patch_size\": 8", "\"patch_size\": 7")],
      sentence: "in/config.json, 'patch_size': patches of 7 × 7 pixels do not fill an image of 16 × 24"),
    Defect(
      testDescription: "another image", name: "hf-no-bias", changes: [("    24\n", "    16\n")],
      sentence:
        "in/model.safetensors, 'embeddings.position_embeddings': has 7 positions, expected one for the class token and 4 "
        + "for the patches of an image of 16 × 16; give the size of the images that it was trained on"),
    Defect(
      testDescription: "an average", name: "timm",
      changes: [("\"global_pool\": \"token\"", "\"global_pool\": \"avg\"")],
      sentence:
        "in/config.json, 'global_pool': \"avg\" is not supported yet; only classifiers of the class token are"),
    Defect(
      testDescription: "an argument of timm's", name: "timm",
      changes: [("\"depth\": 2,", "\"depth\": 2, \"qk_norm\": true,")],
      sentence: "in/config.json, 'model_args.qk_norm': true is not supported yet"),
    Defect(
      testDescription: "no number of heads", name: "timm",
      changes: [("\"num_heads\": 3,", ""), ("vit_tiny_", "vit_other_")],
      sentence:
        "in/config.json, 'architecture': 'vit_other_patch16_224' does not say how many heads there are; write the number into "
        + "config.json: \"model_args\": {\"num_heads\": …}"),
    Defect(
      testDescription: "another pooler", name: "hf-model", changes: [("\"tanh\"", "\"relu\"")],
      sentence:
        "in/config.json, 'pooler_act': expected \"tanh\", found \"relu\": other activations of the pooler are not supported"
    ),
  ]

  @Test("What is not computed is refused", arguments: defects)
  func refused(_ defect: Defect) throws {
    let place = try TemporaryDirectory()
    let directory = place / "in"
    try FileManager.default.copyItem(atPath: Self.path(defect.name), toPath: directory)
    var text = try String(contentsOfFile: directory + "/config.json", encoding: .utf8)
    for (old, new) in defect.changes {
      #expect(text.contains(old))
      text = text.replacing(old, with: new)
    }
    try text.write(toFile: directory + "/config.json", atomically: false, encoding: .utf8)
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: directory) }
    #expect(refusal?.description.replacing(place.path + "/", with: "") == defect.sentence)
  }

  @Test("Runtimes for texts, and measurements on texts, are refused by name")
  func others() throws {
    for target in ["gpt2", "llama.cpp"] {
      let refusal = try Workplace().refusal(Self.path("hf-classifier"), to: [target]) { $0.normForm = .unit }
      #expect(refusal?.description.contains("ViT") == true, "\(refusal?.description ?? "")")
    }
    var conversion = Conversion(source: Self.path("hf-classifier"), destination: "out", targets: ["transformers"])
    conversion.allowsPartial = false
    let refusal = #expect(throws: Refusal.self) { _ = try ConversionPlan(of: conversion) }
    #expect(refusal?.category == .notFoldable)
  }
}
