import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// Pythia into a RetNet-shaped template: gpt-neox/parallel has 3 layers, width 64, 4 heads, an MLP of 256.
@Suite struct TransferTests {
  private let place: TemporaryDirectory
  private let source = Fixtures.path("gpt-neox/parallel")

  init() throws { place = try TemporaryDirectory() }

  /// A RetNet in the names of lit-gpt.
  ///
  /// - Parameter isHybrid: whether its second layer has attention.
  private func template(heads: Int = 4, width: Int = 64, isHybrid: Bool = false) throws -> String {
    var tensors = EditableTensors()
    var next = 0.0
    func add(_ name: String, _ shape: Int...) {
      next += 1
      tensors[name] = .init(
        (0..<shape.reduce(1, *)).map { Double(($0 * 37 + Int(next) * 11) % 97) / 97 - 0.5 }, shape: shape, type: .f32)
    }
    func linear(_ name: String, _ output: Int, _ input: Int) {
      add(name + ".weight", output, input)
      add(name + ".bias", output)
    }
    func norm(_ name: String) {
      tensors[name + ".weight"] = .init([Double](repeating: 1, count: width), shape: [width], type: .f32)
      tensors[name + ".bias"] = .init([Double](repeating: 0, count: width), shape: [width], type: .f32)
    }
    add("transformer.wte.weight", 512, width)
    for layer in 0..<3 {
      let h = "transformer.h.\(layer)."
      norm(h + "norm_1")
      norm(h + "norm_2")
      if isHybrid, layer == 1 {
        linear(h + "attn.attn", 3 * width, width)
      } else {
        linear(h + "attn.reten", 3 * width, width)
        linear(h + "attn.gate_proj", width, width)
      }
      linear(h + "attn.proj", width, width)
      linear(h + "mlp.mlp.fc1", 256, width)
      linear(h + "mlp.mlp.fc2", width, 256)
    }
    norm("transformer.ln_f")
    add("lm_head.weight", 512, width)
    let path = place / "template-\(width)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try tensors.write(to: path + "/model.safetensors")
    let configuration: [String: Any] = [
      "name": "RetNet", "n_head": heads, "n_layer": 3, "n_embd": width, "block_size": 64, "padded_vocab_size": 512,
      "use_retention": true,
    ]
    try JSONSerialization.data(withJSONObject: configuration).write(to: URL(filePath: path + "/config.json"))
    return path
  }

  private func transfer(_ source: String? = nil, into template: String, map: String = "pythia-retnet") -> Transfer {
    Transfer(source: source ?? self.source, template: template, destination: place / "out", map: map)
  }

  private func refusal(_ transfer: Transfer) -> String? {
    let refusal = #expect(throws: Refusal.self) { try transfer.run() }
    #expect(!FileManager.default.fileExists(atPath: place / "out"))
    return refusal?.description.replacing(place.path + "/", with: "").replacing(Fixtures.path(""), with: "")
  }

  private func bytes(_ tensor: Tensor) -> [UInt8] {
    tensor.withBytes { bytes in bytes.withUnsafeBytes { Array($0) } }
  }

  @Test("Every tensor is one of the source or one of the template, bit for bit, and the metadata say which")
  func accounted() throws {
    let template = try template()
    let report = try transfer(into: template).run()
    #expect(
      report.notes.map(\.description) == [
        "the MLPs were trained with gelu, and the template computes gelu_new, as in the published transfer"
      ])
    let before = try CheckpointLocation(path: source).open()
    let shape = try CheckpointLocation(path: template).open()
    let written = try CheckpointLocation(path: place / "out").open()
    #expect(Set(report.tensors.map(\.name)) == Set(shape.tensors.map(\.name)))
    #expect(written.tensors.count == shape.tensors.count)
    var expected: [String: String] = [:]
    for tensor in report.tensors {
      let origin = try #require((tensor.origin == .source ? before : shape)[tensor.originalName])
      let found = try #require(written[tensor.name])
      #expect(bytes(found) == bytes(origin), "\(tensor.name)")
      expected[tensor.name] = "\(tensor.origin.rawValue) \(tensor.originalName)"
    }
    #expect(
      report.tensors.filter { $0.origin == .template }.map(\.name).sorted()
        == (0..<3).flatMap { layer in
          ["gate_proj.bias", "gate_proj.weight", "reten.bias", "reten.weight"].map {
            "transformer.h.\(layer).attn.\($0)"
          }
        })
    #expect(
      report.unusedTensors.sorted()
        == (0..<3).flatMap { layer in
          ["bias", "weight"].map { "gpt_neox.layers.\(layer).attention.query_key_value.\($0)" }
        })
    let text = try #require(written.metadata["normfold.origins"]?.string)
    let origins = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String])
    #expect(origins == expected)
    #expect(try String(contentsOfFile: place / "out/config.json", encoding: .utf8).contains("RetNet"))
    // It is a RetNet, and both of its forward passes agree.
    let network = try Model(opening: place / "out").network
    let tokens = (0..<40).map { ($0 * 31) % 512 }
    var plain = PlainBackend(tokens: tokens)
    let values = try network.evaluate(on: &plain).flatMap { $0 }
    let logits = try network.logits(on: FastBackend<Double>(probes: [Probe(name: "text", tokens: tokens)])).all().array
    #expect(relativeDifference(logits, values) <= 1e-13)
  }

  @Test("A file is cut into shards, and what fails leaves nothing")
  func shards() throws {
    var transfer = try transfer(into: template())
    transfer.maximumShardByteCount = 300_000
    let report = try transfer.run()
    let files = try FileManager.default.contentsOfDirectory(atPath: place / "out").sorted()
    #expect(files.contains("model.safetensors.index.json") && files.contains("model-00001-of-00004.safetensors"))
    #expect(try CheckpointLocation(path: place / "out").open().tensors.count == report.tensors.count)
    let refusal = #expect(throws: Refusal.self) { try transfer.run() }
    #expect(refusal?.category == .output)
    transfer.replacesDestination = true
    transfer.maximumShardByteCount = 5_000_000_000
    _ = try transfer.run()
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place / "out").sorted() == [
        "config.json", "model.safetensors",
      ])
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).sorted() == ["out", "template-64"])
  }

  @Test("Attention that is cut into other heads is warned of")
  func heads() throws {
    let report = try transfer(into: template(heads: 2, isHybrid: true)).run()
    #expect(
      report.notes.first?.description
        == "transformer.h.1.attn.attn.bias and 1 more hold queries, keys and values of 4 heads, and the template cuts them "
        + "into 2: its heads are not the source's, which are scrambled, as in the published transfer")
    let names = Dictionary(uniqueKeysWithValues: report.tensors.map { ($0.name, $0.originalName) })
    #expect(names["transformer.h.1.attn.attn.weight"] == "gpt_neox.layers.1.attention.query_key_value.weight")
  }

  @Test("With as many heads there is nothing to warn of")
  func sameHeads() throws {
    #expect(try transfer(into: template(isHybrid: true)).run().notes.count == 1)
  }

  @Test("StripedMamba hybrids get what they share, in names of GPT-NeoX")
  func stripedMamba() throws {
    let template = try AlteredCheckpoint(of: "gpt-neox/parallel") { content in
      content.config["model_type"] = .string("striped_mamba")
      for name in ["attention.query_key_value.weight", "attention.query_key_value.bias", "attention.dense.weight"] {
        content.tensors["gpt_neox.layers.0." + name] = nil
      }
      content.tensors["gpt_neox.layers.0.attention.dense.bias"] = nil
      content.tensors["gpt_neox.layers.0.attention.mamba.A_log"] = .init([1, 2], shape: [2, 1])
      content.tensors["gpt_neox.final_layer_norm.weight"] = .init([Double](repeating: 7, count: 64), shape: [64])
    }
    let report = try transfer(into: template.path, map: "pythia-striped-mamba").run()
    #expect(
      report.tensors.filter { $0.origin == .template }.map(\.name) == ["gpt_neox.layers.0.attention.mamba.A_log"])
    let written = try CheckpointLocation(path: place / "out").open()
    #expect(written["gpt_neox.final_layer_norm.weight"]?.decoded(as: Double.self).contains(7) == false)
  }

  @Test("A file says which tensors become which")
  func file() throws {
    try place.write(
      Array("{\"transformer.h.#.norm_2.bias\": \"gpt_neox.layers.#.post_attention_layernorm.bias\"}".utf8),
      to: "map.json")
    let report = try transfer(into: template(), map: place / "map.json").run()
    #expect(report.tensors.filter { $0.origin == .source }.map(\.originalName).count == 3)
  }

  @Test("A folded network is not mixed with one that is not")
  func folded() throws {
    var conversion = Conversion(source: source, destination: place / "folded", targets: ["transformers"])
    conversion.normForm = .unit
    conversion.className = "gpt_neox"
    #expect(try conversion.run().holds)
    let template = try template()
    #expect(
      refusal(transfer(place / "folded", into: template))
        == "folded/model.safetensors: its norms were folded (its metadata name them) and the template's were not: maps of the "
        + "template that read a norm would lack its gain; transfer networks as they were trained, and fold the result")
    // The other way round.
    #expect(
      refusal(transfer(into: place / "folded", map: "pythia-striped-mamba"))
        == "folded/model.safetensors: its norms were folded (its metadata name them) and the source's were not: its own maps would "
        + "read norms whose gains they hold already; transfer networks as they were trained, and fold the result")
    // Without the metadata, too: the blocks' gains are ones, and the last one is not.
    let silent = try AlteredCheckpoint(ofCheckpointAt: place / "folded") { _ in }
    #expect(
      refusal(transfer(silent.path, into: template))?.contains(
        "'gpt_neox.layers.0.input_layernorm.weight': is a gain of ones, and 'gpt_neox.final_layer_norm.weight' is not")
        == true)
  }

  /// What is wrong with a transfer, and what is said of it.
  struct Mistake: CustomTestStringConvertible, Sendable {
    let name: String
    let sentence: String
    var map: String?
    var width = 64
    var source = "gpt-neox/parallel"
    var alter: @Sendable (inout AlteredCheckpoint.Content) -> Void = { _ in }
    var testDescription: String { name }
  }

  static let mistakes: [Mistake] = [
    Mistake(
      name: "a narrower template",
      sentence:
        "template/model.safetensors, 'lm_head.weight': expected the shape of 'embed_out.weight', [512, 64], found "
        + "[512, 32]; give a template of the source's widths", width: 32),
    Mistake(
      name: "a source of fewer blocks",
      sentence: "source/model.safetensors, 'gpt_neox.layers.2.mlp.dense_4h_to_h.bias': this tensor is missing, and "
        + "'transformer.h.2.mlp.mlp.fc2.bias' of the template is to be made of it; give a source as deep as the template, or a "
        + "map for both",
      alter: { $0.tensors["gpt_neox.layers.2.mlp.dense_4h_to_h.bias"] = nil }),
    Mistake(
      name: "fixed deviations in the config",
      sentence:
        "source/model.safetensors: its norms were folded (layer_norm_eps is 1000000000000.0) and the template's were not: "
        + "maps of the template that read a norm would lack its gain; transfer networks as they were trained, and fold the result",
      alter: { $0.config["layer_norm_eps"] = .number("1e12") }),
    Mistake(
      name: "fixed deviations in buffers",
      sentence:
        "source/pytorch_model.bin, 'gpt_neox.final_layer_norm.average_std_buffer': says that deviations are fixed, which "
        + "would be left behind or stand beside norms that were trained otherwise; transfer the network from before its removal",
      source: "gpt-neox/fakeln"),
    Mistake(
      name: "a map that nobody knows",
      sentence:
        "'pythia-retnets': is no map that is known, and no file; known maps are pythia-retnet, pythia-retnet-hf, "
        + "pythia-striped-mamba", map: "pythia-retnets"),
    Mistake(
      name: "a number in front of blocks in one name only",
      sentence: "map.json at byte 1, 'a.#': expected one # in both names, or none in either, found \"b\"",
      map: "{\"a.#\": \"b\"}"),
    Mistake(
      name: "a list",
      sentence: "map.json: expected an object of names, found an array; known maps are pythia-retnet, "
        + "pythia-retnet-hf, pythia-striped-mamba", map: "[]"),
    Mistake(
      name: "a number for a name",
      sentence: "map.json at byte 1, 'a': expected the name of a tensor of the source, found 3", map: "{\"a\": 3}"),
  ]

  @Test("What does not fit is refused in one sentence, and nothing appears", arguments: mistakes)
  func refused(_ mistake: Mistake) throws {
    let template = try template(width: mistake.width)
    var map = mistake.map ?? "pythia-retnet"
    if map.hasPrefix("{") || map.hasPrefix("[") {
      try place.write(Array(map.utf8), to: "map.json")
      map = place / "map.json"
    }
    var (source, altered) = (Fixtures.path(mistake.source), nil as AlteredCheckpoint?)
    if mistake.source == "gpt-neox/parallel" {
      altered = try AlteredCheckpoint(of: mistake.source, alter: mistake.alter)
      source = altered?.path ?? source
    }
    let found = refusal(transfer(source, into: template, map: map))?.replacing(source, with: "source")
      .replacing("template-\(mistake.width)", with: "template").replacing("gpt-neox/fakeln", with: "source")
    #expect(found == mistake.sentence)
  }

  @Test("A template of other names is refused with those that it has")
  func otherNames() throws {
    #expect(
      refusal(transfer(into: source))?.hasPrefix(
        "gpt-neox/parallel/model.safetensors: no tensor has a name of the map 'pythia-retnet'; known maps are pythia-retnet, "
          + "pythia-retnet-hf, pythia-striped-mamba, and the names are ") == true)
  }
}
