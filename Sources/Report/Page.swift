import NormFold
import NormFoldFormats

/// A report to look at: one file that needs nothing else, not even a script.
package struct Page: Sendable {
  /// The verdict at the head of a page.
  package struct Verdict: Sendable {
    package enum Outcome: String, Sendable { case good, bad, neutral }

    let outcome: Outcome
    let title: String
    let sentences: [String]
  }

  /// A number that is worth a tile.
  package struct KeyFigure: Sendable {
    let name: String
    let value: String
    let remark: String
  }

  package struct Section: Sendable {
    let id: String
    let title: String
    var lead = ""
    var content: [any Content]
  }

  /// The run that found what the page shows, so that it can be repeated, and all that the run found, for programs.
  package struct Run: Sendable {
    let commandLine: String
    let date: String
    let machine: String
    /// The JSON document.
    let document: String

    package init(commandLine: String, date: String, machine: String, document: String) {
      (self.commandLine, self.date, self.machine, self.document) = (
        commandLine, date, machine, document
      )
    }

    fileprivate var section: Section {
      var facts = FactList()
      facts.add("Command", .whole(commandLine))
      facts.add("Ended", .text(date))
      facts.add("Machine", .text(machine))
      return Section(
        id: "made", title: "How this page was made",
        content: [
          facts, Listing(title: "Everything that was found, as one JSON document", text: document),
        ])
    }
  }

  /// The kind of report: `Conversion`.
  let kind: String
  /// The path that the report is about.
  let subject: String
  let verdict: Verdict
  var keyFigures: [KeyFigure] = []
  var warnings: [Message] = []
  var sections: [Section]
  /// Nil where a program of another kind makes the page.
  package var run: Run?
  /// The last line.
  var footer = Tool.nameAndVersion

  /// Returns the page as a document.
  ///
  /// - Parameter names: what settings are called that a warning or a note speaks of.
  package func html(naming names: SettingNames = .library) -> String {
    "<!DOCTYPE html>\n" + root.rendered(naming: names) + "\n"
  }

  private var root: Node {
    .element(
      "html", ["xmlns": "http://www.w3.org/1999/xhtml", "lang": "en"],
      [
        .element(
          "head", [:],
          [
            .element("meta", ["charset": "utf-8"]),
            .element("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"]),
            .element("meta", ["name": "color-scheme", "content": "light dark"]),
            .element(
              "meta",
              [
                "http-equiv": "Content-Security-Policy",
                "content": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
              ]),
            .element("title", [:], [.text("\(verdict.title) – \(subject) – NormFold")]),
            .element("style", [:], [.verbatim(styleSheet)]),
          ]),
        .element("body", [:], [header, .element("main", [:], content), footerNode]),
      ])
  }

  private var header: Node {
    .element(
      "header", [:],
      [
        .element("span", ["class": "brand"], ["NormFold"]),
        .element("span", ["class": "kind"], [.text(kind)]),
        .element("code", ["class": "subject", "dir": "auto"], [.text(subject)]),
      ])
  }

  private var footerNode: Node { .element("footer", [:], [.element("p", [:], [.text(footer)])]) }

  private var content: [Node] {
    var nodes = [banner]
    if !keyFigures.isEmpty {
      nodes.append(
        .element(
          "dl", ["class": "tiles"],
          keyFigures.map { figure in
            .element(
              "div", [:],
              [
                .element("dt", [:], [.text(figure.name)]), .element("dd", [:], [.text(figure.value)]),
                .element("dd", ["class": "remark"], [.text(figure.remark)]),
              ])
          }))
    }
    nodes += warnings.map {
      .element("p", ["class": "warning"], [.element("strong", [:], ["Warning"]), .text(" "), .text($0)])
    }
    let sections = sections + (run.map { [$0.section] } ?? [])
    if sections.count > 2 {
      let links = sections.map { section in
        Node.element("li", [:], [.element("a", ["href": "#\(section.id)"], [.text(section.title)])])
      }
      nodes.append(.element("nav", ["aria-label": "Contents"], [.element("ul", [:], links)]))
    }
    nodes += sections.map { section in
      .element(
        "section", ["id": section.id],
        [.element("h2", [:], [.text(section.title)])]
          + (section.lead.isEmpty ? [] : [.element("p", ["class": "lead"], [.text(section.lead)])])
          + section.content.map(\.node))
    }
    return nodes
  }

  private var banner: Node {
    let outline =
      switch verdict.outcome {
      case .good: "M14 25L21 32L35 17"
      case .bad: "M16 16L32 32M32 16L16 32"
      case .neutral: "M15 31V25M21 31V17M27 31V21M33 31V13"
      }
    var icon = Drawing(width: 48, height: 48)
    icon.path("M2 24A22 22 0 1 0 46 24A22 22 0 1 0 2 24Z", class: "disc")
    icon.path(outline, class: "sign")
    return .element(
      "div", ["class": "verdict \(verdict.outcome.rawValue)", "role": "status"],
      [
        .element(
          "svg", ["viewBox": "0 0 48 48", "width": "48", "height": "48", "aria-hidden": "true"], icon.nodes),
        .element(
          "div", [:],
          [.element("h1", [:], [.text(verdict.title)])]
            + verdict.sentences.map { .element("p", [:], [.text($0)]) }),
      ])
  }
}
