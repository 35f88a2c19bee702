import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldTraining

/// The removal that `fixtures/generate/removal.py` did in PyTorch, step by step.
@Suite struct RemovalTests {
  private let reference: Reference
  private let recipe: Recipe

  init() throws {
    reference = try Reference()
    recipe = try Recipe(named: Fixtures.path("removal/settings.json"))
  }

  private func run<Scalar: ArithmeticScalar>(as scalar: Scalar.Type) throws -> (Model, TrainingRun<Scalar>) {
    let model = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
    let run = try TrainingRun<Scalar>(
      model.network, namesAfter: model.layout.prefix, recipe: recipe,
      tokens: TrainingTokens(file: Fixtures.path("removal/tokens.bin")), workers: Workers(count: 2))
    return (model, run)
  }

  @Test("Every step, deviation and weight is PyTorch's, and what is left is folded and proved")
  func wholeRun() throws {
    let directory = try TemporaryDirectory()
    var removal = Removal(
      source: Fixtures.path("tiny-2x32/vanilla"), destination: directory.path + "/out", targets: ["transformers"])
    removal.text = .tokens(file: Fixtures.path("removal/tokens.bin"))
    removal.recipe = recipe
    removal.precision = .double
    removal.log = directory.path + "/log"
    let report = try removal.run()
    #expect(report.conversion.published)
    #expect(report.conversion.outputs[0].isNormFree)

    let losses = reference.values("run.loss")
    #expect(report.records.count == losses.count)
    for (index, record) in report.records.enumerated() {
      #expect(abs(record.loss - losses[index]) <= 1e-10)
      #expect(abs(record.auxiliary - reference.values("run.aux")[index]) <= 1e-10)
      #expect(abs(record.gradientNorm - reference.values("run.gradient_norm")[index]) <= 1e-10)
      #expect(abs(record.rate - reference.values("run.lr")[index]) <= 1e-18)
    }
    let switches = report.records.flatMap { record in record.fixed.map { "\(record.step) \($0)" } }
    #expect(
      switches == [
        "5 h.0.ln_2", "8 h.1.ln_2", "11 h.0.ln_1.qk", "14 h.1.ln_1.qk", "17 h.0.ln_1.v", "21 h.1.ln_1.v", "25 ln_f",
      ])
    let lines = try String(contentsOfFile: directory.path + "/log", encoding: .utf8).split(separator: "\n")
    #expect(lines.count == losses.count)
    #expect(lines[5].hasPrefix("{\"step\": 5, \"lr\": 0.001, \"loss\": 4.30"))
    #expect(lines[5].hasSuffix(", \"fixed\": [\"h.0.ln_2\"]}"))

    // Key biases apart, whose gradients are zero but for rounding.
    let written = try Checkpoint(safetensors: removal.checkpoint + "/model.safetensors")
    var compared = 0
    for tensor in reference.checkpoint.tensors where tensor.name.hasPrefix("final.") {
      let name = String(tensor.name.dropFirst("final.".count))
      let found = try #require(written[name]).decoded(as: Double.self)
      let third = found.count / 3
      for (index, expected) in tensor.decoded(as: Double.self).enumerated() {
        if name.hasSuffix("attn.c_attn.bias"), (third..<2 * third).contains(8 * index) { continue }
        #expect(abs(found[8 * index] - expected) <= 1e-10, "\(name)")
        compared += 1
      }
    }
    #expect(compared > 4_000)
    for name in ["h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f"] {
      let found = try #require(written["transformer.\(name).average_std_buffer"]).decoded(as: Double.self)[0]
      #expect(abs(found - reference.values("deviations.\(name)")[0]) <= 1e-12, "\(name)")
    }
  }

  @Test("The gradient in the middle of the schedule, before clipping")
  func gradients() throws {
    let (model, run) = try run(as: Double.self)
    for _ in 0..<16 { _ = try run.advance() }
    _ = try run.computeGradients()
    let gradients = run.parameters.network(reading: run.parameters.gradients)
    for (slot, value) in model.layout.tensors(of: gradients, sizes: model.hyperparameters) {
      guard let expected = reference.checkpoint["gradients.\(model.layout.fullName(of: slot))"] else {
        #expect(slot.parameters == ["unembedding.weight"])
        continue
      }
      let found = ParameterReader(value).values()
      for (index, number) in expected.decoded(as: Double.self).enumerated() {
        #expect(abs(found[8 * index] - number) <= 1e-12, "\(slot.name)")
      }
    }
  }

  @Test("Single precision stays as close to double as PyTorch's does")
  func singlePrecision() throws {
    let (_, run) = try run(as: Float.self)
    for index in 0..<12 {
      let record = try run.advance()
      #expect(abs(record.loss - reference.values("run.loss")[index]) <= 5e-6)
      let norm = reference.values("run.gradient_norm")[index]
      #expect(abs(record.gradientNorm - norm) <= 2e-5 * norm)
    }
  }

  @Test("A run that was saved and goes on has the bits of one that was not")
  func resumption() throws {
    let directory = try TemporaryDirectory()
    let stored = TrainingCheckpoint(at: directory.path + "/out.removal")
    let identity = TrainingCheckpoint.Identity(recipe: recipe, tokens: 5, precision: .single)
    let (model, whole) = try run(as: Float.self)
    var history = TrainingHistory()
    for step in 0..<15 {
      if step == 12 {
        try stored.write(whole, of: model, identity, history: history, beside: [], marksNorms: true)
      }
      history.append(try whole.advance(), deviations: whole.deviations, of: 40)
    }
    let (_, resumed) = try run(as: Float.self)
    var other = try stored.restore(resumed, identity)
    #expect(resumed.step == 12)
    for _ in 12..<15 { other.append(try resumed.advance(), deviations: resumed.deviations, of: 40) }
    #expect(other == history)
    #expect(other.samples.count == 15)
    #expect(Array(resumed.parameters.allValues) == Array(whole.parameters.allValues))
    #expect(resumed.parameters.secondMoments.array == whole.parameters.secondMoments.array)

    // The half-way state reads as a network with some norms fixed.
    let half = try Model(opening: stored.path)
    #expect(half.dialect.displayName == "FakeLayerNorm training checkpoint")
    #expect(half.network[norm: "blocks.0.mlp.norm"]?.isFixed == true)
    #expect(half.network[norm: "blocks.0.attention.norm"]?.isFixed == true)
    #expect(half.network[norm: "blocks.0.attention.norm.value"]?.isComputed == true)
    #expect(half.network[norm: "blocks.1.attention.norm"]?.isComputed == true)
    var faster = recipe
    faster.rate = 1
    #expect(throws: Refusal.self) {
      try stored.restore(resumed, .init(recipe: faster, tokens: 5, precision: .single))
    }
    #expect(throws: Refusal.self) {
      try stored.restore(resumed, .init(recipe: recipe, tokens: 6, precision: .single))
    }
  }

  @Test("A gradient that is no number ends the run before it reaches the weights")
  func notFinite() throws {
    let (_, run) = try run(as: Double.self)
    for _ in 0..<6 { _ = try run.advance() }
    let entry = try #require(run.parameters.entries.first { $0.name == "blocks.1.mlp.output.weight" })
    run.parameters.allValues[entry.offset] = .infinity
    let before = Array(run.parameters.allValues)
    #expect {
      try run.advance()
    } throws: { error in
      let refusal = error as? Refusal
      return refusal?.category == .nonFinite && refusal?.advice.description.contains("fixed is h.0.ln_2;") == true
    }
    #expect(Array(run.parameters.allValues) == before)
  }
}
