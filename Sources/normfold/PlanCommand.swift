import ArgumentParser
import Conversion
import Folding
import Formats

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

  @Argument(help: "A checkpoint: a directory, or one file with its config.json beside it.")
  var source: String

  @Option(name: .customLong("for"), help: ArgumentHelp("What the output is for.", valueName: "target"))
  var target = "transformers"

  @OptionGroup var storage: StorageOptions

  @Flag(help: "Fold what is fixed, and keep the norms that are still computed.")
  var allowPartial = false

  @OptionGroup var rules: RuleOptions
  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let plan = try ConversionPlan(
      source: source, target: target, options: input.readingOptions, type: storage.elementType,
      allowsPartial: allowPartial, rules: rules.rules, normForm: rules.toNorm)
    if output.json { return try StandardOutput.print(json: plan) }
    var steps = Table(["norm": .left, "folds into": .left])
    for step in plan.steps { steps.add(step.norm, step.readers.joined(separator: ", ")) }
    var lines = ["\(plan.source.printable) for \(plan.target)", steps.text]
    if !plan.kept.isEmpty { lines.append("\n  stays a norm: \(plan.kept.joined(separator: ", "))") }
    if !plan.rules.isEmpty || plan.normForm != nil { lines.append("") }
    lines += plan.rules.map { "  \($0.rawValue): \($0.summary)" }
    if let form = plan.normForm { lines.append("  to-norm \(form.rawValue): \(form.summary)") }
    lines.append("\n  \(plan.tensors.count) tensors, \(Quantity.bytes(plan.byteCount))")
    for tensor in plan.tensors {
      let formula = tensor.formula == tensor.name ? "" : " = \(tensor.formula.printable)"
      lines.append("  \(tensor.name.printable) \(tensor.shape) \(tensor.type)\(formula)")
    }
    try StandardOutput.print(lines.joined(separator: "\n").wrapped())
  }
}
