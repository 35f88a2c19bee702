import Foundation
import FoundationXML

/// A page as an XML parser, which shares no code with what wrote it, reads it.
final class Markup: NSObject, XMLParserDelegate {
  final class Element {
    let name: String
    let attributes: [String: String]
    fileprivate(set) var children: [Element] = []
    /// Of itself and all within it.
    fileprivate(set) var text = ""

    fileprivate init(name: String, attributes: [String: String]) {
      self.name = name
      self.attributes = attributes
    }

    /// Itself and all within it.
    var all: [Element] { [self] + children.flatMap(\.all) }

    func all(_ name: String) -> [Element] { all.filter { $0.name == name } }
    var classes: [String] { attributes["class"]?.split(separator: " ").map(String.init) ?? [] }
  }

  private(set) var root: Element?
  private var open: [Element] = []

  /// - Returns: nil where it is not well-formed.
  static func parse(_ text: String) -> Element? {
    let markup = Markup()
    let parser = XMLParser(data: Data(text.utf8))
    parser.delegate = markup
    return parser.parse() ? markup.root : nil
  }

  func parser(
    _ parser: XMLParser, didStartElement elementName: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String]
  ) {
    let element = Element(name: elementName, attributes: attributes)
    open.last?.children.append(element)
    if open.isEmpty { root = element }
    open.append(element)
  }

  func parser(_ parser: XMLParser, didEndElement elementName: String, namespaceURI: String?, qualifiedName: String?) {
    open.removeLast()
  }

  func parser(_ parser: XMLParser, foundCharacters string: String) { for element in open { element.text += string } }
}

/// A rectangle that something drawn takes up.
struct Box {
  var left: Double
  var top: Double
  var right: Double
  var bottom: Double

  /// Of a shape; nil for what has none. Letters are taken for a point.
  init?(_ element: Markup.Element) throws {
    func number(_ name: String) throws -> Double {
      guard let value = element.attributes[name].flatMap(Double.init), value.isFinite else {
        throw Failure.noNumber(element.name, name, element.attributes[name] ?? "nothing")
      }
      return value
    }
    switch element.name {
    case "rect":
      let (x, y) = (try number("x"), try number("y"))
      self.init(left: x, top: y, right: x + (try number("width")), bottom: y + (try number("height")))
    case "line":
      let (x1, y1, x2, y2) = (try number("x1"), try number("y1"), try number("x2"), try number("y2"))
      self.init(left: min(x1, x2), top: min(y1, y2), right: max(x1, x2), bottom: max(y1, y2))
    case "text":
      let (x, y) = (try number("x"), try number("y"))
      self.init(left: x, top: y - 9, right: x, bottom: y)
    case "path":
      let points = try Self.points(of: element.attributes["d"] ?? "")
      let (x, y) = (points.map(\.x), points.map(\.y))
      self.init(left: x.min() ?? .nan, top: y.min() ?? .nan, right: x.max() ?? .nan, bottom: y.max() ?? .nan)
    default: return nil
    }
  }

  private init(left: Double, top: Double, right: Double, bottom: Double) {
    (self.left, self.top, self.right, self.bottom) = (left, top, right, bottom)
  }

  enum Failure: Error { case noNumber(String, String, String), badPath(String) }

  /// The points that a path of absolute commands goes through.
  private static func points(of data: String) throws -> [(x: Double, y: Double)] {
    var points: [(x: Double, y: Double)] = []
    var rest = Substring(data)
    while let command = rest.first {
      rest.removeFirst()
      let end = rest.firstIndex { $0.isLetter } ?? rest.endIndex
      let numbers = try rest[..<end].split(separator: " ").map { text in
        guard let number = Double(text), number.isFinite else { throw Failure.badPath(data) }
        return number
      }
      rest = rest[end...]
      switch (command, numbers.count) {
      case ("M", 2), ("L", 2): points.append((numbers[0], numbers[1]))
      case ("H", 1): points.append((numbers[0], points.last?.y ?? .nan))
      case ("V", 1): points.append((points.last?.x ?? .nan, numbers[0]))
      case ("A", 7): points.append((numbers[5], numbers[6]))
      case ("Z", 0): break
      default: throw Failure.badPath(data)
      }
    }
    return points
  }
}
