import Foundation
import NormFold
import Testing
import TestSupport

@Suite struct LibraryTests {
  private static let project = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    .standardized

  @Test("Every public type has a documentation comment with an example, which this target compiles")
  func everyPublicTypeHasAnExample() throws {
    let compiled = try String(
      contentsOf: Self.project.appending(path: "Tests/LibraryTests/Examples.swift"), encoding: .utf8)
    let declaration = try Regex(#"^(@\w+ )*public (struct|enum|final class|protocol) (\w+)"#)
    let sources = Self.project.appending(path: "Sources").path
    var count = 0
    for name in try FileManager.default.subpathsOfDirectory(atPath: sources) where name.hasSuffix(".swift") {
      let text = try String(contentsOfFile: sources + "/" + name, encoding: .utf8)
      var comment: [Substring] = []
      for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
        if line.hasPrefix("///") {
          comment.append(line.dropFirst(3))
          continue
        }
        if line.firstMatch(of: declaration) != nil {
          count += 1
          let example = comment.filter { $0.hasPrefix("     ") }.map { "  " + $0.dropFirst(5) }.joined(separator: "\n")
          #expect(!example.isEmpty && compiled.contains("{\n\(example)\n}"), "\(name): \(line)")
        }
        comment = []
      }
    }
    #expect(count > 35)
  }

  @Test("The example program imports NormFold only, converts, prints the plan and reads the numbers of the verdict")
  func example() throws {
    let source = try String(contentsOf: Self.project.appending(path: "Examples/main.swift"), encoding: .utf8)
    #expect(source.split(separator: "\n").filter { $0.hasPrefix("import ") } == ["import NormFold"])
    #expect(source.split(separator: "\n").count < 35)

    let place = try TemporaryDirectory()
    let process = Process()
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
      .appending(path: "normfold-example")
    process.arguments = [Fixtures.path("tiny-2x32/lnfree"), place / "out"]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    let lines = String(decoding: output, as: UTF8.self).split(separator: "\n")
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(lines.contains { $0.hasPrefix("  transformer.h.0.ln_1 folds into block 0: ") })
    #expect(lines.contains { $0.contains("transformer.h.0.mlp.c_fc.weight [32, 128] F32 = centre(") })
    for kind in Measure.Kind.allCases {
      #expect(
        lines.contains { $0.hasPrefix("\(kind): ") } == ![.longArithmetic, .cosineDistance].contains(kind), "\(kind)")
    }
    let algebra = try #require(lines.first { $0.hasPrefix("algebra: ") }?.split(separator: " "))
    let (value, limit) = (try #require(Double(algebra[1])), try #require(Double(algebra[3])))
    #expect(value > 0 && value < limit && limit == 1e-9)
    #expect(lines.last == "transformers in \(place / "out"): proved")
    #expect(FileManager.default.fileExists(atPath: place / "out/model.safetensors"))
  }

  @Test("What a message calls a setting is what a program sets")
  func settings() {
    let input = MeasurementInput(model: "", text: .ids([]))
    let values: [Any] = [
      Conversion(source: "", destination: "", targets: []), ReadingOptions(), ProbeOptions(), input, input.chunking,
      Removal(source: "", destination: "", targets: []), Evaluation(input),
    ]
    let names = Set(values.flatMap { Mirror(reflecting: $0).children.compactMap(\.label) })
    // Tokenizing files of ids is the command's alone.
    for setting in Setting.allCases where setting != .format { #expect(names.contains(setting.rawValue), "\(setting)") }
  }

  @Test("A fold that is asked for by path and cannot be done is refused by name, as is a path without a norm")
  func requiredNorms() throws {
    let place = try TemporaryDirectory()
    for (fixture, path, category) in [
      ("vanilla", "blocks.1.mlp.norm", Refusal.Category.notFoldable), ("lnfree", "blocks.7.mlp.norm", .usage),
    ] {
      var conversion = Conversion(
        source: Fixtures.path("tiny-2x32/" + fixture), destination: place / "out", targets: ["transformers"])
      conversion.requiredNorms = [path]
      var options = FoldedNetwork.Options()
      options.requiredNorms = [path]
      let refusals = [
        #expect(throws: Refusal.self) { _ = try ConversionPlan(of: conversion) },
        #expect(throws: Refusal.self) { _ = try conversion.run() },
        #expect(throws: Refusal.self) { _ = try FoldedNetwork(of: conversion.source, options: options) },
      ]
      #expect(refusals.allSatisfy { $0?.category == category }, "\(refusals)")
      if category == .usage { #expect(refusals.allSatisfy { $0?.subject == Message(path) }) }
    }
  }

  @Test("A folded network computes what the checkpoint computes, with any rule, and shows its weights")
  func foldedNetwork() throws {
    let tokens = [3, 1, 4, 1, 5, 92, 6]
    let source = Fixtures.path("tiny-2x32/lnfree")
    var options = FoldedNetwork.Options()
    options.requiredNorms = ["blocks.0.attention.norm", "final.norm"]
    let plain = try FoldedNetwork(of: source, options: options)
    #expect(plain.kept.isEmpty && plain.steps.map(\.path).contains("final.norm"))
    options.rules = [.foldValueBiases, .centerWritingWeights]
    let ruled = try FoldedNetwork(of: source, options: options)
    let (first, second) = (try plain.logits(of: tokens), try ruled.logits(of: tokens))
    #expect(first.count == tokens.count && first.allSatisfy { $0.count == 512 })
    let difference = zip(first.joined(), second.joined()).map { abs($0 - $1) }.max() ?? .infinity
    #expect(difference > 0 && difference < 1e-9)

    let bias = try #require(ruled.parameters.first { $0.name == "blocks.0.attention.value.bias" })
    #expect(try bias.shape == [32] && ruled.values(of: bias.name).allSatisfy { $0 == 0 })
    #expect(try plain.values(of: bias.name).contains { $0 != 0 })
    #expect(plain.parameters.allSatisfy { !$0.formula.isEmpty })
    #expect(throws: Refusal.self) { _ = try plain.values(of: "blocks.0.mlp.norm.weight") }
    #expect(throws: Refusal.self) { _ = try plain.logits(of: [512]) }
    #expect(throws: Refusal.self) { _ = try plain.logits(of: Array(repeating: 0, count: 65)) }
  }
}
