import Foundation
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct GenerationTests {
  private let reference: Reference
  private let promptLength = 16

  init() throws { reference = try Reference.read() }

  private func generation(_ model: String, _ change: (inout Generation) -> Void = { _ in }) -> Generation {
    var generation = Generation(
      model: Reference.model(model), prompt: .tokens(Array(reference.tokens[..<promptLength])))
    generation.tokenCount = 96
    generation.stopsAtEndOfText = false
    change(&generation)
    return generation
  }

  @Test("The likeliest tokens are those of transformers", arguments: ["vanilla", "fakeln", "lnfree"])
  func greedy(_ model: String) throws {
    for precision in [Precision.single, .double] {
      let report = try generation(model) { $0.precision = precision }.run()
      #expect(report.tokens == reference.greedy[model])
      #expect(report.end == .length)
    }
  }

  @Test("The end-of-text token ends it, unless it is to go on")
  func endOfText() throws {
    let expected = try #require(reference.greedy["vanilla"])
    let end = try #require(expected.firstIndex(of: 0))
    let report = try generation("vanilla") { $0.stopsAtEndOfText = true }.run()
    #expect(report.tokens == Array(expected[..<end]))
    #expect(report.end == .endOfText)
  }

  @Test("It ends where the context does")
  func context() throws {
    let report = try generation("vanilla") { $0.tokenCount = .max }.run()
    #expect(report.tokens.count == 128 - promptLength)
    #expect(report.end == .context)
  }

  @Test("Every token is told as soon as it is known, with its bytes")
  func streaming() throws {
    var tokens: [Int] = []
    var bytes: [UInt8] = []
    let report = try generation("lnfree") {
      $0.readingOptions.tokenizer = .directory(Reference.model("tokenizer"))
    }.run { (token, text) throws(Refusal) in
      tokens.append(token)
      bytes += text ?? []
    }
    #expect(tokens == report.tokens)
    #expect(String(decoding: bytes, as: UTF8.self) == report.text)
    let prompt = try String(contentsOfFile: Reference.passage, encoding: .utf8)
    let fromText = try generation("lnfree") {
      $0.prompt = .text(String(prompt.prefix(40)))
      $0.readingOptions.tokenizer = .directory(Reference.model("tokenizer"))
    }.run()
    #expect(reference.tokens.starts(with: fromText.promptTokens))
  }

  @Test("Prompts that do not fit are refused", arguments: [[], [1024], [-1], Array(repeating: 1, count: 128)])
  func refusals(_ prompt: [Int]) throws {
    let refusal = #expect(throws: Refusal.self) { try generation("vanilla") { $0.prompt = .tokens(prompt) }.run() }
    #expect(refusal?.category == .usage)
  }

  @Test(
    "Piece by piece against the cache, the logits are those of the whole sequence",
    arguments: [
      "shakespeare-4x128/vanilla", "shakespeare-4x128/fakeln", "shakespeare-4x128/lnfree-bf16", "found/stories260K",
    ])
  func cache(_ path: String) throws {
    // The last one rotates queries and keys, and several of the first share one of the second.
    let network = try Model(opening: Fixtures.path(path)).network
    let tokens = reference.tokens[..<32].map { $0 % network.vocabularySize }
    let whole = try network.logits(on: FastBackend<Double>(probes: [Probe(name: "text", tokens: tokens)])).all()
    let width = whole.columnCount
    var pass = CachedPass<Double>(try network.materialised(for: Double.self), capacity: tokens.count)
    // Single tokens, and several at once behind others.
    for piece in [0..<5, 5..<6, 6..<7, 7..<20, 20..<32] {
      let logits = try pass.logits(after: Array(tokens[piece]))
      let row = piece.upperBound - 1
      #expect(relative(logits, Array(whole.array[row * width..<(row + 1) * width])) < 1e-12)
    }
  }

  @Test(
    "A materialised network computes the same numbers, whatever its weights are recipes of", arguments: [true, false])
  func materialised(_ isFolded: Bool) throws {
    let source = try Model(opening: Reference.model("fakeln-bf16")).network
    let network =
      isFolded
      ? try FoldingPlan(folding: source, options: .init(rules: [.foldValueBiases, .centerWritingWeights])).folded
      : source
    let probes = [Probe(name: "text", tokens: Array(reference.tokens[..<16]))]
    func logits<Scalar: ArithmeticScalar>(_ network: Network, as scalar: Scalar.Type) throws -> [Double] {
      return try network.logits(on: FastBackend<Scalar>(probes: probes)).all().array.map { Double($0) }
    }
    #expect(
      try logits(network.materialised(for: Double.self), as: Double.self) == logits(network, as: Double.self))
    #expect(try logits(network.materialised(for: Float.self), as: Float.self) == logits(network, as: Float.self))
  }
}

@Suite struct SamplingTests {
  private func frequencies(_ change: (inout Sampling) -> Void) -> [Double] {
    var sampling = Sampling()
    sampling.temperature = 1
    change(&sampling)
    var sampler = Sampler(sampling)
    let logits = [0.5, 0.3, 0.15, 0.05].map { log($0) }
    var counts = [0.0, 0, 0, 0]
    for _ in 0..<40_000 { counts[sampler.choose(logits)] += 1 }
    return counts.map { $0 / 40_000 }
  }

  /// Five standard deviations of a share of 40,000 draws.
  private func isClose(_ found: [Double], _ expected: [Double]) -> Bool {
    zip(found, expected).allSatisfy { abs($0 - $1) <= 5 * ($1 * (1 - $1) / 40_000).squareRoot() }
  }

  @Test("Tokens are drawn as often as they are probable")
  func plain() { #expect(isClose(frequencies { _ in }, [0.5, 0.3, 0.15, 0.05])) }

  @Test("A temperature raises probabilities to its inverse")
  func temperature() {
    let squares = [0.25, 0.09, 0.0225, 0.0025]
    #expect(isClose(frequencies { $0.temperature = 0.5 }, squares.map { $0 / squares.reduce(0, +) }))
  }

  @Test("Only the k likeliest, or the likeliest that together are so probable")
  func limits() {
    #expect(isClose(frequencies { $0.topK = 2 }, [0.625, 0.375, 0, 0]))
    #expect(isClose(frequencies { $0.topP = 0.75 }, [0.625, 0.375, 0, 0]))
    #expect(isClose(frequencies { $0.topP = 0.85 }, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]))
    #expect(frequencies { $0.topP = 0.4 } == [1, 0, 0, 0])
    #expect(frequencies { $0.topK = 1 } == [1, 0, 0, 0])
    #expect(isClose(frequencies { $0.topK = 10 }, [0.5, 0.3, 0.15, 0.05]))
  }

  @Test("The same seed draws the same tokens, another others")
  func seeds() {
    func draws(_ seed: UInt64) -> [Int] {
      var sampling = Sampling()
      sampling.temperature = 1
      sampling.seed = seed
      var sampler = Sampler(sampling)
      return (0..<50).map { _ in sampler.choose([0, 0, 0, 0]) }
    }
    #expect(draws(1) == draws(1))
    #expect(draws(1) != draws(2))
  }

  @Test("Without a temperature, the first of the likeliest")
  func greedy() {
    var sampler = Sampler(.greedy)
    #expect(sampler.choose([1, 3, 3, 2]) == 1)
  }
}
