import NormFoldFormats

extension Tokenizer {
  /// The tokens of a text file, in order, in batches. Memory stays bounded however large the file is.
  ///
  /// The text is cut where the model takes it apart whatever stands around (``TokenModel/isBoundary(_:in:)``), where
  /// no added token is near, and where normalisation changes nothing across the cut: the tokens are those of the whole.
  ///
  /// - Parameters:
  ///   - limit: ends with the batch that completes so many tokens.
  ///   - windowByteCount: how much is looked at in one piece.
  /// - Throws: `.malformed` with the offset of the first byte that is not UTF-8, or where the file changes; `.unsupported`
  ///   for more than ``longestUncutByteCount`` bytes without a place to cut: one word, or white space alone; what
  ///   `body` throws. Batches before that have been delivered.
  package func encodeFile(
    at path: String, upTo limit: Int = .max, windowByteCount: Int = 1 << 20, _ body: ([Int]) throws(Refusal) -> Void
  ) throws(Refusal) {
    let file = try MappedFile.readable(at: path)
    var encoder = Encoder(self, expecting: file.byteCount)
    var start = 0
    var room = windowByteCount
    var tokenCount = 0
    while start < file.byteCount, tokenCount < limit {
      let windowEnd = min(file.byteCount, start + room)
      let end = try file.parse { (bytes) throws(Refusal) in
        try unsafe bytes.withUnsafeBytes { (buffer) throws(Refusal) in
          let window = unsafe UnsafeRawBufferPointer(rebasing: buffer[start..<windowEnd])
          let text = unsafe Span<UInt8>(_unsafeElements: window.assumingMemoryBound(to: UInt8.self))
          return try encode(text, from: start, isLast: windowEnd == file.byteCount, file: path, with: &encoder)
        }
      }
      if end > start {
        file.forget(before: end)
        (start, room) = (end, windowByteCount)
        tokenCount += encoder.tokens.count
        try body(encoder.tokens)
        encoder.removeTokens()
      } else {
        guard room < Self.longestUncutByteCount else {
          throw Refusal(
            .unsupported, file: path, at: start,
            "expected a place to cut the text within \(Self.longestUncutByteCount) bytes, found one word or white space alone",
            advice: "this does not look like text; break it into lines")
        }
        room *= 2
      }
    }
  }

  /// The largest number of bytes of one piece of text, so that memory is bounded.
  package static let longestUncutByteCount = 1 << 22

  /// Encodes what the window allows.
  ///
  /// - Returns: where that ends, in the file.
  private func encode(
    _ window: Span<UInt8>, from start: Int, isLast: Bool, file: String, with encoder: inout Encoder
  ) throws(Refusal) -> Int {
    var count = window.count
    if !isLast {
      // A character that the window cuts belongs to the next one.
      var lead = count - 1
      while lead > max(0, count - 4), window[lead] & 0xC0 == 0x80 { lead -= 1 }
      let width = window[lead] >= 0xF0 ? 4 : window[lead] >= 0xE0 ? 3 : window[lead] >= 0xC0 ? 2 : 1
      if lead + width > count { count = lead }
    }
    let text = window.extracting(0..<count)
    try text.requireUTF8(file: file, baseOffset: start)
    let place = start == 0 ? TextPlace.start : .middle
    guard !isLast else {
      encoder.encode(text, at: place)
      return start + text.count
    }
    let cut = cut(of: text, at: place)
    guard cut > 0 else { return start }
    encoder.encode(text.extracting(0..<cut), at: place)
    return start + cut
  }

  /// Returns the last place where a text that goes on can be cut; 0 where there is none.
  private func cut(of text: Span<UInt8>, at place: TextPlace) -> Int {
    // Nearer to the end, an added token might reach over the cut unseen.
    let last = text.count - 1 - max(addedTokens.longest, normalizedTokens.longest)
    // Each stretch between the tokens that are found first is normalised alone.
    for stretch in (normalizer == nil ? [0..<text.count] : addedTokens.stretches(of: text)).reversed() {
      let place = stretch.lowerBound == 0 ? place : .behindToken
      var cut = min(last, stretch.upperBound - 1)
      while cut > stretch.lowerBound {
        if isCut(cut, in: text, stretch, at: place) { return cut }
        cut -= 1
      }
    }
    return 0
  }

  /// Returns whether text that is cut before `index`, within the stretch, has the tokens of the whole.
  private func isCut(_ index: Int, in text: Span<UInt8>, _ stretch: Range<Int>, at place: TextPlace) -> Bool {
    guard text.isStartOfScalar(index) else { return false }
    guard let normalizer else {
      return model.isBoundary(index, in: text) && normalizedTokens.allowCut(before: index, in: text)
        && addedTokens.allowCut(before: index, in: text)
    }
    guard normalizer.isSegmentStart(index, in: text) else { return false }
    // The segments beside the cut decide whether the model takes it apart there. A token can reach farther.
    guard let beside = surroundings(of: index, reaching: 1, in: text, stretch, at: place),
      model.isBoundary(beside.index, in: beside.text.span)
    else { return false }
    if !normalizedTokens.isEmpty {
      guard let around = surroundings(of: index, reaching: normalizedTokens.longest, in: text, stretch, at: place),
        normalizedTokens.allowCut(before: around.index, in: around.text.span)
      else { return false }
    }
    return addedTokens.allowCut(before: index, in: text)
  }

  /// Returns the segments to both sides of a place in normalised form, and where the place is among them; nil where they
  /// are longer than is looked at, or are not all there.
  ///
  /// - Parameter byteCount: how many bytes of the normal form are wanted to either side, where the stretch has so many.
  /// - Precondition: a segment starts at `index`.
  private func surroundings(
    of index: Int, reaching byteCount: Int, in text: Span<UInt8>, _ stretch: Range<Int>, at place: TextPlace
  ) -> (text: [UInt8], index: Int)? {
    guard let normalizer else { return nil }
    let near = byteCount == 1 ? 1 : byteCount * normalizer.usualShrinkage
    let farthest = near + Self.longestSegmentAtCut
    let range = max(stretch.lowerBound, index - farthest)..<min(stretch.upperBound, index + farthest)
    let start = normalizer.segmentStart(atOrBefore: index - near, in: text, range)
    let end = normalizer.segmentStart(atOrAfter: index + near, in: text, range)
    // The ends of the range are those of segments where they are those of the stretch. Near the end of the text, the
    // stretch might end earlier than it seems to: at a token of which only the beginning is there.
    guard start > range.lowerBound || start == stretch.lowerBound, end < range.upperBound || end == stretch.upperBound,
      end < text.count, end <= text.count - addedTokens.longest
    else { return nil }
    func normalized(_ range: Range<Int>, at place: TextPlace) -> [UInt8] {
      normalizer.normalized(text, range, at: place) ?? range.map { text[$0] }
    }
    let before = normalized(start..<index, at: start == stretch.lowerBound ? place : .middle)
    let after = normalized(index..<end, at: .middle)
    // What a normalizer takes away leaves too little to decide by.
    guard before.count >= byteCount || start == stretch.lowerBound && !before.isEmpty,
      after.count >= byteCount || end == stretch.upperBound && !after.isEmpty
    else { return nil }
    return (before + after, before.count)
  }

  /// In bytes. Text is not cut near a letter with more marks than this, so that finding a cut takes bounded time.
  private static let longestSegmentAtCut = 1 << 10
}
