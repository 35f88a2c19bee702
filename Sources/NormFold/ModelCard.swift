/// The page that lies beside written weights, as the Hub shows it: what they were made of, by what, and what was proved of
/// them.
struct ModelCard {
  static let fileName = "README.md"

  /// In Markdown, behind a front matter in YAML that names the base model where that is one of the Hub.
  let text: String

  /// - Parameter sourceName: an id of the Hub, or the name of a directory.
  init(of output: ConversionReport.Output, in report: ConversionReport, sourceName: String) {
    let name = Self.plain(sourceName)
    // Directories have no slash in their names.
    let isOfHub = name.contains("/")
    var lines = ["---"]
    if isOfHub { lines.append("base_model: \(name)") }
    lines += ["tags:", "- normfold", "---", "", "# \(name), written for \(output.target)", ""]
    lines.append(
      "\(Tool.nameAndVersion) made it of \(isOfHub ? "[\(name)](https://huggingface.co/\(name))" : "`\(name)`") "
        + "(\(report.dialect)): \(output.foldedNormCount) norms were folded into the weights that read them, "
        + (output.isNormFree
          ? "and none is left."
          : output.keptNormCount > 0
            ? "and \(output.keptNormCount == 1 ? "1 was" : "\(output.keptNormCount) were") kept."
            : "and the runtime computes near-identities in their places."))
    if report.changesFunction {
      lines += [
        "", "Its norms were fixed by the conversion and not by training: it computes another function than the source.",
      ]
    }
    lines += ["", "## What was proved", ""]
    if let verdict = report.verdicts.first(where: { $0.output.target == output.target }) {
      lines += ["| claim | found | limit | |", "|---|---|---|---|"]
      lines += verdict.measures.map {
        "| \($0.name) | \($0.valueText) | \($0.limitText.replacing("*", with: "\\*")) | \($0.holds.map { $0 ? "holds" : "fails" } ?? "") |"
      }
      lines += ["", "Limits with a star were measured on the source in the same run."]
    } else {
      lines.append("Nothing: verification was not asked for.")
    }
    lines += ["", "## Files", "", "| file | bytes | digest |", "|---|---|---|"]
    lines += report.sourceFiles.map {
      "| source: \(Self.plain($0.path.split(separator: "/").last.map(String.init) ?? "")) | \($0.byteCount) | `\($0.digest)` |"
    }
    lines += output.files.map { "| \($0.name) | \($0.byteCount) | `\($0.digest)` |" }
    text = lines.joined(separator: "\n") + "\n"
  }

  /// A name without what Markdown, YAML or HTML would obey.
  private static func plain(_ name: String) -> String {
    String(name.map { $0.isLetter || $0.isNumber || "-_./ ".contains($0) ? $0 : "_" })
  }
}
