import ArgumentParser
import NormFold
import NormFoldFolding
import NormFoldFormats

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Prints the formula of every tensor that a conversion would write, without computing it.",
    usage: "normfold plan CHECKPOINT [--for TARGET] [OPTIONS]",
    discussion: """
      EXAMPLES
        normfold plan gpt2-lnfree/ --for transformers
        normfold plan gpt2-lnfree/ --for gpt2 --json
      """)

  @Argument(help: .checkpoint, completion: .file())
  var source: String

  @Option(
    name: .customLong("for"), help: ArgumentHelp("What the output is for.", valueName: "target"),
    completion: .list(Conversion.knownTargets))
  var target = "transformers"

  @OptionGroup var written: ConversionOptions
  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let conversion = try written.conversion(
      of: source, to: "", for: [target], reading: input.readingOptions(tokenizer: written.tokenizer))
    let plan = try ConversionPlan(of: conversion)
    try output.print(plan, as: plan.text, options: conversion)
  }
}

extension ConversionPlan {
  var text: String {
    var table = Table(["norm": .left, "folds into": .left])
    for step in steps { table.add(step.printableSubject, step.summary) }
    var lines = ["\(source.printable) for \(target)", table.text] + linesBelowSteps
    if !warnings.isEmpty { lines.append("") }
    lines += warnings.map { "  Warning: \($0.printable)" }
    return lines.joined(separator: "\n")
  }
}
