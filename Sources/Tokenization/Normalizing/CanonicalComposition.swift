// The standard library normalises, but not in public yet. Foundation would do it by ICU.
@_spi(_Unicode) import Swift

/// Unicode's normalisation form C, which composes letters and their marks, as Hugging Face's `tokenizers` computes it.
///
/// Text is a span of valid UTF-8. It consists of segments: what stands left of a segment neither changes it nor is
/// changed by it, so that each segment is normalised alone.
///
/// Source: Unicode Standard Annex 15, "Unicode Normalization Forms", sections 1.2, 3 and 9.
enum CanonicalComposition {
  /// A role says what a character does to the text around it.
  private enum Role: UInt8 {
    /// The character starts a segment and is in form C. What follows may compose with it.
    case starter
    /// The character is newer than the tables of `tokenizers`, which leave it alone: it is a segment of its own.
    case unknown
    /// The character may change, compose with what stands before it, or trade places with it.
    case active
  }

  /// The version of Unicode that `tokenizers` 0.23 normalises by. Later versions normalise the characters of this one
  /// alike, by Unicode's stability policy.
  private static let unicodeVersion: Unicode.Version = (major: 9, minor: 0)

  private static func role(of scalar: Unicode.Scalar) -> Role {
    let properties = scalar.properties
    guard let age = properties.age, age <= unicodeVersion else { return .unknown }
    guard properties.canonicalCombiningClass == .notReordered else { return .active }
    let text = String(scalar)
    var bytes = text.utf8Span
    return bytes.checkForNFC(quickCheck: true) ? .starter : .active
  }

  /// The role of each scalar of planes 0 to 2. The characters of later planes are all starters.
  private static let roles: [Role] = (UInt32(0)..<0x30000).map { value in
    Unicode.Scalar(value).map { role(of: $0) } ?? .unknown
  }

  /// The role of the character at `index`, and where it ends.
  @inline(__always)
  private static func character(at index: Int, in text: Span<UInt8>) -> (role: Role, end: Int) {
    // Every character below U+0300 is a starter.
    let first = text[index]
    if first < 0x80 { return (.starter, index + 1) }
    if first < 0xCC { return (.starter, index + 2) }
    let (scalar, end) = text.scalar(at: index)
    return (scalar.value < roles.count ? roles[Int(scalar.value)] : .starter, end)
  }

  // MARK: Normalising

  /// Returns a part of a text in form C; nil where nothing in it can change.
  static func normalized(_ text: Span<UInt8>, _ range: Range<Int>) -> [UInt8]? {
    var result: [UInt8] = []
    var copied = range.lowerBound
    /// The place where the segment starts, unless nothing can compose with its first character.
    var segment = range.lowerBound
    var index = range.lowerBound
    while index < range.upperBound {
      let (role, next) = character(at: index, in: text)
      switch role {
      case .starter:
        (segment, index) = (index, next)
      case .unknown:
        (segment, index) = (next, next)
      case .active:
        var end = next
        while end < range.upperBound, case (.active, let after) = character(at: end, in: text) { end = after }
        for place in copied..<segment { result.append(text[place]) }
        append(text, segment..<end, to: &result)
        (copied, segment, index) = (end, end, end)
      }
    }
    guard copied > range.lowerBound else { return nil }
    for place in copied..<range.upperBound { result.append(text[place]) }
    return result
  }

  private static func append(_ text: Span<UInt8>, _ range: Range<Int>, to result: inout [UInt8]) {
    for scalar in sortable(text, range)._nfc { result.append(contentsOf: scalar.utf8) }
  }

  /// A part of a text in a form of which the standard library makes normal forms, in linear time.
  private static func sortable(_ text: Span<UInt8>, _ range: Range<Int>) -> String {
    var scalars: [Unicode.Scalar] = []
    var index = range.lowerBound
    while index < range.upperBound {
      let (scalar, next) = text.scalar(at: index)
      // In the standard library's normalisation, as of Swift 6.3, these three end a run of marks, though each stands for
      // two marks. No other character is like them, and by Unicode's stability policy none will be.
      switch scalar {
      case "\u{F73}": scalars += ["\u{F71}", "\u{F72}"]
      case "\u{F75}": scalars += ["\u{F71}", "\u{F74}"]
      case "\u{F81}": scalars += ["\u{F71}", "\u{F80}"]
      default: scalars.append(scalar)
      }
      index = next
    }
    if scalars.count > longestUnsorted { sortMarks(in: &scalars) }
    return String(String.UnicodeScalarView(scalars))
  }

  /// Calls `body` with each character of the normalisation form D of a part of a text.
  static func decompose(_ text: Span<UInt8>, _ range: Range<Int>, _ body: (Unicode.Scalar) -> Void) {
    var index = range.lowerBound
    while index < range.upperBound {
      var (scalar, end) = text.scalar(at: index)
      guard scalar.value >= 0x80, isKnown(scalar) else {
        body(scalar)
        index = end
        continue
      }
      while end < range.upperBound {
        let (next, after) = text.scalar(at: end)
        guard next.value >= 0x80, isKnown(next) else { break }
        (scalar, end) = (next, after)
      }
      for scalar in sortable(text, index..<end)._nfd { body(scalar) }
      index = end
    }
  }

  private static func isKnown(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value >= roles.count || roles[Int(scalar.value)] != .unknown
  }

  /// Returns whether text cut before a character has the normalisation form D of the whole.
  static func startsDecomposition(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x300
      || scalar.properties.canonicalCombiningClass == .notReordered
        && !["\u{F73}", "\u{F75}", "\u{F81}"].contains(scalar)
  }

  /// The standard library sorts marks in quadratic time, unless they are sorted already. No letter in use has as many.
  private static let longestUnsorted = 32

  /// Brings each run of marks into canonical order, which changes no normal form.
  private static func sortMarks(in scalars: inout [Unicode.Scalar]) {
    let classes = scalars.map(\.properties.canonicalCombiningClass.rawValue)
    var start = 0
    while start < scalars.count {
      var end = start
      while end < scalars.count, classes[end] != 0 { end += 1 }
      if end > start + 1 {
        let sorted = (start..<end).sorted { (classes[$0], $0) < (classes[$1], $1) }.map { scalars[$0] }
        scalars.replaceSubrange(start..<end, with: sorted)
      }
      start = end + 1
    }
  }

  /// Returns a text in form C.
  static func normalized(_ text: [UInt8]) -> [UInt8] { normalized(text.span, text.indices) ?? text }

  // MARK: Segments

  /// A part of text is at most so many times as long as its form C: U+1FBE, U+0308 and U+0301 are seven bytes and become
  /// the two of U+0390, and no characters shrink more.
  static let largestShrinkage = 4

  /// Returns whether text cut before `index` is normalised as it would be whole.
  ///
  /// - Precondition: `index` is between two characters.
  static func isSegmentStart(_ index: Int, in text: Span<UInt8>) -> Bool {
    character(at: index, in: text).role != .active
  }
}

/// The normalizer `NFC` of `tokenizers`.
struct CanonicalNormalizer: TextNormalizer {
  func normalized(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> [UInt8]? {
    CanonicalComposition.normalized(text, range)
  }

  func isSegmentStart(_ index: Int, in text: Span<UInt8>) -> Bool {
    CanonicalComposition.isSegmentStart(index, in: text)
  }

  var usualShrinkage: Int { CanonicalComposition.largestShrinkage }
}
