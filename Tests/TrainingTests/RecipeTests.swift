import NormFold
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldTraining

@Suite struct RecipeTests {
  @Test("The published schedules: arXiv 2409.13710, and 2507.02559 as its authors' code has them")
  func published() throws {
    // First step of ln_2, of q and k, of v, of ln_f; steps; sequences a step.
    let table: [String: [Int]] = [
      "gpt2-small-2024": [200, 440, 680, 1_040, 1_200, 480], "gpt2-small": [20, 44, 68, 104, 300, 480],
      "gpt2-small-aux": [20, 44, 68, 104, 300, 512], "gpt2-medium-aux": [20, 68, 116, 188, 500, 506],
      "gpt2-large-aux": [30, 174, 318, 534, 600, 504], "gpt2-xl-aux": [50, 242, 434, 722, 800, 504],
    ]
    for (name, numbers) in table {
      let recipe = try #require(Recipe.published(named: name))
      let schedule = try #require(recipe.schedule)
      let starts = [Schedule.Kind.mlp, .queriesAndKeys, .values, .last].map { schedule.starts[$0]?.step }
      #expect(starts + [recipe.steps, recipe.sequencesPerStep] == numbers, "\(name)")
      #expect(try Recipe(recipe.json, file: "") == recipe)
    }
    #expect(Recipe.published.count == 9)
  }

  @Test("Rates rise from 0 and follow a cosine: transformers' cosine_with_min_lr")
  func rates() throws {
    let recipe = try #require(Recipe.published(named: "gpt2-small-aux"))
    #expect(recipe.rate(atStep: 0) == 0)
    #expect(abs(recipe.rate(atStep: 5) - 1.2e-4) < 1e-18)
    #expect(recipe.rate(atStep: 25) == 6e-4)
    // Half-way of 275 steps the mean of both ends is not quite reached: 0.5·(1 + cos(137π/275)) of the difference.
    #expect(abs(recipe.rate(atStep: 162) - (3e-4 + 3e-4 * 0.502855977791)) < 1e-12)
  }

  @Test("Sequences follow each other, or come once each in an order that the seed decides, and again from the start")
  func order() throws {
    let plain = try TokenOrder(tokenCount: 1_003, context: 10, shuffle: nil, source: "")
    #expect(plain.range(ofSequence: 99) == 990..<1_000)
    #expect(plain.range(ofSequence: 100) == 0..<10)
    let shuffled = try TokenOrder(tokenCount: 1_003, context: 10, shuffle: 1, source: "")
    let first = (0..<100).map { shuffled.range(ofSequence: $0).lowerBound }
    #expect(first != first.sorted())
    #expect(first.sorted() == (0..<100).map { 10 * $0 })
    let second = (100..<200).map { shuffled.range(ofSequence: $0).lowerBound }
    #expect(second != first)
    #expect(second.sorted() == first.sorted())
  }

  @Test(
    "What is wrong with a recipe is said in one sentence",
    arguments: [
      ("{\"context\": 1}", "r, 'context': expected a whole number from 2 to 1048576, found 1"),
      (
        "{\"context\": 8, \"batch\": 1, \"micro_batches\": 1, \"steps\": 9, \"lr\": \"high\"}",
        "r, 'lr': expected a number from 0.0 to 1.0, found \"high\""
      ),
      (
        "{\"context\": 8, \"batch\": 1, \"micro_batches\": 1, \"steps\": 9, \"lr\": 0.1, \"schedule\": {\"ln_2\": [0, 2]}}",
        "r at byte 83, 'schedule.ln_2': expected the first step, 1 or more, and the steps between layers, as in [20, 2]"
      ),
      (
        "{\"context\": 8, \"batch\": 1, \"micro_batches\": 1, \"steps\": 9, \"lr\": 0.1, \"schedule\": {\"ln_3\": [1, 2]}}",
        "r at byte 83, 'schedule.ln_3': is no kind of norm; known are ln_2, ln_1.qk, ln_1.v, ln_f"
      ),
    ])
  func refusals(text: String, sentence: String) throws {
    #expect {
      try Recipe(JSONValue(parsing: Array(text.utf8).span.bytes, file: "r"), file: "r")
    } throws: { "\($0)" == sentence }
  }

  @Test("A recipe that does not fit the model, or a model that cannot be trained, is refused before the first step")
  func fitting() throws {
    let tiny = try Model(opening: Fixtures.path("tiny-2x32/vanilla"))
    func refusal(_ model: Model, _ change: (inout Recipe) -> Void) throws -> String {
      var recipe = try Recipe(named: Fixtures.path("removal/settings.json"))
      change(&recipe)
      do {
        _ = try TrainingRun<Double>(
          model.network, namesAfter: "", recipe: recipe, tokens: TrainingTokens([1, 2, 3], source: "text"),
          workers: Workers(count: 1))
        return ""
      } catch { return "\(error)" }
    }
    #expect(
      try refusal(tiny) { $0.context = 65 } == "'context': expected at most 64 tokens, the model's context, found 65")
    #expect(
      try refusal(tiny) { $0.steps = 21 }.hasSuffix("and the run has 21"))
    #expect(try refusal(tiny) { _ in } == "text: has 3 tokens, fewer than one sequence of 64; give more text")
    let fixed = try Model(opening: Fixtures.path("tiny-2x32/fakeln-safetensors"))
    #expect(
      try refusal(fixed) { _ in }.hasSuffix(
        "is fixed already; start from the checkpoint from before the removal"))
    let retNet = try Model(opening: Fixtures.path("retnet/xatl"))
    #expect(
      try refusal(retNet) { _ in }
        == "'blocks.0.attention.group': is read by a product of two values, which no fixed norm can be folded into; this works "
        + "for networks whose norms stand before linear maps")
  }

  @Test("A name that is no recipe, and a missing schedule, are refused")
  func names() throws {
    #expect {
      try Recipe(named: "gpt3")
    } throws: {
      "\($0)".hasPrefix("'recipe': expected a name or a file, found neither a recipe nor a file 'gpt3'; known are")
    }
    let removal = Removal(source: "", destination: "x", targets: ["transformers"])
    #expect {
      try removal.run()
    } throws: {
      "\($0)" == "'recipe': has no schedule, so that no norm would be removed; give it one, or ask for the control run"
    }
  }

  @Test("A plan counts tokens, operations and bytes: GPT-2's of width 32 and two blocks, by hand")
  func plan() throws {
    var removal = Removal(source: Fixtures.path("tiny-2x32/vanilla"), destination: "", targets: [])
    removal.recipe = try Recipe(named: Fixtures.path("removal/settings.json"))
    let plan = try RemovalPlan(of: removal)
    #expect(plan.tokenCount == 60 * 512)
    // 12d² in each block and the unembedding of 512 entries, 6 operations each; attention 6·T·d in each block.
    let (blocks, head) = (6.0 * 2 * (12 * 32 * 32 + 64 * 32), 6.0 * 512 * 32)
    #expect(plan.operationsPerToken == blocks + head)
    #expect(plan.switches.map(\.lastStep) == [8, 14, 21, 25])
    // For each token the streams (embedding, middle and end of two blocks), and in each block 3d + d + 4d.
    let kept = 5 * 32 + 2 * 8 * 32
    // Derivatives by the values of an MLP (d + d + 4d + 4d + d) and an attention (7d), which are there at the same time.
    let derivatives = 18 * 32
    #expect(plan.byteCount == 4 * (4 * plan.parameterCount + (kept + derivatives) * 128 + 63 * (512 + 32)))
    removal.recomputesBlocks = true
    #expect(try RemovalPlan(of: removal).operationsPerToken == blocks * 4 / 3 + head)
  }
}
