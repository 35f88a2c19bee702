/// Cuts text into the pieces that merges never cross, as GPT-2's pattern does:
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// Text is a span of valid UTF-8.
struct PreTokenizer: Sendable {
  private let classes = CharacterClass.table

  /// The class of the character at `index`, and where it ends.
  @inline(__always)
  private func character(at index: Int, in text: Span<UInt8>) -> (kind: CharacterClass, end: Int) {
    let first = text[index]
    if first < 0x80 { return (classes[Int(first)], index + 1) }
    if first < 0xE0 { return (classes[Int(first & 0x1F) << 6 | Int(text[index + 1] & 0x3F)], index + 2) }
    if first < 0xF0 {
      let value = Int(first & 0xF) << 12 | Int(text[index + 1] & 0x3F) << 6 | Int(text[index + 2] & 0x3F)
      return (classes[value], index + 3)
    }
    let value =
      Int(first & 7) << 18 | Int(text[index + 1] & 0x3F) << 12 | Int(text[index + 2] & 0x3F) << 6
      | Int(text[index + 3] & 0x3F)
    return (value < CharacterClass.classifiedCount ? classes[value] : .other, index + 4)
  }

  /// Returns where the piece that starts at `start` ends.
  ///
  /// - Precondition: `start < end`, both between characters.
  @inline(__always)
  func end(ofPieceAt start: Int, in text: Span<UInt8>, upTo end: Int) -> Int {
    let first = text[start]
    if first == UInt8(ascii: " ") {
      guard start + 1 < end else { return end }
      let next = character(at: start + 1, in: text)
      if next.kind != .space { return self.end(ofRunOf: next.kind, from: next.end, in: text, upTo: end) }
    } else if first == UInt8(ascii: "'"), let end = self.end(ofContractionAt: start, in: text, upTo: end) {
      return end
    }
    let (kind, second) = character(at: start, in: text)
    guard kind == .space else { return self.end(ofRunOf: kind, from: second, in: text, upTo: end) }
    // The last white space before a word belongs to what follows it, unless it is the only one and no U+0020.
    var last = start
    var index = second
    while index < end {
      let (kind, next) = character(at: index, in: text)
      guard kind == .space else { return last > start ? last : index }
      (last, index) = (index, next)
    }
    return end
  }

  @inline(__always)
  private func end(ofRunOf kind: CharacterClass, from start: Int, in text: Span<UInt8>, upTo end: Int) -> Int {
    var index = start
    while index < end {
      let (found, next) = character(at: index, in: text)
      guard found == kind else { break }
      index = next
    }
    return index
  }

  private func end(ofContractionAt start: Int, in text: Span<UInt8>, upTo end: Int) -> Int? {
    guard start + 1 < end else { return nil }
    switch text[start + 1] {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"):
      return start + 2 < end && text[start + 2] == UInt8(ascii: "e") ? start + 3 : nil
    case UInt8(ascii: "l"):
      return start + 2 < end && text[start + 2] == UInt8(ascii: "l") ? start + 3 : nil
    default: return nil
    }
  }

  /// Returns whether text cut before `index` is split as it would be whole: whatever a piece on the left starts with, it ends
  /// here, and nothing on the right depends on what is left of it.
  ///
  /// - Precondition: `index` is between two characters.
  func isBoundary(_ index: Int, in text: Span<UInt8>) -> Bool {
    var start = index - 1
    while text[start] & 0xC0 == 0x80 { start -= 1 }
    let (left, right) = (character(at: start, in: text).kind, character(at: index, in: text).kind)
    switch left {
    case .space: return false
    case .letter, .number: return right != left
    // A letter may make a contraction of an apostrophe.
    case .other: return right == .space || right == .number
    }
  }
}
