/// The look that tells one of several series from the others: its colour, the shape of its points and the dashes of its
/// line.
struct Mark: Sendable {
  private enum Shape: CaseIterable { case circle, square, diamond, triangle, cross }

  private let shape: Shape
  /// The class of the style sheet that has its colour and dashes.
  let name: String

  /// - Parameter index: which of the series; colours and dashes repeat after six, shapes after five.
  init(_ index: Int) {
    shape = Shape.allCases[index % Shape.allCases.count]
    name = "s\(index % 6)"
  }

  /// A path around a point.
  func path(_ x: Double, _ y: Double, radius r: Double) -> String {
    func point(_ dx: Double, _ dy: Double) -> String { "\((x + dx).coordinate) \((y + dy).coordinate)" }
    switch shape {
    case .circle:
      let arc = "A\(r.coordinate) \(r.coordinate) 0 1 0"
      return "M\(point(-r, 0))\(arc) \(point(r, 0))\(arc) \(point(-r, 0))Z"
    case .square:
      let s = r * 0.9
      return "M\(point(-s, -s))L\(point(s, -s))L\(point(s, s))L\(point(-s, s))Z"
    case .diamond:
      let s = r * 1.25
      return "M\(point(0, -s))L\(point(s, 0))L\(point(0, s))L\(point(-s, 0))Z"
    case .triangle:
      return "M\(point(0, -r * 1.15))L\(point(r * 1.1, r * 0.85))L\(point(-r * 1.1, r * 0.85))Z"
    case .cross:
      let (s, t) = (r * 1.1, r * 0.4)
      return
        "M\(point(-t, -s))L\(point(t, -s))L\(point(t, -t))L\(point(s, -t))L\(point(s, t))L\(point(t, t))"
        + "L\(point(t, s))L\(point(-t, s))L\(point(-t, t))L\(point(-s, t))L\(point(-s, -t))L\(point(-t, -t))Z"
    }
  }
}
