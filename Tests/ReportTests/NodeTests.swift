import NormFoldReport
import Testing

@Suite struct NodeTests {
  private static let hostile = [
    "<script>alert(1)</script>", "\" onload=\"alert(1)", "' onload='x", "]]>", "&amp;<!--", "a & b < c > d",
    "</style><script>", "<![CDATA[x]]>", "&#x3c;b&#x3e;",
  ]

  @Test("What a file is named stays text, and is read back as it is", arguments: hostile)
  func escaping(name: String) throws {
    let node = Node.element("p", ["title": name], [.text(name), .element("code", [:], [.text(name)])])
    let element = try #require(Markup.parse(node.rendered()))
    #expect(element.text == name + name)
    #expect(element.attributes == ["title": name])
    #expect(element.all.map(\.name) == ["p", "code"])
  }

  @Test("A name that is too long to read is cut, the outline of a shape is not")
  func long() throws {
    let long = String(repeating: "x", count: 5_000)
    let element = try #require(Markup.parse(Node.element("p", ["title": long], [.text(long)]).rendered()))
    #expect(element.attributes["title"] == long)
    #expect(element.text == String(repeating: "x", count: 2_000) + "…")
  }

  @Test(
    "What steers a terminal, turns the direction of a line or may stand in no XML is spelt out",
    arguments: [
      ("a\u{1B}[31mb", "a\\u{1b}[31mb"), ("a\u{0}b", "a\\u{0}b"), ("a\u{202E}b", "a\\u{202e}b"),
      ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"), ("a\nb\tc", "a\\u{a}b\\u{9}c"), ("a\u{FFFF}b", "a\u{FFFD}b"),
      ("a\u{85}b", "a\\u{85}b"),
    ])
  func controls(name: String, expected: String) throws {
    let element = try #require(Markup.parse(Node.element("p", ["title": name], [.text(name)]).rendered()))
    #expect(element.text == expected)
    #expect(element.attributes["title"] == expected)
  }
}
