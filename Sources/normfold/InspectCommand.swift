import ArgumentParser
import Conversion
import Formats

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows what a checkpoint is, and for each norm whether it can be folded.",
    discussion: """
      EXAMPLES
        normfold inspect gpt2-lnfree/
        normfold inspect model.safetensors --json | jq '.sites[].deviation'
      """)

  @Argument(help: "A checkpoint: a directory, or one file with its config.json beside it.")
  var source: String

  @OptionGroup var input: InputOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let inspection = try Inspection(of: source, options: input.readingOptions)
    if output.json { return JSONOutput.print(inspection) }
    print(inspection.text.wrapped())
  }
}

extension Inspection {
  var text: String {
    let types = elementTypes.sorted { $0.key < $1.key }.map { "\($0.key) × \($0.value)" }.joined(separator: ", ")
    var lines = [
      path.printable,
      "  \(layout), \(container), \(Quantity.bytes(byteCount)), \(tensorCount) tensors (\(types))",
      "  \(blockCount) blocks, width \(dModel), \(headCount) heads, MLP \(dMLP), context \(contextLength), "
        + "vocabulary \(Quantity.count(vocabularySize))",
      "  \(Quantity.count(parameterCount)) parameters, \(activation), unembedding \(isTied ? "tied" : "of its own")",
      "  dialect: \(dialect)",
    ]
    if sites.isEmpty {
      lines += ["", "No norms."]
    } else {
      var table = Table([
        "norm": .left, "kind": .left, "deviation": .left, "γ/σ, or γ": .right, "|β| ≤": .right, "foldable": .left,
      ])
      for site in sites {
        table.add(
          site.name.printable, site.kind, site.deviation,
          "\(Quantity.short(site.smallestScale)) … \(Quantity.short(site.largestScale))",
          Quantity.short(site.largestBias), site.isFoldable ? "yes" : "no")
      }
      lines += ["", table.text, "", "\(foldableSiteCount) of \(sites.count) norms can be folded."]
    }
    if !dropped.isEmpty {
      let rules = Set(dropped.values).sorted().map { rule in "\(dropped.values.count { $0 == rule }) × \(rule)" }
      lines.append("Left out: \(rules.joined(separator: ", ")).")
    }
    lines += warnings.map { "Warning: \($0.printable)" }
    return lines.joined(separator: "\n")
  }
}
