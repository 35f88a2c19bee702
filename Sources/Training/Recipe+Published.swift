extension Recipe {
  /// A recipe that was published, by name, with what it is.
  public struct Published: Sendable {
    public let name: String
    public let summary: String
    public let recipe: Recipe
  }

  /// The recipes of arXiv 2409.13710 and 2507.02559 for the four sizes of GPT-2, with the schedules, rates and batches of
  /// the code of their authors. What differs here: weights and moments are single precision instead of bfloat16, there is no
  /// dropout, deviations are means over whole steps, gains do not decay, and the loss is a mean over all targets of a step.
  public static let published: [Published] = {
    var all = [
      Published(
        name: "gpt2-small-2024", summary: "arXiv 2409.13710: 1,200 steps of 480 × 1,024 tokens",
        recipe: first2024)
    ]
    for size in Size.all {
      for isRegularised in [false, true] {
        let recipe = size.recipe(isRegularised: isRegularised)
        all.append(
          Published(
            name: "gpt2-\(size.name)" + (isRegularised ? "-aux" : ""),
            summary: "arXiv 2507.02559\(isRegularised ? " with the auxiliary loss" : ""): \(recipe.steps) steps of "
              + "\(recipe.sequencesPerStep) × 1,024 tokens", recipe: recipe))
      }
    }
    return all
  }()

  public static func published(named name: String) -> Recipe? { published.first { $0.name == name }?.recipe }

  private static let endOfText = 50_256

  private static var first2024: Recipe {
    var recipe = Recipe()
    (recipe.batch, recipe.microBatches, recipe.steps, recipe.plannedSteps) = (10, 48, 1_200, 2_000)
    (recipe.rate, recipe.lowestRate, recipe.warmup) = (6e-4, 6e-5, 100)
    (recipe.betas, recipe.weightDecay) = ([0.9, 0.95], 0.1)
    recipe.endOfText = endOfText
    recipe.shuffle = 1
    recipe.momentum = 0.185
    recipe.schedule = Schedule(first: 200, blockCount: 12, gap: 20, valueGap: 30)
    return recipe
  }

  /// The settings that 2507.02559 gives for one size.
  private struct Size {
    let name: String
    let blockCount: Int
    let batch: (size: Int, count: Int)
    let steps: Int
    var plan: Int?
    let rates: (peak: Double, floor: Double)
    let warmup: Int
    let auxiliaryWeight: Double
    let first: Int
    let gaps: (Int, value: Int)

    static let all = [
      Size(
        name: "small", blockCount: 12, batch: (16, 32), steps: 300, rates: (6e-4, 3e-4), warmup: 25,
        auxiliaryWeight: 0.1, first: 20, gaps: (2, 3)),
      Size(
        name: "medium", blockCount: 24, batch: (23, 22), steps: 500, rates: (6e-4, 3e-4), warmup: 10,
        auxiliaryWeight: 0.1, first: 20, gaps: (2, 3)),
      Size(
        name: "large", blockCount: 36, batch: (18, 28), steps: 600, plan: 1_200, rates: (3e-4, 4e-5), warmup: 15,
        auxiliaryWeight: 0.03, first: 30, gaps: (4, 6)),
      Size(
        name: "xl", blockCount: 48, batch: (28, 18), steps: 800, plan: 1_200, rates: (1e-4, 2e-5), warmup: 20,
        auxiliaryWeight: 0.01, first: 50, gaps: (4, 6)),
    ]

    func recipe(isRegularised: Bool) -> Recipe {
      var recipe = Recipe()
      (recipe.batch, recipe.microBatches, recipe.steps, recipe.plannedSteps) = (batch.size, batch.count, steps, plan)
      (recipe.rate, recipe.lowestRate, recipe.warmup) = (rates.peak, rates.floor, warmup)
      recipe.weightDecay = 0.01
      recipe.auxiliaryWeight = isRegularised ? auxiliaryWeight : 0
      (recipe.maskedTarget, recipe.endOfText, recipe.shuffle) = (endOfText, endOfText, 1)
      recipe.momentum = 0.185
      recipe.schedule = Schedule(first: first, blockCount: blockCount, gap: gaps.0, valueGap: gaps.value)
      if name == "small", !isRegularised { (recipe.batch, recipe.microBatches, recipe.warmup) = (12, 40, 20) }
      return recipe
    }
  }
}
