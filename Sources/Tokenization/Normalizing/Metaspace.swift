/// SentencePiece's way with spaces: `▁` stands for each and, as `prefix` says, for the beginning of a text.
package struct Metaspace: Sendable, Equatable {
  /// The parts of a text that get a `▁` in front (`prepend_scheme`).
  package enum Prefix: String, Sendable {
    case never
    /// The beginning of the text alone.
    case first
    /// The beginning of the text, and of what stands behind an added token.
    case always
  }

  package var prefix = Prefix.always
  /// Is true if text that starts with a space gets one more.
  package var precedesSpaces = true
  /// Is true if nothing is merged across a space (`split`).
  package var splits = false

  static let mark: [UInt8] = [0xE2, 0x96, 0x81]

  /// Returns whether a part of a text gets a `▁` in front.
  func putsMark(before text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> Bool {
    switch (prefix, place) {
    case (.never, _), (.first, .behindToken), (_, .middle): return false
    case (.first, .start), (.always, .start), (.always, .behindToken): break
    }
    if range.isEmpty || precedesSpaces { return !range.isEmpty }
    let (scalar, _) = text.scalar(at: range.lowerBound)
    return scalar != " " && scalar != SentencePieceKind.mark
  }

  /// Returns a part of a text with `▁` for spaces.
  func applied(to text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> [UInt8] {
    var result = putsMark(before: text, range, at: place) ? Self.mark : []
    result.reserveCapacity(range.count + range.count / 2)
    for index in range {
      if text[index] == UInt8(ascii: " ") { result += Self.mark } else { result.append(text[index]) }
    }
    return result
  }
}

/// SentencePiece's normalizer: characters are replaced by a map, runs of spaces become one, and spaces become `▁`.
///
/// Source: `Normalizer::Normalize` in SentencePiece's normalizer.cc.
struct SpaceNormalizer: TextNormalizer {
  let spaces: Metaspace
  let removesExtraSpaces: Bool
  let characterMap: CharacterMap?
  /// Pieces that stay as they are.
  let protected: AddedTokens

  func normalized(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> [UInt8]? {
    guard removesExtraSpaces || characterMap != nil else { return spaces.applied(to: text, range, at: place) }
    var result = spaces.putsMark(before: text, range, at: place) ? Metaspace.mark : []
    var isAfterSpace = removesExtraSpaces && place != .middle
    var index = range.lowerBound
    while index < range.upperBound {
      var piece = self.piece(at: index, in: text, upTo: range.upperBound)
      index = piece.end
      if isAfterSpace {
        piece.bytes = piece.bytes.drop { $0 == UInt8(ascii: " ") }
      }
      guard let last = piece.bytes.last else { continue }
      for byte in piece.bytes {
        if byte == UInt8(ascii: " ") { result += Metaspace.mark } else { result.append(byte) }
      }
      isAfterSpace = removesExtraSpaces && last == UInt8(ascii: " ")
    }
    if removesExtraSpaces {
      while result.suffix(3).elementsEqual(Metaspace.mark) { result.removeLast(3) }
    }
    return result
  }

  /// Returns what the characters at a place become, and where these characters end: a protected piece, what the map
  /// has, or one character.
  private func piece(at index: Int, in text: Span<UInt8>, upTo end: Int) -> (bytes: ArraySlice<UInt8>, end: Int) {
    if let end = protected.end(ofTokenAt: index, in: text, upTo: end) { return (bytes(text, index..<end), end) }
    if let match = characterMap?.match(at: index, in: text, upTo: end) { return (match.replacement, match.end) }
    let (_, next) = text.scalar(at: index)
    return (bytes(text, index..<next), next)
  }

  private func bytes(_ text: Span<UInt8>, _ range: Range<Int>) -> ArraySlice<UInt8> { range.map { text[$0] }[...] }

  func isSegmentStart(_ index: Int, in text: Span<UInt8>) -> Bool {
    guard removesExtraSpaces || characterMap != nil else { return true }
    guard index > 0, protected.allowCut(before: index, in: text) else { return false }
    // The character before may be no space that more would be joined to, whatever it becomes.
    let before = text.scalar(before: index).scalar
    guard before != " ", before != SentencePieceKind.mark else { return false }
    guard let characterMap else { return true }
    for place in max(0, index - characterMap.longest)..<index where text.isStartOfScalar(place) {
      guard let match = characterMap.match(at: place, in: text, upTo: text.count) else { continue }
      if match.end > index { return false }
      let last = match.replacement.last
      if match.end == index, last == nil || last == UInt8(ascii: " ") || last == Metaspace.mark[2] { return false }
    }
    return true
  }

  var usualShrinkage: Int { 4 }
}
