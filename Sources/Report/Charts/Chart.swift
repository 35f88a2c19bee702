/// A drawing of numbers that can be made for any width, so that its letters are of one size on a phone and on a desk.
package protocol Chart: Sendable {
  /// A sentence on what is to be seen, for those who cannot see it.
  var summary: String { get }
  /// The names of the series with their marks; empty where there is one and the title names it.
  var legend: [LegendEntry] { get }
  func drawing(width: Double) -> Drawing
}

package struct LegendEntry: Sendable {
  enum Symbol: Sendable { case line, area }

  let name: String
  let mark: Mark
  let symbol: Symbol

  var node: Node {
    var drawing = Drawing(width: 26, height: 12)
    switch symbol {
    case .line:
      drawing.line(0, 6, 26, 6, class: "line \(mark.name)")
      drawing.path(mark.path(13, 6, radius: 4), class: "point \(mark.name)")
    case .area:
      drawing.rectangle(1, 1, 24, 10, class: "area \(mark.name)")
      drawing.line(1, 1, 25, 1, class: "line \(mark.name)")
    }
    return .element(
      "li", [:],
      [
        .element("svg", ["viewBox": "0 0 26 12", "width": "26", "height": "12", "aria-hidden": "true"], drawing.nodes),
        .text(name),
      ])
  }
}

/// A value beyond which something fails, or that something is held against.
package struct Threshold: Sendable {
  let value: Double
  let label: String
}
