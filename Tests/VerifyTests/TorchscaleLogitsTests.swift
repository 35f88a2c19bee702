import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// Decoders with norms inside their branches held against what torchscale computed.
@Suite struct TorchscaleLogitsTests {
  static let forms = ["sub-ln", "under-model", "scaled", "pre-norm"]

  private func difference<Scalar: ArithmeticScalar>(of form: String, in _: Scalar.Type) throws -> Double {
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: form + ".")
    let network = try Model(opening: Fixtures.path("torchscale/" + form)).network
    let logits = try network.logits(on: FastBackend<Scalar>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Double forward is the reference's float64", arguments: forms)
  func double(_ form: String) throws {
    let difference = try difference(of: form, in: Double.self)
    #expect(difference <= 1e-12)
  }

  @Test("Float forward is within float32 noise of it", arguments: forms)
  func single(_ form: String) throws {
    let difference = try difference(of: form, in: Float.self)
    #expect(difference <= 4e-6)
  }

  @Test("Of a network with a copy of each map for each modality, the one that is chosen", arguments: ["A", "B"])
  func multiway(_ copy: String) throws {
    let other = copy == "A" ? "B" : "A"
    let altered = try AlteredCheckpoint(of: "torchscale/sub-ln") { content in
      content.config["multiway"] = .bool(true)
      for (name, tensor) in content.tensors.entries where name.contains(".self_attn.") || name.contains(".ffn.") {
        content.tensors[name] = nil
        // As MultiwayNetwork calls them: `self_attn.q_proj.A.weight`, `ffn.A.fc1.weight`.
        func copyName(_ letter: String) -> String {
          var parts = name.split(separator: ".").map(String.init)
          parts.insert(letter, at: name.contains(".ffn.") ? 3 : parts.count - 1)
          return parts.joined(separator: ".")
        }
        content.tensors[copyName(copy)] = tensor
        content.tensors[copyName(other)] = .init(
          [Double](repeating: 0.5, count: tensor.shape.reduce(1, *)), shape: tensor.shape)
      }
    }
    var options = ReadingOptions()
    options.modality = .init(rawValue: copy)
    let model = try Model(opening: altered.path, options: options)
    #expect(model.dropped.count { $0.rule == "of the other modality" } > 10)
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: "sub-ln.")
    let logits = try model.network.logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    let plain = try Model(opening: Fixtures.path("torchscale/sub-ln")).network
      .logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    #expect(logits == plain)

    let single = Fixtures.path("torchscale/sub-ln")
    #expect {
      try Model(opening: single, options: options)
    } throws: { error in
      (error as? Refusal)?.description
        == "\(single)/model.safetensors, 'modality = \(copy)': no tensor is of one of two modalities: none has a part A or B in its name; leave it out"
    }
  }

  @Test("The plain forward pass has the norms inside the branches, too")
  func plain() throws {
    let reference = try ReferenceLogits("torchscale/reference.safetensors", prefix: "sub-ln.")
    let network = try Model(opening: Fixtures.path("torchscale/sub-ln")).network
    var logits: [Double] = []
    for probe in reference.probes {
      var plain = PlainBackend(tokens: probe.tokens, positions: probe.positions)
      logits += try network.evaluate(on: &plain).flatMap { $0 }
    }
    let fast = try network.logits(on: FastBackend<Double>(probes: reference.probes)).all().array
    #expect(relativeDifference(logits, fast) <= 1e-13)
  }
}
