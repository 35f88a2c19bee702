import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct EvaluationTests {
  private let reference: Reference

  init() throws { reference = try Reference.read() }

  private func evaluation(_ model: String, _ change: (inout MeasurementInput) -> Void = { _ in }) -> Evaluation {
    var input = MeasurementInput(model: Reference.model(model), text: .ids(reference.tokens))
    input.precision = .double
    change(&input)
    return Evaluation(input)
  }

  @Test("Losses and their statistics are PyTorch's", arguments: ["vanilla", "fakeln", "lnfree"])
  func losses(_ model: String) throws {
    let expected = try #require(reference.losses[model])
    let report = try evaluation(model).run()
    let loss = report.loss
    #expect(report.chunkCount == 7)
    #expect(report.droppedTokenCount == 902 - 7 * 128)
    #expect(loss.tokenCount == 7 * 127)
    #expect(abs(loss.mean - expected.mean) < 1e-10)
    #expect(abs(loss.perplexity - expected.perplexity) < 1e-8)
    #expect(abs(loss.standardError - expected.standardError) < 1e-10)
    let quantiles = [
      loss.smallest, loss.central999.lower, loss.central95.lower, loss.median, loss.central95.upper,
      loss.central999.upper, loss.largest,
    ]
    #expect(relative(quantiles, expected.quantiles) < 1e-9)
    #expect(loss.byPosition.map(\.position) == Array(1..<128))
    #expect(relative(loss.byPosition.map(\.mean), expected.byPosition) < 1e-9)
    #expect(loss.byPosition.allSatisfy { $0.tokenCount == 7 })
    #expect(loss.histogram.counts.reduce(loss.histogram.beyondCount, +) == loss.tokenCount)
  }

  @Test("Several kinds of integers give what each gives alone")
  func otherIntegers() throws {
    let names = ["int:12,12", "fixed:24,8", "int:6,6"]
    let alone = try names.map { name in
      var evaluation = self.evaluation("lnfree")
      evaluation.integers = try IntegerArithmetic(parsing: name)
      return try evaluation.run()
    }
    var evaluation = self.evaluation("lnfree")
    evaluation.integers = try IntegerArithmetic(parsing: names[0])
    evaluation.otherIntegers = try names.dropFirst().map { try IntegerArithmetic(parsing: $0) }
    let report = try evaluation.run()
    #expect(report.loss.mean == alone[0].loss.mean)
    #expect(report.integers?.divergence.mean == alone[0].integers?.divergence.mean)
    #expect(report.otherIntegers.map(\.arithmetic.name) == Array(names.dropFirst()))
    for (other, expected) in zip(report.otherIntegers, alone.dropFirst()) {
      let integers = try #require(expected.integers)
      #expect(other.meanLoss == expected.loss.mean)
      #expect(other.divergence.mean == integers.divergence.mean)
      #expect(other.divergence.largest == integers.divergence.largest)
      #expect(other.top1Agreement == integers.top1Agreement)
      #expect(other.overflows == integers.overflows)
    }
    #expect(report.otherIntegers[0].overflows.isEmpty == false && report.otherIntegers[1].overflows.isEmpty)
    #expect(alone[0].otherIntegers.isEmpty)
  }

  @Test("Single precision gives the same loss to five decimals", arguments: ["vanilla", "fakeln", "lnfree"])
  func single(_ model: String) throws {
    let report = try evaluation(model) { $0.precision = .single }.run()
    #expect(abs(report.loss.mean - (reference.losses[model]?.mean ?? .nan)) < 5e-6)
  }

  @Test("Prepending a token, keeping the remainder and overlapping score what PyTorch scores so")
  func chunkings() throws {
    let prepended = try evaluation("vanilla") {
      $0.chunking.prependsEndOfText = true
      $0.chunking.keepsRemainder = true
    }.run()
    #expect(prepended.loss.tokenCount == reference.tokens.count)
    #expect(abs(prepended.loss.mean - reference.prependedLoss) < 1e-10)
    let overlapping = try evaluation("vanilla") { $0.chunking.stride = 48 }.run()
    #expect(abs(overlapping.loss.mean - reference.stride48Loss) < 1e-10)
  }

  /// The published form computes each norm with its large epsilon, 1e-9 away from what it means.
  @Test("Divergences between two models are PyTorch's")
  func comparison() throws {
    var pair = evaluation("vanilla")
    pair.other = Reference.model("lnfree")
    let found = try #require(try pair.run().comparison)
    let expected = reference.comparison
    let losses = reference.losses.mapValues(\.mean)
    #expect(abs(found.lossDifference - (losses["lnfree"] ?? .nan) + (losses["vanilla"] ?? .nan)) < 1e-8)
    #expect(abs(found.meanDivergence - expected.divergence) < 1e-7)
    #expect(abs(found.largestDivergence - expected.largestDivergence) < 1e-6)
    #expect(abs(found.meanJensenShannon - expected.jensenShannon) < 1e-7)
    #expect(abs(found.top1Agreement - expected.agreement) < 1e-12)
    #expect(found.unjudgedTokenCount == 0)
  }

  @Test("As it is stored, a model whose norms are to be fixed still computes them")
  func asStored() throws {
    let place = try TemporaryDirectory()
    let source = evaluation("vanilla")
    try Calibration(source.input).run().deviationFile.write(
      toFile: place / "deviations.json", atomically: true, encoding: .utf8)
    var fixed = evaluation("vanilla") { $0.readingOptions.deviations = place / "deviations.json" }
    let computed = try #require(reference.losses["vanilla"]?.mean)
    #expect(try fixed.run().loss.mean > computed + 0.1)
    fixed.computesNormsAsStored = true
    #expect(abs(try fixed.run().loss.mean - computed) < 1e-10)
  }

  @Test("A text is its tokens, from ids, from 16-bit numbers and from the text itself")
  func sources() throws {
    let place = try TemporaryDirectory()
    try reference.tokens.map(String.init).joined(separator: " \n").write(
      toFile: place / "ids.txt", atomically: true, encoding: .utf8)
    try Data(reference.tokens.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }).write(
      to: URL(filePath: place / "ids.bin"))
    let expected = try evaluation("vanilla") { $0.tokenLimit = 256 }.run().loss.mean
    let sources: [TextSource] = [
      .tokens(file: place / "ids.txt"), .tokens(file: place / "ids.bin"), .text(files: [Reference.passage]),
    ]
    for source in sources {
      let report = try evaluation("vanilla") {
        $0.text = source
        $0.tokenLimit = 256
        $0.readingOptions.tokenizer = .directory(Reference.model("tokenizer"))
      }.run()
      #expect(report.loss.mean == expected)
      #expect(report.texts == source.files)
    }
    let limited = try evaluation("vanilla") { $0.tokenLimit = 300 }.run()
    #expect(limited.chunkCount == 2)
    let all = try evaluation("vanilla") {
      $0.text = .tokens(file: place / "ids.bin")
      $0.tokenLimit = .max
    }.run()
    #expect(all.chunkCount == 7)
  }

  @Test("Between two texts stands the end-of-text token")
  func severalTexts() throws {
    var input = MeasurementInput(
      model: Reference.model("vanilla"), text: .text(files: [Reference.passage, Reference.passage]))
    input.readingOptions.tokenizer = .directory(Reference.model("tokenizer"))
    input.tokenLimit = 8 * 128
    let both = try Evaluation(input).run()
    input.text = .ids(reference.tokens + [0] + reference.tokens)
    #expect(try Evaluation(input).run().loss.mean == both.loss.mean)
  }

  @Test(
    "Files that hold no token ids of the vocabulary are refused",
    arguments: ["12 x", "12 1024", "12 99999999999999999999999", "-1", "", "1 2 3"])
  func refusals(_ content: String) throws {
    let place = try TemporaryDirectory()
    try content.write(toFile: place / "ids.txt", atomically: true, encoding: .utf8)
    #expect(throws: Refusal.self) {
      try evaluation("vanilla") { $0.text = .tokens(file: place / "ids.txt") }.run()
    }
  }

  @Test(
    "So are odd counts of bytes, and ids beyond the vocabulary, in 16-bit numbers", arguments: [[1, 0, 1], [0, 4]])
  func binaryRefusals(_ content: [UInt8]) throws {
    let place = try TemporaryDirectory()
    try Data(content).write(to: URL(filePath: place / "ids.bin"))
    let refusal = #expect(throws: Refusal.self) {
      try evaluation("vanilla") { $0.text = .tokens(file: place / "ids.bin") }.run()
    }
    #expect(refusal?.category == .malformed)
  }

  @Test("A text needs a tokenizer, two models one vocabulary")
  func mismatches() throws {
    let refusal = #expect(throws: Refusal.self) {
      try evaluation("vanilla") { $0.text = .text(files: [Reference.passage]) }.run()
    }
    #expect(refusal?.category == .usage)
    var pair = evaluation("vanilla")
    pair.other = Fixtures.path("tiny-2x32/vanilla")
    #expect(#expect(throws: Refusal.self) { try pair.run() }?.category == .unsupported)
  }
}
