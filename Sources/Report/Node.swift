import NormFoldFormats

/// A piece of a page.
///
/// A node renders HTML and well-formed XML at once. Text and attributes are escaped where they are rendered and nowhere
/// else, so that no name from a file can become markup, steer a terminal or turn the direction of its line.
package struct Node: Sendable {
  private indirect enum Content: Sendable {
    case element(String, [(name: String, value: String)], [Node])
    case text(Message)
    case whole(String)
    case verbatim(StaticString)
  }

  private let content: Content

  private init(_ content: Content) { self.content = content }

  package static func element(
    _ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ children: [Node] = []
  ) -> Node {
    Node(.element(name, attributes.map { ($0.key, $0.value) }, children))
  }

  package static func text(_ text: String) -> Node { Node(.text(Message(text))) }

  package static func text(_ text: Message) -> Node { Node(.text(text)) }

  /// Returns a node of a text that is shown whole, however long it is, with its lines.
  static func whole(_ text: String) -> Node { Node(.whole(text)) }

  /// Returns a node of what this program's source says, as it stands there: a style sheet.
  static func verbatim(_ text: StaticString) -> Node { Node(.verbatim(text)) }

  package func rendered(naming names: SettingNames = .library) -> String {
    var output = ""
    render(to: &output, naming: names)
    return output
  }

  /// Elements that HTML ends where they begin.
  private static let emptyElements: Set = ["meta"]

  private func render(to output: inout String, naming names: SettingNames) {
    switch content {
    case .text(let text): Self.escape(text.text(naming: names).printable, to: &output)
    case .whole(let text):
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).withControlsEscaped }
      Self.escape(lines.joined(separator: "\n"), to: &output)
    case .verbatim(let text): output += text.description
    case .element(let name, let attributes, let children):
      output += "<\(name)"
      for attribute in attributes {
        output += " \(attribute.name)=\""
        // Whole: the outline of a shape is long.
        Self.escape(attribute.value.withControlsEscaped, to: &output)
        output += "\""
      }
      guard !Self.emptyElements.contains(name) else { return output += "/>" }
      output += ">"
      for child in children { child.render(to: &output, naming: names) }
      output += "</\(name)>"
    }
  }

  private static func escape(_ text: String, to output: inout String) {
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": output += "&amp;"
      case "<": output += "&lt;"
      case ">": output += "&gt;"
      case "\"": output += "&quot;"
      case "'": output += "&#39;"
      // No XML may hold these two.
      case "\u{FFFE}", "\u{FFFF}": output += "\u{FFFD}"
      default: output.unicodeScalars.append(scalar)
      }
    }
  }
}

extension Node: ExpressibleByStringInterpolation {
  package init(stringLiteral value: String) { self = .text(value) }
}
