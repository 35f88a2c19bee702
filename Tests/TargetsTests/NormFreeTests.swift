import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// GPT-2 trained without norms, its activations ReLUs (arXiv 2410.09637): read, written, refused.
@Suite struct NormFreeTests {
  private static let forms = ["relu", "leaky", "global", "per-layer"]

  private static func source(_ form: String) -> String { Fixtures.path("norm-free/" + form) }

  @Test("Blocks have no norms, the last one is real, and each block has its own slope")
  func read() throws {
    let slopes: [String: [Double?]] = [
      "relu": [nil, nil], "leaky": [0.125, 0.125], "global": [0.31, -0.17], "per-layer": [0.29, 0.043],
    ]
    for form in Self.forms {
      let model = try Model(opening: Self.source(form))
      #expect(model.dialect.displayName == "trained without norms in its blocks; the last one is computed")
      #expect(model.network.norms.map(\.path) == ["final.norm"])
      #expect(model.network[norm: "final.norm"]?.deviation == .computed(epsilon: 1e-5))
      #expect(model.network.isTied)
      #expect(model.network.contextLength == 24)
      let found = model.network.activations.map(\.negativeSlope)
      // Learned in single precision.
      for (a, b) in zip(found, try #require(slopes[form])) {
        #expect(a == b || abs((a ?? .nan) - (b ?? .nan)) <= 1e-8, "\(form): \(found)")
      }
      #expect(
        model.network.activations.map(\.configName)
          == Array(repeating: form == "relu" ? "relu" : "leaky_relu", count: 2))
    }
    let ordinary = try Model(opening: Self.source("ln"))
    #expect(ordinary.dialect.displayName == "ordinary: every norm is computed")
    #expect(ordinary.network.norms.count == 5)
    #expect(ordinary.network.activations == [.geluErf, .geluErf])
  }

  @Test(
    "Converted, it computes what the defining program does; the last norm stays, bare",
    arguments: forms + ["ln"], ["transformers", "onnxruntime"])
  func converts(_ form: String, target: String) throws {
    let converted = try Converted(Self.source(form), to: target) { $0.allowsPartial = true }
    #expect(converted.report.published)
    let claims = try #require(converted.report.verification).targets[0]
    #expect(claims.judgement.double.logits.relative <= Verification.algebraLimit)
    #expect(!converted.report.outputs[0].isNormFree)
    #expect(converted.report.outputs[0].hasComputedNorms)
    let reference = try ReferenceLogits("norm-free/reference.safetensors", prefix: form + ".")
    let logits: [Double]
    if target == "transformers" {
      let written = try Model(opening: converted.path)
      #expect(
        written.network.activations == (try Model(opening: Self.source(form)).network.activations))
      logits = reference.select(try written.network.logits(on: FastBackend<Double>(probes: reference.probes)).all())
    } else {
      let graph = try ONNXGraph(reading: converted.path)
      #expect(graph.operatorCounts["LayerNormalization"] == (form == "ln" ? 5 : 1))
      #expect(graph.operatorCounts[form == "relu" ? "Relu" : form == "ln" ? "Erf" : "LeakyRelu"] == 2)
      let evaluator = try ONNXEvaluator(graph)
      logits = try reference.probes.flatMap { probe in
        let all = try evaluator.logits(tokens: probe.tokens)
        return reference.positions.flatMap { all[$0 * 40..<($0 + 1) * 40] }
      }
    }
    #expect(reference.relativeDifference(logits) <= 1e-6)
  }

  @Test("A slope of another block is caught")
  func broken() throws {
    let place = try TemporaryDirectory()
    var conversion = Conversion(
      source: Self.source("per-layer"), destination: place / "out", targets: ["transformers"])
    conversion.allowsPartial = true
    conversion.output = { (target, network, model, options) throws(Refusal) in
      var altered = network
      altered.setActivations(network.activations[1])
      return try target.output(of: altered, from: model, options: options)
    }
    let report = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    #expect(!report.holds)
    #expect(!report.published)
  }

  private static func message(_ form: String, _ target: String, partial: Bool = true) -> String? {
    let refusal = #expect(throws: Refusal.self) {
      try Converted(source(form), to: target) { $0.allowsPartial = partial }
    }
    return refusal?.description
  }

  @Test("Runtimes that insist on norms, or on GPT-2's activation, are refused for that reason")
  func refused() throws {
    #expect(
      Self.message("relu", "gpt2")
        == "'gpt2': the blocks read the residual stream as it is, and a LayerNorm, however near an identity, subtracts "
        + "its mean; use targets = transformers or targets = onnxruntime")
    #expect(
      Self.message("per-layer", "gpt2")
        == "'leaky_relu': the target gpt2 has leaky ReLU with a slope of 0.01 only, found 0.29; use targets = transformers"
    )
    #expect(
      Self.message("relu", "llama.cpp")
        == "'relu': the target llama.cpp has gelu_new only for a GPT-2, which differs from this one "
        + "by up to 0.17 in each hidden unit; use targets = transformers")
    #expect(
      Self.message("relu", "transformer-lens")
        == "'transformer.ln_f': is still a norm, and the target transformer-lens has one normalization_type for all of "
        + "them, None; finish the removal, or use targets = transformers")
    // The last norm is computed, so that "norm-free" is never all of it.
    #expect(
      Self.message("relu", "transformers", partial: false)
        == "1 norm is not a linear map: transformer.ln_f: its deviation is still computed (epsilon 1e-05); finish the "
        + "removal, or pass allowsPartial to fold the rest and keep these")
  }
}
