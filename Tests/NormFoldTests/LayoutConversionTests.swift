import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// Home-made networks, read by a layout file each, converted and read back.
@Suite struct LayoutConversionTests {
  private static let files = [
    "per-head": "per-head.pt", "fused": "fused.safetensors", "flat": "flat.pt", "rotary": "rotary.pt",
    "parallel": "parallel.safetensors",
  ]

  private func path(_ name: String) -> String { Fixtures.path("layouts/" + (Self.files[name] ?? "")) }

  @Test("Bare norms stay, and the files compute what the network's own code does", arguments: files.keys.sorted())
  func unit(_ name: String) throws {
    let place = try Workplace()
    let report = try place.convert(path(name), to: ["transformers", "onnxruntime"]) {
      $0.readingOptions.layout = Fixtures.path("layouts/\(name).json")
      $0.normForm = .unit
    }
    #expect(report.holds)
    let written = try Model(opening: place.output + "/transformers")
    #expect(written.architecture == (name == "rotary" ? .llama : name == "parallel" ? .phi : .gpt2))
    let reference = try ReferenceLogits("layouts/reference.safetensors", prefix: name + ".")
    let logits = try written.network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-6)
    for target in ["transformers", "onnxruntime"] {
      var run = VerificationRun(reference: path(name), candidate: place.output + "/" + target)
      run.readingOptions.layout = Fixtures.path("layouts/\(name).json")
      #expect(try run.run().holds)
    }
  }

  @Test("Norms behind sums keep their gains, and no class has them")
  func postNorm() throws {
    let source = Fixtures.path("layouts/post-norm.pt")
    var options = ReadingOptions()
    options.layout = Fixtures.path("layouts/post-norm.json")
    let report = try Workplace().convert(source, to: ["onnxruntime"]) {
      $0.readingOptions = options
      $0.normForm = .unit
    }
    #expect(report.holds && report.outputs[0].hasComputedNorms)
    let notes = report.outputs[0].notes.map(\.description)
    #expect(notes.contains { $0.hasPrefix("layers.*.norm1 keeps its gain in 2 blocks: it is read by ") }, "\(notes)")
    let refusal = try Workplace().refusal(source) {
      $0.readingOptions = options
      $0.normForm = .unit
    }
    #expect(refusal?.category == .unsupported, "\(refusal as Any)")
  }

  @Test("A parallel block goes to llama.cpp as a Phi")
  func parallelGGUF() throws {
    let place = try Workplace()
    let report = try place.convert(path("parallel"), to: ["llama.cpp"]) {
      $0.readingOptions.layout = Fixtures.path("layouts/parallel.json")
      $0.normForm = .unit
    }
    #expect(report.holds)
    let written = try Model(opening: place.output)
    #expect(written.architecture == .phi)
    let reference = try ReferenceLogits("layouts/reference.safetensors", prefix: "parallel.")
    let logits = try written.network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-6)
  }

  /// The network `fused` with other tensors and another layout, both in a directory of their own.
  private func altered(
    layout: (String) -> String = { $0 }, _ alter: (inout EditableTensors) throws -> Void
  ) throws -> (directory: TemporaryDirectory, options: ReadingOptions) {
    let directory = try TemporaryDirectory()
    var tensors = EditableTensors(of: try Checkpoint(safetensors: path("fused")))
    try alter(&tensors)
    try tensors.write(to: directory / "model.safetensors")
    let text = String(decoding: try Fixtures.bytes("layouts/fused.json"), as: UTF8.self)
    var options = ReadingOptions()
    options.layout = try directory.write(Array(layout(text).utf8), to: "layout.json")
    return (directory, options)
  }

  private let norms = ["layer.0.pre_attn", "layer.0.pre_mlp", "layer.1.pre_attn", "layer.1.pre_mlp", "out_norm"]

  private func logits(of path: String, _ options: ReadingOptions = .init()) throws -> [Double] {
    let reference = try ReferenceLogits("layouts/reference.safetensors", prefix: "fused.")
    let network = try Model(opening: path, options: options).network
    return reference.select(try network.logits(on: FastBackend<Double>(probes: reference.probes)).all())
  }

  @Test("A large epsilon, buffers of a FakeLayerNorm and given deviations fix the same norms")
  func fixed() throws {
    // σ = 1.5 for all, each time said in another way.
    let epsilon = try altered(layout: { $0.replacing("1e-6", with: "2.25e12") }) { tensors in
      for norm in norms { for index in 0..<32 { tensors[norm + ".gain"]?[index] *= 1e6 } }
    }
    let buffers = try altered { tensors in
      for norm in norms {
        for (name, value) in [("average_std_buffer", 1.5), ("bos_std_buffer", 1.5)] {
          tensors["\(norm).\(name)"] = .init([value], shape: [1])
        }
        for name in ["is_fake", "attn_v_is_fake"] { tensors["\(norm).\(name)"] = .init([1], shape: [1]) }
      }
    }
    var given = try altered { _ in }
    given.options.deviation = 1.5
    let plain = try logits(of: given.directory.path, given.options)
    for (directory, options) in [epsilon, buffers, given] {
      let place = try Workplace()
      let report = try place.convert(directory.path, to: ["transformers", "onnxruntime"]) {
        $0.readingOptions = options
      }
      #expect(report.holds && report.outputs.allSatisfy(\.isNormFree))
      #expect(report.outputs[0].foldedNormCount == 5)
      #expect(relativeDifference(try logits(of: place.output + "/transformers"), plain) <= 2e-6)
    }
  }

  @Test(
    "A home-made network that no class computes is written for onnxruntime, and refused for transformers by the place")
  func otherClasses() throws {
    let (directory, options) = try altered(
      layout: { $0.replacing("\"tied\": true", with: "\"embeddingScale\": 4, \"tied\": true") }
    ) { _ in }
    let refusal = try Workplace().refusal(directory.path) {
      $0.readingOptions = options
      $0.normForm = .unit
    }
    #expect(refusal?.category == .unsupported && refusal?.subject == "embedding.tokens.scaled", "\(refusal as Any)")
    let report = try Workplace().convert(directory.path, to: ["onnxruntime"]) {
      $0.readingOptions = options
      $0.normForm = .unit
    }
    #expect(report.holds)
  }
}
