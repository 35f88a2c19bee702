import NormFoldFormats
/// A drawing holds shapes in a box of its own size, in pixels at the size that it is meant for.
package struct Drawing: Sendable {
  enum Anchor: String { case start, middle, end }

  package let width: Double
  package let height: Double
  package private(set) var nodes: [Node] = []

  init(width: Double, height: Double) {
    self.width = width
    self.height = height
  }

  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, class name: String) {
    nodes.append(
      .element(
        "line",
        ["class": name, "x1": x1.coordinate, "y1": y1.coordinate, "x2": x2.coordinate, "y2": y2.coordinate]))
  }

  mutating func text(_ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start, class name: String) {
    nodes.append(
      .element(
        "text", ["class": name, "x": x.coordinate, "y": y.coordinate, "text-anchor": anchor.rawValue], [.text(text)]))
  }

  /// - Parameter title: what is said when the pointer rests on it.
  mutating func rectangle(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, class name: String, title: String? = nil
  ) {
    nodes.append(
      .element(
        "rect",
        [
          "class": name, "x": x.coordinate, "y": y.coordinate, "width": max(0, width).coordinate,
          "height": max(0, height).coordinate,
        ], Self.titles(title)))
  }

  /// - Parameter data: absolute commands.
  mutating func path(_ data: String, class name: String, title: String? = nil) {
    nodes.append(.element("path", ["class": name, "d": data], Self.titles(title)))
  }

  private static func titles(_ title: String?) -> [Node] { title.map { [.element("title", [:], [.text($0)])] } ?? [] }
}

extension Double {
  /// For an attribute: two digits behind the point suffice for a screen. What is no number cannot be drawn, and must have
  /// been left out before.
  var coordinate: String {
    precondition(isFinite)
    let rounded = (self * 100).rounded() / 100
    return rounded == rounded.rounded() ? String(Int(rounded)) : rounded.text(.fixed(2))
  }
}

extension String {
  /// About how wide the text is in pixels, at 12 pixels a line: labels must not run into each other, whatever font there is.
  var estimatedWidth: Double {
    unicodeScalars.reduce(0) { width, scalar in
      switch scalar {
      case "⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹", "⁻": width + 4.9
      case ".", ",", "i", "l", "'", "|", " ", "t", "f", "r", "j": width + 4.2
      case "m", "w", "M", "W", "—": width + 10
      default: width + 7
      }
    }
  }
}
