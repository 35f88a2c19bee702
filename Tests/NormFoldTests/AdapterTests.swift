import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct AdapterTests {
  /// An adapter of the fixtures, with the base that it was trained on.
  struct Example: CustomTestStringConvertible, Sendable {
    let name: String
    let base: String
    var testDescription: String { name }

    static let all = [
      Example(name: "bert-norms", base: "encoders/bert-model"),
      Example(name: "bert-some-norms", base: "encoders/bert-masked-lm"),
      Example(name: "bert-lora", base: "encoders/bert-model"),
      Example(name: "gpt2-norms", base: "tiny-2x32/vanilla"), Example(name: "gpt2-lora", base: "tiny-2x32/vanilla"),
      Example(name: "llama-norms", base: "llama/random"), Example(name: "llama-lora", base: "llama/random"),
    ]

    var path: String { Fixtures.path("adapters/" + name) }
    var options: ReadingOptions {
      var options = ReadingOptions()
      options.adapters = [path]
      return options
    }

    func model() throws -> Model { try Model(opening: Fixtures.path(base), options: options) }
  }

  private static func reference() throws -> Checkpoint {
    try Checkpoint(safetensors: Fixtures.path("adapters/reference.safetensors"))
  }

  /// The numbers of the tensors that a model would be written as, by name.
  private func numbers(of model: Model) -> [String: [Double]] {
    var result: [String: [Double]] = [:]
    for (slot, value) in model.layout.tensors(of: model.network, sizes: model.hyperparameters) {
      result[model.layout.fullName(of: slot)] = ParameterReader(value).values()
    }
    return result
  }

  @Test("Merged weights are those of peft, bit for bit, and all others the base's", arguments: Example.all)
  func merged(_ example: Example) throws {
    let reference = try Self.reference()
    let found = numbers(of: try example.model())
    let expected = reference.tensors.filter { $0.name.hasPrefix(example.name + "/") }
    #expect(!expected.isEmpty)
    var names: Set<String> = []
    for tensor in expected {
      let name = String(tensor.name.dropFirst(example.name.count + 1))
      names.insert(name)
      let values = try #require(found[name], "\(name)")
      #expect(values.map(\.bitPattern) == tensor.decoded(as: Double.self).map(\.bitPattern), "\(name)")
    }
    let base = numbers(of: try Model(opening: Fixtures.path(example.base)))
    for (name, values) in found where !names.contains(name) {
      let own = base[name] ?? base[name.replacing("bert.", with: "")]
      #expect(own == values, "\(name)")
    }
  }

  @Test("The merged network computes what peft's does", arguments: Example.all)
  func logits(_ example: Example) throws {
    let reference = try Self.reference()
    let tokens = try #require(reference["\(example.name).tokens"]).decoded(as: Double.self).map { Int($0) }
    let probes = (0..<3).map { Probe(name: "\($0)", tokens: Array(tokens[$0 * 5..<($0 + 1) * 5])) }
    let network = try example.model().network
    let all = try network.logits(on: FastBackend<Double>(probes: probes)).all()
    let width = all.columnCount
    let rows = network.task.isPerSequence ? [0, 5, 10] : Array(0..<15)
    let found = rows.flatMap { all.array[$0 * width..<($0 + 1) * width] }
    let expected: [Double] = try #require(reference["\(example.name).output"]).decoded()
    // transformers computes LLaMA's norms and rotations in single precision.
    #expect(relativeDifference(found, expected) <= (example.name.hasPrefix("llama") ? 1e-6 : 1e-13))
  }

  @Test("A merged adapter is converted, folded and verified", arguments: Example.all)
  func converts(_ example: Example) throws {
    let place = try Workplace()
    let report = try place.convert(Fixtures.path(example.base), to: ["transformers", "onnxruntime"]) {
      $0.readingOptions = example.options
      $0.allowsPartial = true
      if !example.name.hasPrefix("bert") { $0.normForm = .unit }
    }
    #expect(report.published && report.verdicts.allSatisfy(\.holds))
    #expect(report.warnings.first?.description.contains("adapter merged") == true)
    #expect(report.sourceFiles.contains { $0.path.hasSuffix("adapter_model.safetensors") })
    var run = VerificationRun(
      reference: Fixtures.path(example.base), candidate: place.output + "/transformers")
    run.readingOptions = example.options
    #expect(try run.run().holds)
    if example.name != "bert-norms", example.name != "bert-lora" {
      run.readingOptions.adapters = []
      #expect(try !run.run().holds)
    }
  }

  @Test("Adapters are merged one after the other")
  func several() throws {
    var options = ReadingOptions()
    options.adapters = [Example.all[3].path, Example.all[4].path]
    let both = numbers(of: try Model(opening: Fixtures.path("tiny-2x32/vanilla"), options: options))
    let alone = [numbers(of: try Example.all[3].model()), numbers(of: try Example.all[4].model())]
    for (name, values) in both { #expect(values == (name.contains("ln_") ? alone[0] : alone[1])[name], "\(name)") }
    options.adapters = [Example.all[3].path, Example.all[3].path]
    let refusal = #expect(throws: Refusal.self) {
      _ = try Model(opening: Fixtures.path("tiny-2x32/vanilla"), options: options)
    }
    #expect(
      refusal?.description.hasSuffix(
        "replaces 'transformer.h.0.ln_1.bias', which an adapter before it has changed; peft has one of them active at a time; give one"
      ) == true, "\(refusal?.description ?? "")")
  }

  @Test("What merge_and_unload left in wrappers is read as what was trained")
  func unwrapped() throws {
    let model = try Model(opening: Fixtures.path("adapters/unwrapped/bert-norms"))
    #expect(numbers(of: model) == numbers(of: try Example.all[0].model()))
    #expect(
      model.dropped.map(\.name).sorted() == ["classifier.original_module.bias", "classifier.original_module.weight"])
  }

  @Test("An inspection says how far each norm was moved")
  func inspection() throws {
    let example = Example.all[1]
    let inspection = try Inspection(of: Fixtures.path(example.base), options: example.options)
    let changes = try #require(inspection.adapterChanges)
    #expect(changes.count == 6)
    for change in changes {
      #expect((change.gain > 0) == (change.name == "bert.encoder.layer.1.output.LayerNorm"), "\(change.name)")
    }
    let reference = try Self.reference()
    let base = try Checkpoint(safetensors: Fixtures.path(example.base + "/model.safetensors"))
    let name = "bert.encoder.layer.1.output.LayerNorm"
    let (new, old): ([Double], [Double]) = (
      try #require(reference["\(example.name)/\(name).bias"]).decoded(), try #require(base["\(name).bias"]).decoded()
    )
    let moved = try #require(changes.first { $0.name == name })
    #expect(moved.largestBias == zip(new, old).map { abs($0 - $1) }.max())
    #expect(try Inspection(of: Fixtures.path(example.base)).adapterChanges == nil)
  }

  // MARK: Refusals

  /// Changes of an adapter, and what is said of it.
  struct Defect: CustomTestStringConvertible, Sendable {
    let testDescription: String
    var adapter = "gpt2-lora"
    var base = "tiny-2x32/vanilla"
    var keys: [String: String] = [:]
    var rename: (String, String)?
    let sentence: String
  }

  private static let advice = "merge it with merge_and_unload(), and give what save_pretrained() writes then"
  private static let query = "base_model.model.transformer.h.0.attn.c_attn"

  static let defects: [Defect] = [
    Defect(
      testDescription: "DoRA", keys: ["use_dora": "true"],
      sentence: "in/adapter_config.json, 'use_dora': true is not merged here; \(advice)"),
    Defect(
      testDescription: "factors by module", keys: ["alpha_pattern": "{\"c_attn\": 3}"],
      sentence: "in/adapter_config.json, 'alpha_pattern': an object is not merged here; \(advice)"),
    Defect(
      testDescription: "biases", keys: ["bias": "\"all\""],
      sentence: "in/adapter_config.json, 'bias': \"all\" is not merged here; \(advice)"),
    Defect(
      testDescription: "a base that was changed", keys: ["init_lora_weights": "\"pissa\""],
      sentence: "in/adapter_config.json, 'init_lora_weights': \"pissa\" is not merged here; \(advice)"),
    Defect(
      testDescription: "a key of tomorrow", keys: ["use_more": "3"],
      sentence: "in/adapter_config.json, 'use_more': 3 is not merged here; \(advice)"),
    Defect(
      testDescription: "another kind", keys: ["peft_type": "\"IA3\""],
      sentence:
        "in/adapter_config.json, 'peft_type': \"IA3\" is not merged here; known are LN_TUNING and LORA; \(advice)"),
    Defect(
      testDescription: "no factor", keys: ["lora_alpha": "null"],
      sentence: "in/adapter_config.json, 'lora_alpha': expected a number, found null"),
    Defect(
      testDescription: "an embedding", rename: ("\(query).lora_A.weight", "\(query).lora_embedding_A"),
      sentence:
        "in/adapter_model.safetensors, '\(query).lora_embedding_A': is of a kind that is not merged here; merge the adapter "
        + "with merge_and_unload(), and give what save_pretrained() writes then"),
    Defect(
      testDescription: "half of a product", rename: ("\(query).lora_A.weight", "\(query)_more.lora_A.weight"),
      sentence:
        "in/adapter_model.safetensors, '\(query)_more.lora_A.weight': the matrix lora_B that belongs to it is missing; the "
        + "adapter is incomplete; save it again"),
    Defect(
      testDescription: "another base", base: "llama/random",
      sentence:
        "in/adapter_model.safetensors, '\(query).lora_A.weight': is for 'transformer.h.0.attn.c_attn.weight', and the base "
        + "has no such tensor; the adapter belongs to another base, or to another head of it"),
    Defect(
      testDescription: "another width", adapter: "gpt2-norms", base: "shakespeare-4x128/vanilla",
      sentence:
        "in/adapter_model.safetensors, 'base_model.model.transformer.h.0.ln_1.ln_tuning_layers.bias': expected shape [128], "
        + "that of the base, found [32]; the adapter belongs to another base"),
  ]

  @Test("What is not merged as peft merges it is refused by name", arguments: defects)
  func refused(_ defect: Defect) throws {
    let place = try TemporaryDirectory()
    let directory = place / "in"
    try FileManager.default.copyItem(atPath: Fixtures.path("adapters/" + defect.adapter), toPath: directory)
    let configuration = URL(filePath: directory + "/adapter_config.json")
    var json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: configuration)) as? [String: Any])
    for (key, value) in defect.keys {
      json[key] = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    }
    try JSONSerialization.data(withJSONObject: json).write(to: configuration)
    if let (old, new) = defect.rename {
      let file = directory + "/adapter_model.safetensors"
      var tensors = EditableTensors(of: try Checkpoint(safetensors: file))
      tensors.rename(old, to: new)
      try FileManager.default.removeItem(atPath: file)
      try tensors.write(to: file)
    }
    var options = ReadingOptions()
    options.adapters = [directory]
    let refusal = #expect(throws: Refusal.self) {
      _ = try Model(opening: Fixtures.path(defect.base), options: options)
    }
    #expect(refusal?.description.replacing(place.path + "/", with: "") == defect.sentence)
  }

  @Test("A directory without an adapter, and a base of llama.cpp's names, are refused")
  func others() throws {
    let place = try TemporaryDirectory()
    var options = ReadingOptions()
    options.adapters = [Fixtures.path("tiny-2x32/vanilla")]
    let refusal = #expect(throws: Refusal.self) {
      _ = try Model(opening: Fixtures.path("tiny-2x32/vanilla"), options: options)
    }
    #expect(refusal?.description.contains("adapter_config.json") == true)
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/lnfree"), destination: place / "out", targets: ["llama.cpp"])
    conversion.readingOptions.tokenizer = .absent
    _ = try conversion.run()
    options.adapters = [Example.all[3].path]
    let named = #expect(throws: Refusal.self) { _ = try Model(opening: place / "out", options: options) }
    #expect(
      named?.description.hasSuffix(
        "names its tensors as llama.cpp does, and an adapter of peft as transformers does; give the base model in the form of transformers"
      ) == true, "\(named?.description ?? "")")
  }
}
