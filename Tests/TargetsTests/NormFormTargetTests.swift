import Foundation
import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// What is written of networks that keep their norms, in each form, and what the defining program says of it.
@Suite struct NormFormTargetTests {
  struct Source: CustomTestStringConvertible, Sendable {
    let path: String
    let reference: String
    let prefix: String
    var testDescription: String { path }

    static let all = [
      Source(path: "found/capp-gpt", reference: "found/capp-gpt/reference.safetensors", prefix: ""),
      Source(
        path: "shakespeare-4x128/vanilla", reference: "shakespeare-4x128/reference/reference.safetensors",
        prefix: "vanilla."),
    ]
  }

  private static func readBack(_ converted: Converted, _ source: Source) throws -> Double {
    let reference = try ReferenceLogits(source.reference, prefix: source.prefix)
    let written = try Model(opening: converted.path)
    let logits = try (written.literalNetwork ?? written.network).logits(
      on: FastBackend<Double>(probes: reference.probes)
    ).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test(
    "Every claim holds, and what is read back computes the defining program's logits", arguments: NormForm.allCases,
    Source.all)
  func transformers(_ form: NormForm, source: Source) throws {
    let converted = try Converted(Fixtures.path(source.path), to: "transformers") { $0.normForm = form }
    #expect(converted.report.published)
    let claims = try #require(converted.report.verification).targets[0]
    #expect(claims.judgement.double.logits.relative <= Verification.algebraLimit)
    #expect(converted.report.outputs[0].hasComputedNorms)
    #expect(converted.report.outputs[0].normForm == form)
    let written = try Model(opening: converted.path).network
    let original = try Model(opening: Fixtures.path(source.path)).network
    #expect(written.norms.count == original.norms.count)
    #expect(written.norms.allSatisfy { $0.norm.kind == form.kind })
    #expect(written.norms.map(\.norm.deviation) == original.norms.map(\.norm.deviation))
    #expect(written.streamWidth == original.streamWidth - (form == .crms ? 1 : 0))
    #expect(written.attentions.map(\.attention) == original.attentions.map(\.attention))
    // Single-precision weights.
    #expect(try Self.readBack(converted, source) <= 2e-6)
  }

  @Test("The graph computes the same, and RMSNorm subtracts nothing", arguments: NormForm.allCases, Source.all)
  func onnxruntime(_ form: NormForm, source: Source) throws {
    let converted = try Converted(Fixtures.path(source.path), to: "onnxruntime") { $0.normForm = form }
    #expect(converted.report.published)
    let graph = try ONNXGraph(reading: converted.path)
    let counts = graph.operatorCounts
    #expect(counts["LayerNormalization"] == (form == .unit ? 9 : nil))
    #expect(counts["ReduceMean"] == (form == .rms ? 9 : nil))
    #expect(counts["ReduceSum"] == (form == .crms ? 9 : nil))
    // The mean is of squares, and the only difference that is left counts past tokens.
    let makers = Dictionary(uniqueKeysWithValues: graph.nodes.flatMap { node in node.outputs.map { ($0, node) } })
    for node in graph.nodes where node.operation == "ReduceMean" {
      #expect(makers[node.inputs[0]]?.operation == "Pow")
    }
    #expect(graph.nodes.filter { $0.operation == "Sub" }.map(\.outputs) == [["mask.past_count"]])

    let reference = try ReferenceLogits(source.reference, prefix: source.prefix)
    let evaluator = try ONNXEvaluator(graph)
    let tokens = Array(reference.probes[0].tokens.prefix(reference.positions[1] + 1))
    let logits = try evaluator.logits(tokens: tokens)
    let width = reference.double.count / reference.probes.count / reference.positions.count
    let found = logits[(reference.positions[1] * width)...]
    let expected = reference.double[width..<2 * width]
    let largest = reference.double.reduce(0) { max($0, abs($1)) }
    #expect(found.count == width)
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 2e-6 * largest })
  }

  @Test("In half precision norms are computed in single", arguments: [NormForm.rms, .crms])
  func halfPrecision(_ form: NormForm) throws {
    let converted = try Converted(Fixtures.path("tiny-2x32/vanilla"), to: "onnxruntime", type: .f16) {
      $0.normForm = form
    }
    #expect(converted.report.published)
    let graph = try ONNXGraph(reading: converted.path)
    // There and back for each of five norms, and the mask.
    #expect(graph.operatorCounts["Cast"] == 11)
    #expect(graph.initializers.filter { $0.name.hasSuffix(".epsilon") }.map(\.type) == [.f32])
  }

  @Test("Half-removed: the fixed norms fold, the others take the form", arguments: ["transformers", "onnxruntime"])
  func partial(_ target: String) throws {
    let converted = try Converted(Fixtures.path("shakespeare-4x128/fakeln-partial-safetensors"), to: target) {
      $0.normForm = .crms
    }
    #expect(converted.report.published)
    #expect(converted.report.outputs[0].keptNormCount == 3)
    guard target == "transformers" else { return }
    let written = try Model(opening: converted.path).network
    // Queries and keys are folded already; the values of the last two blocks read a norm, and so does the unembedding.
    #expect(
      written.norms.map(\.path) == ["blocks.2.attention.norm", "blocks.3.attention.norm", "final.norm"])
    #expect(written.norms.allSatisfy { $0.norm.kind == .crms })
  }

  @Test("The stock class has its norms without gain and bias, but for the last", arguments: ["gpt2", "llama.cpp"])
  func unit(_ target: String) throws {
    let source = Source.all[1]
    let converted = try Converted(Fixtures.path(source.path), to: target) {
      $0.normForm = .unit
      $0.readingOptions.tokenizer = .directory(Fixtures.path("shakespeare-4x128/tokenizer"))
    }
    #expect(converted.report.published)
    #expect(converted.report.outputs[0].notes.contains { $0.description.contains("keeps its gain and bias") })
    let written = try Model(opening: converted.path)
    #expect(written.dialect.displayName == "ordinary: every norm is computed")
    #expect(written.network.isTied)
    #expect(written.network.norms.count == 9)
    for (path, norm) in written.network.norms {
      #expect(norm.deviation == .computed(epsilon: 1e-5))
      let isBare = ParameterReader(norm.gain).values().allSatisfy { $0 == 1 }
      #expect(isBare == (path != "final.norm"))
      #expect(norm.bias.map { ParameterReader($0).values().allSatisfy { $0 == 0 } } == isBare)
    }
    #expect(try Self.readBack(converted, source) <= 2e-6)
  }

  @Test("In blocks, too, gains move as asked")
  func quantised() throws {
    let converted = try Converted(Fixtures.path("tiny-2x32/vanilla"), type: .q8_0) {
      $0.normForm = .unit
      $0.readingOptions.tokenizer = .directory(Fixtures.path("tiny-2x32/tokenizer"))
    }
    #expect(converted.report.published)
    let written = try Model(opening: converted.path).network
    #expect(ParameterReader(try #require(written[norm: "blocks.0.mlp.norm"]?.gain)).values().allSatisfy { $0 == 1 })
  }

  struct Incapable: CustomTestStringConvertible, Sendable {
    let target: String
    let form: NormForm
    let message: String
    var testDescription: String { "\(target), \(form.rawValue)" }

    static let all: [Incapable] =
      ["gpt2", "llama.cpp"].flatMap { target in
        [
          Incapable(
            target: target, form: .rms,
            message:
              "'RMSNorm': the target \(target) computes LayerNorms only; use targets = transformers or targets = onnxruntime"
          ),
          Incapable(
            target: target, form: .crms,
            message:
              "'CRMSNorm': the target \(target) computes LayerNorms only, and its residual stream is as wide as its "
              + "heads together; use targets = transformers or targets = onnxruntime"),
        ]
      }
      + NormForm.allCases.map { form in
        Incapable(
          target: "transformer-lens", form: form,
          message: "'\(form.kind.displayName)': the target transformer-lens computes no norms; "
            + "use \(form == .unit ? "targets = transformers or targets = gpt2 or targets = llama.cpp or targets = onnxruntime" : "targets = transformers or targets = onnxruntime")"
        )
      }
  }

  @Test("A target that cannot hold a form says why", arguments: Incapable.all)
  func incapable(_ given: Incapable) throws {
    let refusal = #expect(throws: Refusal.self) {
      try Converted(Fixtures.path("tiny-2x32/vanilla"), to: given.target) { $0.normForm = given.form }
    }
    #expect(refusal?.description == given.message)
    #expect(refusal?.category == .unsupported)
    // As a plan, too.
    let planned = #expect(throws: Refusal.self) {
      var conversion = Conversion(
        source: Fixtures.path("tiny-2x32/vanilla"), destination: "unused", targets: [given.target])
      conversion.normForm = given.form
      _ = try ConversionPlan(of: conversion)
    }
    #expect(planned == refusal)
  }

  @Test("What was written in a form can be converted again, where its target can hold it")
  func again() throws {
    for form in [NormForm.rms, .crms] {
      let first = try Converted(Fixtures.path("tiny-2x32/vanilla"), to: "transformers") { $0.normForm = form }
      let second = try Converted(first.path, to: "onnxruntime") { $0.allowsPartial = true }
      #expect(second.report.published)
      #expect(try ONNXGraph(reading: second.path).operatorCounts["LayerNormalization"] == nil)
      let stock = #expect(throws: Refusal.self) { try Converted(first.path, to: "gpt2") { $0.allowsPartial = true } }
      #expect(stock?.problem.contains(form.kind.displayName) == true || stock?.subject == "lm_head.bias")
    }
  }

  @Test("A form of which one tensor was written wrongly is not published")
  func broken() throws {
    let place = try TemporaryDirectory()
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/vanilla"), destination: place / "out", targets: ["transformers"])
    conversion.normForm = .rms
    conversion.output = { (target, network, model, options) throws(Refusal) in
      var altered = network
      altered[table: "embedding.positions"] = model.network[table: "embedding.positions"]
      return try target.output(of: altered, from: model, options: options)
    }
    let report = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let claims = try #require(report.verification).targets[0]
    #expect(claims.algebraHolds)
    #expect(!claims.arithmeticHolds)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)
  }
}
