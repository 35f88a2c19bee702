import ArgumentParser
import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTraining

/// Training of a network on tokens without meaning, every norm computed, one micro-batch a step.
final class RandomTraining {
  let model: Model
  private let place: URL

  init(of checkpoint: String, sequences: Int, length: Int) throws {
    model = try Model(opening: checkpoint)
    place = FileManager.default.temporaryDirectory.appending(path: "normfold-training-\(getpid())")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    let recipe = """
      {"context": \(length), "batch": \(sequences), "micro_batches": 1, "steps": 1000, "lr": 1e-4, "min_lr": 1e-4, "warmup": 0,
       "betas": [0.9, 0.999], "adam_eps": 1e-8, "weight_decay": 0.01, "clip": 1.0, "momentum": 0.9, "schedule": {}}
      """
    try Data(recipe.utf8).write(to: place.appending(path: "recipe.json"))
    let ids = (0..<64 * sequences * length).map { UInt16($0 * 769 % 50_000) }
    try ids.withUnsafeBytes { try Data($0).write(to: place.appending(path: "tokens.bin")) }
  }

  deinit { try? FileManager.default.removeItem(at: place) }

  func run(_ workers: Workers) throws -> TrainingRun<Float> {
    try TrainingRun<Float>(
      model.network, namesAfter: model.layout.prefix,
      recipe: Recipe(named: place.appending(path: "recipe.json").path),
      tokens: TrainingTokens(file: place.appending(path: "tokens.bin").path), workers: workers)
  }
}

/// A step of training in single precision against its matrix products alone, each of them whole, one sequence to a thread.
struct Step: ParsableCommand {
  @Argument(help: "A GPT-2 whose norms are computed.") var checkpoint: String
  @Option(help: "Sequences of the micro-batch.") var sequences = 4
  @Option(help: "Tokens of each.") var length = 256
  @Option var rounds = 5
  @Option var threads = 2
  @Flag(help: "Run the steps alone, as for a profiler.") var stepsAlone = false

  func run() throws {
    let training = try RandomTraining(of: checkpoint, sequences: sequences, length: length)
    prepareProcessForArithmetic()
    let workers = Workers(count: threads)
    let run = try training.run(workers)
    let products = Products(of: training.model.network, tokenCount: length, isTraining: true)
    let operands = (0..<sequences).map { _ in Products.Operands(for: products) }
    var steps: [Double] = []
    var alone: [Double] = []
    for round in 0...rounds {
      let whole = try seconds { _ = try run.advance() }
      let bare = stepsAlone ? nil : seconds { workers.forEach(sequences) { products.run(on: operands[$0]) } }
      guard round > 0 else { continue }
      steps.append(whole)
      bare.map { alone.append($0) }
    }
    let tokens = Double(sequences * length)
    print("step of \(sequences) × \(length)\t\(tokens / steps.median)\ttokens/s")
    guard !stepsAlone else { return }
    print("its matrix products alone\t\(tokens / alone.median)\ttokens/s")
    print("products alone over the step\t\(zip(alone, steps).map { $0 / $1 }.median)\tratio")
    // Where neighbours slow down single rounds, these two are from the quiet ones.
    print("fastest products over the fastest step\t\((alone.min() ?? 0) / (steps.min() ?? 1))\tratio")
  }
}
