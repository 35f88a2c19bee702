import ArgumentParser
import Logging
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldReport

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows what a checkpoint is, and for each norm whether it can be folded.",
    usage: "normfold inspect CHECKPOINT [OPTIONS]",
    discussion: """
      EXAMPLES
        normfold inspect gpt2-lnfree/
        normfold inspect bert-base/ --adapter my-ln-adapter/ --report report.html
        normfold inspect model.safetensors --json | jq '.sites[].smallestDeviation'
        normfold inspect my-gpt.pt --draft-layout my-layout.json
      """)

  @Argument(help: .checkpoint, completion: .file())
  var source: String

  @Argument(
    help: ArgumentHelp("Where --draft-layout writes to; standard output without it.", valueName: "file"),
    completion: .file(extensions: ["json"]))
  var draft: String?

  @Flag(
    help:
      "Instead, write a first draft of a --layout from the names and shapes of the tensors, with marks where they do not tell."
  )
  var draftLayout = false

  @Flag(help: "Replace an existing report.")
  var force = false

  @OptionGroup var input: InputOptions
  @OptionGroup var page: ReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if draftLayout, page.report != nil { throw ValidationError("--draft-layout looks at no norms: leave --report out") }
    if let draft, !draftLayout { throw ValidationError("\(draft): expected one checkpoint") }
    if draftLayout, output.json { throw ValidationError("--draft-layout prints JSON as it is: leave --json out") }
    if draftLayout, input.layout != nil { throw ValidationError("--draft-layout makes what --layout reads: pass one") }
  }

  func run() throws {
    if draftLayout { return try writeDraft() }
    let options = input.readingOptions()
    switch try InspectionResult(of: source, options: options) {
    case .network(let inspection):
      let place = try page.destination(replacing: force)
      try output.print(inspection, as: inspection.text, options: options)
      try page.write(Page(inspection), of: inspection, options: options, to: place, with: output)
    case .listing(let listing):
      if page.report != nil {
        throw Refusal(
          .unsupported, file: source,
          "the architecture '\(listing.architecture)' is not known, so that there is no report on its norms",
          advice: "leave --report out")
      }
      try output.print(listing, as: listing.text, options: options)
    }
  }
}

extension InspectCommand {
  private func writeDraft() throws {
    let draft = try LayoutDraft(of: source, options: input.readingOptions())
    if let path = self.draft {
      let file = try OutputFile(creating: path)
      try file.write(Array(draft.text.utf8))
      try file.finish()
    } else {
      try StandardOutput.print(String(draft.text.dropLast()))
    }
    let open = draft.openValues
    output.logger.notice(
      "\(open.isEmpty ? "everything is filled in" : "to be filled in: \(open.listed(limit: 12))"); look at what is not marked, too"
    )
  }
}

extension Inspection {
  private var heads: String {
    "\(headCount) heads" + (keyValueHeadCount == headCount ? "" : " (\(keyValueHeadCount) of keys and values)")
  }

  /// A text on the network's output: the unembedding, where the network has one for tokens, and the output's name,
  /// where that is not the logits of a text's next token.
  private var head: String {
    let unembedding = "unembedding \(isTied ? "tied" : "of its own")"
    return switch task {
    case .generation: unembedding
    case .fillMask: "\(output), \(unembedding)"
    default: output
    }
  }

  /// Returns a table of how far adapters move each norm, with bars for the root mean square of both changes together.
  private static func table(of changes: [AdapterChange]) -> [String] {
    func size(_ change: AdapterChange) -> Double {
      (change.gain * change.gain + change.bias * change.bias).squareRoot()
    }
    let largest = changes.map(size).max() ?? 0
    var table = Table([
      "norm": .left, "Δγ": .right, "|Δγ| ≤": .right, "Δβ": .right, "|Δβ| ≤": .right, "both": .left,
    ])
    for change in changes {
      table.add(
        change.name.printable, Quantity.short(change.gain), Quantity.short(change.largestGain),
        Quantity.short(change.bias), Quantity.short(change.largestBias),
        String(repeating: "▇", count: largest > 0 ? Int((20 * size(change) / largest).rounded(.up)) : 0))
    }
    table.footnote = "What adapters change: Δγ and Δβ are root mean squares over the features of a norm"
    return ["", table.text]
  }

  var text: String {
    let types = elementTypes.sorted { $0.key < $1.key }.map { "\($0.key) × \($0.value)" }.joined(separator: ", ")
    var lines = [
      path.printable,
      "  \(layout), \(container), \(Quantity.bytes(byteCount)), \(tensorCount) tensors (\(types))",
      "  \(blockCount) blocks, width \(dModel), \(heads), MLP \(dMLP), "
        + (image.map { "images of \($0), \(contextLength) tokens" }
          ?? "context \(contextLength), vocabulary \(Quantity.count(vocabularySize))"),
      "  \(Quantity.count(parameterCount)) parameters, \(activation), \(head)",
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
      table.footnote = "γ gain, β bias, σ deviation: what a norm multiplies by, adds, and divides by"
      lines += ["", table.text, "", "\(foldableSiteCount) of \(sites.count) norms can be folded."]
    }
    if let adapterChanges { lines += Self.table(of: adapterChanges) }
    if !dropped.isEmpty {
      let rules = Set(dropped.values).sorted().map { rule in "\(dropped.values.count { $0 == rule }) × \(rule)" }
      lines.append("Left out: \(rules.joined(separator: ", ")).")
    }
    if !wrappers.isEmpty { lines.append("Names are read without \(wrappers.map { "'\($0)'" }.listed().printable).") }
    lines += warnings.map { "Warning: \($0.printable)" }
    return lines.joined(separator: "\n")
  }
}

extension CheckpointListing {
  var text: String {
    let types = elementTypes.sorted { $0.key < $1.key }.map { "\($0.key) × \($0.value)" }.joined(separator: ", ")
    var pairs = Table(["key": .left, "value": .left])
    for pair in metadata { pairs.add(pair.key.printable, pair.value.printable) }
    var table = Table(["tensor": .left, "type": .left, "shape": .left])
    for tensor in tensors { table.add(tensor.name.printable, tensor.type, "\(tensor.shape)") }
    var lines = [
      path.printable,
      "  \(architecture.printable), \(container), \(Quantity.bytes(byteCount)), \(tensorCount) tensors (\(types))",
      "  \(Quantity.count(parameterCount)) parameters",
    ]
    if !metadata.isEmpty { lines += ["", pairs.text] }
    lines += ["", table.text, ""]
    lines += warnings.map { "Warning: \($0.printable)" }
    lines.append(
      "The architecture '\(architecture.printable)' is not supported for conversion yet: its norms are not looked at. "
        + "Supported are \(Architecture.supportedTypes).")
    return lines.joined(separator: "\n")
  }
}
