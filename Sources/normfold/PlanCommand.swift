import ArgumentParser
import Conversion
import Folding
import Formats

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Prints the formula of every tensor that a conversion would write, without computing it.",
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
      allowsPartial: allowPartial, rules: rules.rules)
    if output.json { return JSONOutput.print(plan) }
    print("\(plan.source.printable) for \(plan.target)")
    var steps = Table(["norm": .left, "folds into": .left])
    for step in plan.steps { steps.add(step.norm, step.readers.joined(separator: ", ")) }
    print(steps.text)
    if !plan.kept.isEmpty { print("\n  stays a norm: \(plan.kept.joined(separator: ", "))") }
    if !plan.rules.isEmpty { print("") }
    for rule in plan.rules { print("  \(rule.rawValue): \(rule.summary)") }
    print("\n  \(plan.tensors.count) tensors, \(Quantity.bytes(plan.byteCount))")
    for tensor in plan.tensors {
      print(
        "  \(tensor.name.printable) \(tensor.shape) \(tensor.type)\(tensor.formula == tensor.name ? "" : " = \(tensor.formula.printable)")"
          .wrapped())
    }
  }
}
