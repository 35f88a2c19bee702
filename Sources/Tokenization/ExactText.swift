/// A text that is equal to no other than the one with its bytes: for Swift, "é" is equal to "e\u{301}", and to a vocabulary
/// they are two.
struct ExactText: Hashable, Sendable {
  let text: String

  init(_ text: some StringProtocol) { self.text = String(text) }
  init(_ scalars: Substring.UnicodeScalarView) { text = String(scalars) }

  static func == (one: ExactText, other: ExactText) -> Bool { one.text.utf8.elementsEqual(other.text.utf8) }

  func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
  }
}
