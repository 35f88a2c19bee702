import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Numerics
import Testing
import TestSupport

@testable import NormFoldTraining

/// What a recipe may ask for besides switches at once: text that is held out, norms that go over step by step, some kinds
/// of norms only.
@Suite struct ScheduleTests {
  private var recipe: Recipe

  init() throws { recipe = try Recipe(named: Fixtures.path("removal/settings.json")) }

  private func run(_ recipe: Recipe, tokens: TrainingTokens? = nil) throws -> TrainingRun<Double> {
    let model = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
    return try TrainingRun<Double>(
      model.network, namesAfter: model.layout.prefix, recipe: recipe,
      tokens: tokens ?? TrainingTokens(file: Fixtures.path("removal/tokens.bin")), workers: Workers(count: 2))
  }

  @Test("The loss on sequences that are held out is that of a step which trains on them")
  func heldOut() throws {
    let all = try TrainingTokens(file: Fixtures.path("removal/tokens.bin"))
    let count = recipe.sequencesPerStep
    let sequenceCount = all.count / recipe.context
    var holding = recipe
    holding.validation = .init(sequences: count, every: 5)
    let found = try #require(try run(holding).heldOutLoss())

    var training = recipe
    training.maskedTarget = nil
    let last = all[(sequenceCount - count) * recipe.context..<sequenceCount * recipe.context]
    let expected = try run(training, tokens: TrainingTokens(last, source: "the last sequences")).advance()
    #expect(abs(found - expected.loss) <= 1e-12)
    #expect(try run(recipe).heldOutLoss() == nil)
  }

  @Test("Sequences that are held out are not trained on: other tokens there change no step")
  func heldOutTokensAreNotRead() throws {
    let all = try TrainingTokens(file: Fixtures.path("removal/tokens.bin"))
    let count = recipe.sequencesPerStep + 3
    let ids = all[0..<count * recipe.context]
    var holding = recipe
    holding.schedule = nil
    holding.validation = .init(sequences: 3, every: 1)
    let end = recipe.sequencesPerStep * recipe.context
    let others = ids[..<end] + ids[end...].map { _ in 0 }
    let first = try run(holding, tokens: TrainingTokens(ids, source: ""))
    let second = try run(holding, tokens: TrainingTokens(Array(others), source: ""))
    for _ in 0..<3 { #expect(try first.advance() == second.advance()) }
    #expect(try first.heldOutLoss() != second.heldOutLoss())
  }

  @Test("A norm that goes over divides by the harmonic mean of its deviation and the constant")
  func taper() throws {
    #expect(TrainingRun<Double>.taperedShare(of: -1, in: 3) == 0)
    #expect(abs(TrainingRun<Double>.taperedShare(of: 1, in: 3) - 0.5) < 1e-15)
    #expect(TrainingRun<Double>.taperedShare(of: 3, in: 3) == 0)
    #expect(TrainingRun<Double>.taperedShare(of: 0, in: 0) == 0)

    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let path: Path = "blocks.1.mlp.norm"
    guard var norm = network[norm: path], case .computed(let epsilon) = norm.deviation else {
      Issue.record("no computed norm")
      return
    }
    norm.deviation = .fixed(.constant(1.25, shape: norm.gain.shape))
    network[norm: path] = norm
    network.blend(path, withComputed: 0.25, epsilon: epsilon)
    let operand = try #require(network.node(at: path.appending("computed"))?.operands[0])
    let backend = FastBackend<Double>(probes: [Probe(name: "", tokens: [5, 3, 8])])
    var execution = Execution(network, on: backend)
    var values: [Path: [Double]] = [:]
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage) { node, _, result in values[node.path] = result.array }
    }
    let (x, y) = (try #require(values[operand]), try #require(values[path]))
    let width = norm.gain.elementCount
    let gain = ParameterReader(norm.gain).values()
    let bias = try ParameterReader(#require(norm.bias)).values()
    for row in 0..<3 {
      let line = x[row * width..<(row + 1) * width]
      let mean = line.reduce(0, +) / Double(width)
      let deviation = Double.sqrt(line.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width) + epsilon)
      for column in 0..<width {
        let expected =
          (x[row * width + column] - mean) * (0.25 / deviation + 0.75 / 1.25) * gain[column] + bias[column]
        #expect(abs(y[row * width + column] - expected) <= 1e-12)
      }
    }
  }

  @Test("A tapered run begins as one without, its gradient in between is that of its loss, and it ends fixed")
  func taperedRun() throws {
    var atOnce = recipe
    // Its derivatives take the mean deviation for a constant; differences do not.
    atOnce.auxiliaryWeight = 0
    var tapered = atOnce
    tapered.taper = 3
    let (plain, run) = (try run(atOnce), try run(tapered))
    // The first norm is fixed before step 5.
    for _ in 0..<5 { #expect(try plain.advance() == run.advance()) }
    let (at, tapering) = (try plain.advance(), try run.advance())
    #expect(at.fixed == tapering.fixed && at.loss != tapering.loss)

    let loss = try run.computeGradients().loss
    let entry = try #require(run.parameters.entries.first { $0.name == "blocks.0.mlp.norm.weight" })
    let slope = run.parameters.gradients.values[entry.offset + 3]
    let step = 1e-5
    run.parameters.allValues[entry.offset + 3] += step
    let above = try run.computeGradients().loss
    run.parameters.allValues[entry.offset + 3] -= 2 * step
    let below = try run.computeGradients().loss
    run.parameters.allValues[entry.offset + 3] += step
    let found = (above - below) / (2 * step)
    #expect(abs(found - slope) <= 1e-8 * max(1, abs(slope)))
    #expect(loss.isFinite && slope != 0)

    while run.step < tapered.steps { _ = try run.advance() }
    #expect(try run.network(atStep: run.step - 1).norms.allSatisfy { $0.norm.isFixed })
    tapered.taper = tapered.steps
    #expect(throws: Refusal.self) { try self.run(tapered) }
  }

  @Test("Some kinds of norms only")
  func sites() throws {
    var half = recipe
    try half.keepSwitches(of: ["ln_2", "ln_1.v"])
    #expect(half.schedule?.starts.count == 2)
    #expect(half.schedule?.starts[.mlp] == recipe.schedule?.starts[.mlp])
    do throws(Refusal) {
      try half.keepSwitches(of: ["ln_f"])
      Issue.record("not refused")
    } catch {
      #expect(
        error.description
          == "'sites': expected kinds that the recipe's schedule has, found 'ln_f'; it has ln_2, ln_1.v")
    }

    let place = try TemporaryDirectory()
    var removal = Removal(
      source: Fixtures.path("tiny-2x32/vanilla"), destination: place / "out", targets: ["onnxruntime"])
    removal.text = .tokens(file: Fixtures.path("removal/tokens.bin"))
    removal.recipe = recipe
    removal.sites = ["ln_2", "ln_1.v"]
    removal.recipe.steps = 30
    removal.recipe.validation = .init(sequences: 4, every: 12)
    removal.validationLog = place / "held-out"
    let report = try removal.run()
    #expect(report.conversion.published)
    #expect(!report.conversion.outputs[0].isNormFree)
    #expect(report.validations.map(\.step) == [0, 12, 24, 30])
    #expect(report.deviationSamples.count == 30)
    let lines = try String(contentsOfFile: place / "held-out", encoding: .utf8).split(separator: "\n")
    #expect(lines.map(String.init) == report.validations.map(\.line))
  }

  @Test("A run that is asked to stop is saved, and goes on from there")
  func stop() throws {
    let place = try TemporaryDirectory()
    var removal = Removal(
      source: Fixtures.path("tiny-2x32/vanilla"), destination: place / "out", targets: ["transformers"])
    removal.text = .tokens(file: Fixtures.path("removal/tokens.bin"))
    removal.recipe = recipe
    removal.stops = { true }
    do throws(Refusal) {
      _ = try removal.run()
      Issue.record("it did not stop")
    } catch {
      #expect(error.category == .interrupted)
      #expect(error.problem == "was saved after step 1 of \(recipe.steps), as was asked for")
    }
    removal.stops = { false }
    removal.resumes = true
    #expect(try removal.run().conversion.published)
  }
}
