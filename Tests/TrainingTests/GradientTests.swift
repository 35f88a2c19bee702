import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldTraining

/// Derivatives of the whole loss by parameters of every kind, against central differences in double precision.
@Suite struct GradientTests {
  @Test(
    "Derivatives are differences: every architecture, every kind of norm site",
    arguments: ["tiny-2x32/vanilla", "gpt-neox/parallel", "gpt-neox/sequential", "llama/random", "opt/gelu"])
  func differences(model: String) throws {
    let run = try Self.run(on: model, context: 6, microBatches: 1)
    // All norms before MLPs are fixed then, those before attention for queries and keys only, the last one is computed.
    for _ in 0..<5 { _ = try run.advance() }
    _ = try run.computeGradients()
    let gradients = run.parameters.gradients.array
    var generator = SplitMix64(state: 3)
    for entry in run.parameters.entries where [nil, 0].contains(Path(entry.name).block) {
      let row = Int(generator.next() % UInt64(entry.count))
      // A row of a table that no token reads has no derivative.
      let place = entry.offset + (entry.name == "embedding.positions.weight" ? row % (5 * entry.shape[1]) : row)
      let value = run.parameters.allValues[place]
      let step = 1e-5 * max(1, abs(value))
      run.parameters.allValues[place] = value + step
      let above = try run.computeGradients().loss
      run.parameters.allValues[place] = value - step
      let below = try run.computeGradients().loss
      run.parameters.allValues[place] = value
      let difference = (above - below) / (2 * step)
      #expect(abs(difference - gradients[place]) <= 1e-9 + 1e-6 * abs(difference), "\(model), \(entry.name)")
    }
  }

  @Test("The number of threads and what is kept change no bit")
  func bits() throws {
    var found: [[Double]] = []
    for (threads, recomputesBlocks) in [(1, false), (2, false), (2, true)] {
      let run = try Self.run(on: "gpt-neox/parallel", recomputesBlocks: recomputesBlocks, threads: threads)
      for _ in 0..<3 { _ = try run.advance() }
      found.append(Array(run.parameters.allValues))
    }
    #expect(found[0] == found[1])
    #expect(found[0] == found[2])
  }

  private static func run(
    on model: String, context: Int = 9, microBatches: Int = 2, recomputesBlocks: Bool = false, threads: Int = 2
  ) throws -> TrainingRun<Double> {
    let model = try Model(opening: Fixtures.path(model))
    var recipe = Recipe()
    (recipe.context, recipe.batch, recipe.microBatches, recipe.steps, recipe.rate) = (
      context, 2, microBatches, 20, 1e-3
    )
    recipe.maskedTarget = 7
    recipe.schedule = Schedule([
      .mlp: .init(step: 2), .queriesAndKeys: .init(step: 4), .values: .init(step: 8), .last: .init(step: 9),
    ])
    var generator = SplitMix64(state: 1)
    let ids = (0..<400).map { _ in Int(generator.next() % UInt64(model.network.vocabularySize)) }
    return try TrainingRun(
      model.network, namesAfter: model.layout.prefix, recipe: recipe, tokens: TrainingTokens(ids, source: "test"),
      workers: Workers(count: threads), recomputesBlocks: recomputesBlocks)
  }
}
