import NormFoldFormats

/// Content is what a section of a page is made of.
package protocol Content: Sendable {
  var node: Node { get }
}

package struct Paragraph: Content {
  let text: String

  init(_ text: String) { self.text = text }

  package var node: Node { .element("p", [:], [.text(text)]) }
}

/// A long text that is shown when it is asked for.
package struct Listing: Content {
  let title: String
  let text: String

  package var node: Node {
    .element(
      "details", [:],
      [
        .element("summary", [:], [.text(title)]),
        .element(
          "pre", ["tabindex": "0", "role": "region", "aria-label": title],
          [.element("code", [:], [.whole(text)])]),
      ])
  }
}

package struct Subheading: Content {
  let text: String
  package var node: Node { .element("h3", [:], [.text(text)]) }
}

/// A chart with what it shows in words.
package struct Figure: Content {
  /// A name that nothing else on the page has.
  let id: String
  let title: String
  let caption: String
  let chart: any Chart
  /// Is true if it shares its line with another where there is room.
  var isHalf = false

  /// The widths that a figure is drawn for, in pixels: alone on a line, beside another, on a phone.
  private enum Width {
    static let whole = 904.0
    static let half = 424.0
    static let narrow = 340.0
  }

  package var node: Node {
    let legend = chart.legend.map(\.node)
    return .element(
      "figure", ["id": id],
      [
        .element(
          "figcaption", [:],
          [.element("strong", [:], [.text(title)])]
            + (caption.isEmpty ? [] : [" ", .element("span", [:], [.text(caption)])]))
      ]
        + (legend.isEmpty ? [] : [.element("ul", ["class": "legend"], legend)])
        + [
          picture("wide", chart.drawing(width: isHalf ? Width.half : Width.whole)),
          picture("narrow", chart.drawing(width: Width.narrow)),
        ])
  }

  private func picture(_ variant: String, _ drawing: Drawing) -> Node {
    let (title, description) = ("\(id)-\(variant)-title", "\(id)-\(variant)-description")
    return .element(
      "svg",
      [
        "xmlns": "http://www.w3.org/2000/svg", "class": variant, "role": "img",
        "viewBox": "0 0 \(drawing.width.coordinate) \(drawing.height.coordinate)",
        "aria-labelledby": "\(title) \(description)",
      ],
      [
        .element("title", ["id": title], [.text(self.title)]),
        .element("desc", ["id": description], [.text(chart.summary)]),
      ] + drawing.nodes)
  }
}

/// Figures side by side, where there is room.
package struct FigurePair: Content {
  let figures: [Figure]

  init(_ figures: [Figure]) {
    self.figures = figures.map { figure in
      var half = figure
      half.isHalf = true
      return half
    }
  }

  package var node: Node { .element("div", ["class": "pair"], figures.map(\.node)) }
}

/// Terms and what they are.
package struct FactList: Content {
  private var facts: [(term: String, lines: [Cell])] = []

  mutating func add(_ term: String, _ lines: Cell...) { facts.append((term, lines)) }
  mutating func add(_ term: String, _ lines: [Cell]) { facts.append((term, lines)) }

  package var node: Node {
    .element(
      "dl", [:],
      facts.flatMap { fact in
        [.element("dt", [:], [.text(fact.term)])] + fact.lines.map { .element("dd", [:], $0.nodes) }
      })
  }
}

/// A cell stands in one place of a table or a list.
package struct Cell: Sendable, ExpressibleByStringInterpolation {
  let nodes: [Node]

  private init(_ nodes: [Node]) { self.nodes = nodes }

  package init(stringLiteral value: String) { self.init([.text(value)]) }
  static func text(_ text: String) -> Cell { Cell([.text(text)]) }

  /// A name from a file, a path, a hash: as it is, in its own direction of writing.
  static func code(_ text: String, _ remark: String = "") -> Cell {
    Cell(
      [.element("code", ["dir": "auto"], [.text(text)])]
        + (remark.isEmpty ? [] : [.element("span", ["class": "remark"], [.text(" " + remark)])]))
  }

  /// A text to be copied, whole.
  static func whole(_ text: String) -> Cell { Cell([.element("code", [:], [.whole(text)])]) }

  static func lines(_ cells: [Cell]) -> Cell { Cell(cells.map { .element("div", [:], $0.nodes) }) }

  static func verdict(_ holds: Bool) -> Cell {
    Cell([.element("span", ["class": holds ? "good" : "bad"], [holds ? "✓ holds" : "✗ FAILS"])])
  }

  static let nothing = Cell([.element("span", ["class": "remark"], ["–"])])
}

/// Boxes of facts, beside each other where there is room.
package struct CardList: Content {
  struct Card: Sendable {
    let title: String
    let facts: FactList
    let notes: [Message]
  }

  let cards: [Card]

  package var node: Node {
    .element(
      "div", ["class": cards.count == 1 ? "cards alone" : "cards"],
      cards.map { card in
        .element(
          "div", ["class": "card"],
          [.element("h3", [:], [.text(card.title)]), card.facts.node]
            + card.notes.map { .element("p", ["class": "note"], [.text($0)]) })
      })
  }
}

/// A table in a box of its own that scrolls where it does not fit.
package struct DataTable: Content {
  enum Alignment: String {
    case left = ""
    /// Numbers.
    case right = "number"
    /// Sentences, which may take several lines.
    case prose
    /// A few words, which may.
    case words
  }

  /// With more rows than this it scrolls in a box that fits a screen.
  private static let tallRowCount = 30

  /// A title for the table, for those who come upon it without its surroundings.
  let caption: String
  private let header: [String]
  private let alignments: [Alignment]
  private enum Row: Sendable {
    case cells([Cell])
    /// A heading of the rows below it.
    case group(Cell)
  }

  private var rows: [Row] = []
  /// The column that says what a row is about.
  var titleColumn = 0
  /// Is true if no row may be out of sight, however many there are.
  var isWhole = false
  var footnotes: [String] = []

  init(_ caption: String, _ columns: KeyValuePairs<String, Alignment>) {
    self.init(caption, header: columns.map(\.key), alignments: columns.map(\.value))
  }

  init(_ caption: String, header: [String], alignments: [Alignment]) {
    self.caption = caption
    self.header = header
    self.alignments = alignments
  }

  mutating func add(_ cells: Cell...) { add(cells) }

  mutating func add(_ cells: [Cell]) {
    precondition(cells.count == header.count)
    rows.append(.cells(cells))
  }

  mutating func startGroup(_ title: Cell) { rows.append(.group(title)) }

  package var node: Node {
    func cell(_ name: String, _ column: Int, scope: String?, _ nodes: [Node]) -> Node {
      let kind = alignments[column].rawValue
      return switch (scope, kind.isEmpty) {
      case (let scope?, true): .element(name, ["scope": scope], nodes)
      case (let scope?, false): .element(name, ["scope": scope, "class": kind], nodes)
      case (nil, true): .element(name, [:], nodes)
      case (nil, false): .element(name, ["class": kind], nodes)
      }
    }
    let head = header.indices.map { cell("th", $0, scope: "col", [.text(header[$0])]) }
    let body = rows.map { row -> Node in
      switch row {
      case .cells(let cells):
        .element(
          "tr", [:],
          cells.indices.map { column in
            let isTitle = column == titleColumn
            return cell(
              isTitle ? "th" : "td", column, scope: isTitle ? "row" : nil, cells[column].nodes)
          })
      case .group(let title):
        .element(
          "tr", ["class": "group"],
          [.element("th", ["scope": "colgroup", "colspan": "\(header.count)"], title.nodes)])
      }
    }
    let table = Node.element(
      "table", [:],
      [
        .element("caption", ["class": "hidden"], [.text(caption)]),
        .element("thead", [:], [.element("tr", [:], head)]), .element("tbody", [:], body),
      ])
    let scroller = Node.element(
      "div",
      [
        "class": rows.count > Self.tallRowCount && !isWhole ? "scroll tall" : "scroll", "role": "region",
        "aria-label": caption,
        "tabindex": "0",
      ], [table])
    return .element(
      "div", ["class": "table"], [scroller] + footnotes.map { .element("p", ["class": "note"], [.text($0)]) })
  }
}
