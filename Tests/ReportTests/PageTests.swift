import Foundation
import Logging
import NormFold
import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@testable import NormFoldCommand
@testable import NormFoldReport

/// Reports of every kind, with the text that the command prints for them.
struct PageCase: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var outcome = Page.Verdict.Outcome.good
  let make: @Sendable () throws -> (page: Page, text: String)

  private static func conversion(
    _ source: String, to targets: [String], alter: (inout Conversion) throws -> Void = { _ in }
  ) throws -> (page: Page, text: String) {
    let place = try TemporaryDirectory()
    var conversion = Conversion(source: Fixtures.path(source), destination: place / "out", targets: targets)
    try alter(&conversion)
    let report = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    return (Page(report), report.text)
  }

  private static func broken(_ network: Network, _ options: FoldingPlan.Options) throws(Refusal) -> FoldingPlan {
    var altered = network
    if let gain = network[norm: "blocks.1.mlp.norm"]?.gain {
      altered[norm: "blocks.1.mlp.norm"]?.gain = gain.multiplied(by: 1.01)
    }
    return try FoldingPlan(folding: altered, options: options)
  }

  static let all: [PageCase] = [
    PageCase(testDescription: "one target") { try conversion("tiny-2x32/lnfree", to: ["transformers"]) },
    PageCase(testDescription: "every target") {
      try conversion(
        "tiny-2x32/lnfree", to: ["transformers", "gpt2", "transformer-lens", "llama.cpp", "onnxruntime"]
      ) { $0.readingOptions.tokenizer = .directory(Fixtures.path("tiny-2x32/tokenizer")) }
    },
    PageCase(testDescription: "both paths of attention apart, a partial fold") {
      try conversion("tiny-2x32/fakeln-partial", to: ["transformers"]) { $0.allowsPartial = true }
    },
    PageCase(testDescription: "deviations per feature, logits up to a shift") {
      try conversion("tiny-2x32/fakeln-feature0", to: ["transformers"]) {
        $0.rules = [.foldValueBiases, .centerWritingWeights, .centerUnembedding]
      }
    },
    PageCase(testDescription: "an ordinary GPT-2 whose norms are fixed") {
      try conversion("tiny-2x32/vanilla", to: ["transformers"]) {
        $0.readingOptions.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json")
      }
    },
    PageCase(testDescription: "a fold that is wrong", outcome: .bad) {
      try conversion("shakespeare-4x128/lnfree", to: ["transformers", "gpt2"]) { $0.fold = broken }
    },
    PageCase(testDescription: "nothing verified", outcome: .neutral) {
      try conversion("tiny-2x32/lnfree", to: ["transformers"]) { $0.verifies = false }
    },
    PageCase(testDescription: "long probes") {
      try conversion("tiny-2x32/lnfree", to: ["transformers"]) { $0.probeOptions.probeLength = 64 }
    },
    PageCase(testDescription: "two checkpoints that agree") { try verification("lnfree", "lnfree-sharded") },
    PageCase(testDescription: "two checkpoints that do not", outcome: .bad) { try verification("lnfree", "vanilla") },
    PageCase(testDescription: "norms of a checkpoint", outcome: .neutral) {
      let inspection = try Inspection(of: Fixtures.path("tiny-2x32/fakeln-partial"))
      return (Page(inspection), inspection.text)
    },
    PageCase(testDescription: "what an adapter changes", outcome: .neutral) {
      var options = ReadingOptions()
      options.adapters = [Fixtures.path("adapters/bert-some-norms")]
      let inspection = try Inspection(of: Fixtures.path("encoders/bert-masked-lm"), options: options)
      return (Page(inspection), inspection.text)
    },
    PageCase(testDescription: "a conversion in integers of several widths") {
      try conversion("shakespeare-4x128/lnfree", to: ["transformers"]) {
        $0.integers = try IntegerArithmetic(parsing: "int:16,16")
        $0.otherIntegers = try ["int:12,12", "int:10,10", "int:8,12", "int:8,8"].map {
          try IntegerArithmetic(parsing: $0)
        }
      }
    },
    PageCase(testDescription: "two checkpoints in a ring that is too small") {
      var run = VerificationRun(
        reference: Fixtures.path("tiny-2x32/lnfree"), candidate: Fixtures.path("tiny-2x32/lnfree-sharded"))
      run.integers = try IntegerArithmetic(parsing: "fixed:24,8")
      let report = try run.run()
      return (Page(report), report.text)
    },
    PageCase(testDescription: "losses in integers of several widths", outcome: .neutral) {
      var evaluation = Evaluation(measured("lnfree"))
      evaluation.integers = try IntegerArithmetic(parsing: "int:16,16")
      evaluation.otherIntegers = try ["int:8,12", "fixed:32,12"].map { try IntegerArithmetic(parsing: $0) }
      let report = try evaluation.run()
      return (Page(report), report.text)
    },
    PageCase(testDescription: "losses of two models", outcome: .neutral) {
      var evaluation = Evaluation(measured("vanilla"))
      evaluation.other = Fixtures.path("shakespeare-4x128/lnfree")
      let report = try evaluation.run()
      return (Page(report), report.text)
    },
    PageCase(testDescription: "losses of one model", outcome: .neutral) {
      let report = try Evaluation(measured("lnfree")).run()
      return (Page(report), report.text)
    },
    PageCase(testDescription: "deviations on a text", outcome: .neutral) {
      let report = try Calibration(measured("vanilla")).run()
      return (Page(report), report.text)
    },
    PageCase(testDescription: "attention and residual stream", outcome: .neutral) {
      let report = try Diagnosis(measured("vanilla")).run()
      return (Page(report), report.text)
    },
  ]

  private static func measured(_ model: String) -> MeasurementInput {
    let family = Fixtures.path("shakespeare-4x128")
    var input = MeasurementInput(
      model: "\(family)/\(model)", text: .text(files: [family + "/measured/passage.txt"]))
    input.readingOptions.tokenizer = .directory(family + "/tokenizer")
    return input
  }

  private static func verification(_ reference: String, _ candidate: String) throws -> (page: Page, text: String) {
    let report = try VerificationRun(
      reference: Fixtures.path("tiny-2x32/\(reference)"), candidate: Fixtures.path("tiny-2x32/\(candidate)")
    ).run()
    return (Page(report), report.text)
  }
}

@Suite struct PageTests {
  /// Longer than a name is shown, and in lines.
  private static let document = "{\n  \"a\": \"<&>\",\n  \"b\": \"" + String(repeating: "long ", count: 500) + "\"\n}"

  @Test(
    "A page is well-formed, needs nothing else, and shows every number that the text shows", arguments: PageCase.all)
  func page(_ given: PageCase) throws {
    var (page, text) = try given.make()
    page.run = .init(
      commandLine: "normfold convert 'a b' <&>", date: "2026-01-01T00:00:00Z", machine: "none",
      document: Self.document)
    // To look at: Scripts/screenshots takes pictures of it.
    if let directory = ProcessInfo.processInfo.environment["NORMFOLD_REPORTS"] {
      try page.html().write(toFile: "\(directory)/\(given.testDescription).html", atomically: true, encoding: .utf8)
    }
    let html = try #require(Markup.parse(page.html()))
    #expect(html.name == "html")

    // Nothing from elsewhere, nothing that runs.
    #expect(html.all.allSatisfy { !["script", "link", "img", "iframe", "object", "base"].contains($0.name) })
    let names = Set(html.all.flatMap(\.attributes.keys))
    #expect(names.isDisjoint(with: ["src", "style", "onload", "onclick", "transform"]))
    #expect(html.all("a").allSatisfy { $0.attributes["href"]?.hasPrefix("#") == true })

    // References lead somewhere, and to one thing.
    let ids = html.all.compactMap { $0.attributes["id"] }
    #expect(Set(ids).count == ids.count)
    let references = html.all.compactMap { $0.attributes["aria-labelledby"] }.flatMap { $0.split(separator: " ") }
    #expect(references.allSatisfy { ids.contains(String($0)) })
    #expect(html.all("a").allSatisfy { ids.contains(String($0.attributes["href"]?.dropFirst() ?? "")) })

    #expect(html.all("pre").map(\.text) == [Self.document])
    #expect(html.all("code").contains { $0.text == "normfold convert 'a b' <&>" })

    // Several targets do not repeat a chart.
    let titles = html.all("figure").compactMap { $0.all("strong").first?.text }
    #expect(Set(titles).count == titles.count)

    let charts = html.all("figure").flatMap { $0.all("svg") }.filter { $0.attributes["role"] == "img" }
    #expect(!charts.isEmpty)
    for chart in charts {
      #expect(chart.children.first?.name == "title" && chart.children.dropFirst().first?.name == "desc")
      #expect(chart.children.first?.text.isEmpty == false && chart.children.dropFirst().first?.text.isEmpty == false)
    }

    let verdict = try #require(html.all("div").first { $0.classes.contains("verdict") })
    #expect(verdict.classes == ["verdict", given.outcome.rawValue])
    #expect(html.all("h1").count == 1)

    // What is drawn has a rule.
    let selectors = Set(styleSheet.description.matches(of: /\.([a-z][a-z0-9-]*)/).map { String($0.output.1) })
    let classes = Set(html.all.flatMap(\.classes))
    #expect(classes.count > 20)
    #expect(classes.subtracting(selectors) == [])

    let numbers = text.matches(of: /[0-9]+(?:[.,][0-9]+)*(?:e[+-][0-9]+)?/).map { String($0.output) }
    let shown = html.all("body")[0].text
    #expect(numbers.count > 5)
    let missing = Set(numbers).filter { !shown.contains($0) }
    #expect(missing.isEmpty, "\(missing.sorted()) of\n\(text)")
  }

  @Test("A colour is a variable, defined for light and for dark")
  func colours() throws {
    let css = styleSheet.description
    let blocks = css.components(separatedBy: ":root {").dropFirst().map { String($0.prefix { $0 != "}" }) }
    #expect(blocks.count == 2)
    let defined = blocks.map { block in Set(block.matches(of: /(--[a-z0-9-]+):/).map { String($0.output.1) }) }
    #expect(defined[0] == defined[1])
    #expect(defined[0].count > 20)
    let used = Set(css.matches(of: /var\((--[a-z0-9-]+)\)/).map { String($0.output.1) })
    #expect(used == defined[0])
    let rules = blocks.reduce(css) { $0.replacing($1, with: "") }
    #expect(rules.matches(of: /#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(/).isEmpty)
    #expect(!css.contains("<") && !css.contains(">") && !css.contains("&") && !css.contains("url("))
  }
}
