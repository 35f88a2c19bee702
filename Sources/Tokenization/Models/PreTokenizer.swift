/// Cuts text into the pieces that merges never cross, as GPT-2's pattern does:
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// or as Llama 3's does, of which Qwen2's differs in how many digits stand together:
///
///     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///
/// Text is a span of valid UTF-8.
struct PreTokenizer: Sendable {
  private let classes = CharacterClass.table
  private let digitLimit: Int?

  init(_ pattern: SplittingPattern = .gpt2) { digitLimit = pattern.digitLimit }

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
    if let digitLimit { return self.end(ofModernPieceAt: start, in: text, upTo: end, digitLimit: digitLimit) }
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

  /// The same by Llama 3's pattern: its alternatives, in their order.
  private func end(
    ofModernPieceAt start: Int, in text: Span<UInt8>, upTo end: Int, digitLimit: Int
  ) -> Int {
    let first = text[start]
    if first == UInt8(ascii: "'"), let end = self.end(ofAnyCaseContractionAt: start, in: text, upTo: end) { return end }
    let (kind, second) = character(at: start, in: text)
    if kind == .letter { return self.end(ofRunOf: .letter, from: second, in: text, upTo: end) }
    if kind == .number {
      var (index, count) = (second, 1)
      while index < end, count < digitLimit {
        let (found, next) = character(at: index, in: text)
        guard found == .number else { break }
        (index, count) = (next, count + 1)
      }
      return index
    }
    let next = second < end ? character(at: second, in: text) : nil
    if let next, next.kind == .letter, !Self.isLineBreak(first) {
      return self.end(ofRunOf: .letter, from: next.end, in: text, upTo: end)
    }
    if kind == .other || first == UInt8(ascii: " ") && next?.kind == .other {
      var index = self.end(ofRunOf: .other, from: second, in: text, upTo: end)
      while index < end, Self.isLineBreak(text[index]) { index += 1 }
      return index
    }
    // White space: up to its last line break, else all of it but the last before something else.
    var (index, last, afterBreak) = (start, start, nil as Int?)
    while index < end {
      let (found, next) = character(at: index, in: text)
      guard found == .space else { break }
      if Self.isLineBreak(text[index]) { afterBreak = next }
      (last, index) = (index, next)
    }
    if let afterBreak { return afterBreak }
    return index < end && last > start ? last : index
  }

  private static func isLineBreak(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\n") }

  /// A contraction in either case; U+017F is an s.
  private func end(ofAnyCaseContractionAt start: Int, in text: Span<UInt8>, upTo end: Int) -> Int? {
    func lower(_ index: Int) -> UInt8? { index < end ? text[index] | 0x20 : nil }
    guard start + 1 < end else { return nil }
    if text[start + 1] == 0xC5, start + 2 < end, text[start + 2] == 0xBF { return start + 3 }
    switch lower(start + 1) {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"): return lower(start + 2) == UInt8(ascii: "e") ? start + 3 : nil
    case UInt8(ascii: "l"): return lower(start + 2) == UInt8(ascii: "l") ? start + 3 : nil
    default: return nil
    }
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
    if digitLimit != nil {
      let isBreak = Self.isLineBreak(text[index])
      switch left {
      // Behind a line break, nothing but white space goes on.
      case .space: return Self.isLineBreak(text[start]) && right != .space
      case .letter, .number: return right != left
      case .other: return right == .space && !isBreak || right == .number
      }
    }
    switch left {
    case .space: return false
    case .letter, .number: return right != left
    // A letter may make a contraction of an apostrophe.
    case .other: return right == .space || right == .number
    }
  }
}
