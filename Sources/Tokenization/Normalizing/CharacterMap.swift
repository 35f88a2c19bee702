import NormFoldFormats

/// The replacements that SentencePiece makes of characters: a trie of texts, and the texts that they become.
///
///     byte 0             4            4 + n
///     +------------------+------------+----------------------------+
///     | n: u32           | the trie   | texts, each with a zero    |
///     +------------------+------------+----------------------------+
///
/// The trie is a double array of u32, as darts-clone lays it out: bits 0 to 7 are the label of a node, bit 8 says that it has a leaf,
/// bits 10 to 30 are the offset of its children, in units of 256 where bit 9 is set, and the leaf holds where the text starts.
///
/// Source: darts-clone's `DoubleArrayUnit`, and `Normalizer::DecodePrecompiledCharsMap` in SentencePiece's normalizer.cc.
struct CharacterMap: Sendable {
  private var units: [UInt32] = []
  private var texts: [UInt8] = []
  /// The number of bytes of the longest text that is replaced.
  private(set) var longest = 0

  /// Maps in use replace texts of some twenty bytes.
  private static let depthLimit = 256

  /// - Throws: `.malformed` for a trie that leads nowhere, or in a circle.
  init(_ bytes: ArraySlice<UInt8>, file: String) throws(Refusal) {
    func refusal(_ problem: String) -> Refusal {
      Refusal(.malformed, file: file, subject: "normalizer_spec.precompiled_charsmap", problem)
    }
    func number(_ offset: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[bytes.startIndex + offset + $1]) << UInt32(8 * $1) }
    }
    guard bytes.count >= 8 else { throw refusal("expected a trie, found \(bytes.count.bytes)") }
    let byteCount = Int(number(0))
    guard byteCount >= 4, byteCount % 4 == 0, byteCount <= bytes.count - 4 else {
      throw refusal("expected a trie of at most \((bytes.count - 4).bytes), found one of \(byteCount.bytes)")
    }
    units = (0..<byteCount / 4).map { number(4 + 4 * $0) }
    texts = Array(bytes.dropFirst(4 + byteCount))
    guard String(validating: texts, as: UTF8.self) != nil else { throw refusal("its texts are not UTF-8") }
    guard let depth = measuredDepth() else { throw refusal("its trie leads out of itself, or in a circle") }
    longest = depth
  }

  // MARK: The double array

  private static func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 0x200) >> 6)) }
  private static func label(_ unit: UInt32) -> UInt32 { unit & 0x8000_00FF }
  private static func hasLeaf(_ unit: UInt32) -> Bool { unit & 0x100 != 0 }

  /// Returns the number of labels to the farthest leaf; nil where nodes lead in a circle, a leaf names no text, or nodes are
  /// too deep. Equal ends of texts share their nodes.
  private func measuredDepth() -> Int? {
    /// A node that is looked at, and the label of the next child.
    struct Step {
      let place: Int
      let base: Int
      var label: UInt32 = 1
    }
    let unknown = -1
    let pending = -2
    /// Labels below each node.
    var below = [Int](repeating: unknown, count: units.count)
    var (deepest, path) = (0, [Step(place: 0, base: Self.offset(units[0]))])
    below[0] = pending
    var reached = [0]
    while let step = path.last {
      guard step.label < 256 else {
        path.removeLast()
        let depth = reached.removeLast()
        below[step.place] = depth
        if path.isEmpty {
          deepest = depth
        } else {
          reached[reached.count - 1] = max(reached[reached.count - 1], depth + 1)
        }
        continue
      }
      path[path.count - 1].label += 1
      let place = step.base ^ Int(step.label)
      guard place < units.count, Self.label(units[place]) == step.label else { continue }
      let base = place ^ Self.offset(units[place])
      if Self.hasLeaf(units[place]) {
        guard base < units.count, Int(units[base] & 0x7FFF_FFFF) < texts.count else { return nil }
      }
      if below[place] == pending || path.count >= Self.depthLimit { return nil }
      if below[place] >= 0 {
        reached[reached.count - 1] = max(reached[reached.count - 1], below[place] + 1)
        continue
      }
      below[place] = pending
      path.append(Step(place: place, base: base))
      reached.append(0)
    }
    return deepest <= Self.depthLimit ? deepest : nil
  }

  /// The longest text at a place that is replaced, and what it becomes.
  func match(at start: Int, in text: Span<UInt8>, upTo end: Int) -> (replacement: ArraySlice<UInt8>, end: Int)? {
    var (place, index) = (Self.offset(units[0]), start)
    var found: (start: Int, end: Int)?
    while index < end, text[index] != 0 {
      place ^= Int(text[index])
      guard place < units.count, Self.label(units[place]) == UInt32(text[index]) else { break }
      let unit = units[place]
      index += 1
      place ^= Self.offset(unit)
      if Self.hasLeaf(unit), place < units.count { found = (Int(units[place] & 0x7FFF_FFFF), index) }
    }
    // Texts in UTF-8 that a trie of something else cuts stay whole.
    guard let found, found.start < texts.count, found.end == end || text.isStartOfScalar(found.end) else { return nil }
    let stop = texts[found.start...].firstIndex(of: 0) ?? texts.count
    return (texts[found.start..<stop], found.end)
  }
}
