import Formats

extension Tokenizer {
  /// The tokens of a text file, in order, in batches. Memory stays bounded however large the file is.
  ///
  /// The text is cut where the pattern splits it whatever stands around (``PreTokenizer/isBoundary(_:in:)``), and where
  /// no added token is near: the tokens are those of the whole.
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
    let file = try MappedFile(path: path)
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
        encoder.tokens.removeAll(keepingCapacity: true)
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

  /// What one piece of text may have at most, so that memory is bounded.
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
      while count > window.count - 3, count > 0, window[count - 1] & 0xC0 == 0x80 { count -= 1 }
      if count > 0, window[count - 1] >= 0xC0 { count -= 1 }
    }
    let text = window.extracting(0..<count)
    try text.requireUTF8(file: file, baseOffset: start)
    guard !isLast else {
      encoder.encode(text)
      return start + text.count
    }
    // Nearer to the end, an added token might reach over the cut unseen.
    var cut = count - 1 - (addedTokens.map(\.longest).max() ?? 0)
    while cut > 0, !isCut(cut, in: text) { cut -= 1 }
    guard cut > 0 else { return start }
    encoder.encode(text.extracting(0..<cut))
    return start + cut
  }

  private func isCut(_ index: Int, in text: Span<UInt8>) -> Bool {
    text[index] & 0xC0 != 0x80 && preTokenizer.isBoundary(index, in: text)
      && addedTokens.allSatisfy { $0.allowCut(before: index, in: text) }
  }
}
