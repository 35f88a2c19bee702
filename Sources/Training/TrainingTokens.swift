import NormFoldFormats

/// The tokens that a network is trained on: a mapped file of 16-bit ids, or ids in memory.
package struct TrainingTokens: Sendable {
  private enum Content: Sendable {
    case mapped(MappedFile)
    case ids([UInt32])
  }

  private let content: Content
  package let count: Int
  /// The name of what the tokens are from, for messages.
  package let source: String

  package init(_ ids: [Int], source: String) {
    content = .ids(ids.map { UInt32($0) })
    count = ids.count
    self.source = source
  }

  /// Maps a file of little-endian 16-bit ids.
  ///
  /// - Throws: `.malformed` where half an id is left at the end.
  package init(file path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    guard file.byteCount.isMultiple(of: 2) else {
      throw Refusal(
        .malformed, file: path, "expected 16-bit ids, found \(file.byteCount) bytes, half an id at the end",
        advice: "write it again, or cut off the last byte")
    }
    (content, count, source) = (.mapped(file), file.byteCount / 2, path)
  }

  package subscript(range: Range<Int>) -> [Int] {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    switch content {
    case .ids(let ids): return ids[range].map { Int($0) }
    case .mapped(let file):
      return file.withBytes { bytes in
        range.map {
          Int(UInt16(littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
        }
      }
    }
  }

  /// A number that other tokens do not have: of their count, and of the first and last of them.
  package var fingerprint: UInt64 {
    let share = min(count, 1 << 19)
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325 ^ UInt64(count)
    for range in [0..<share, count - share..<count] {
      for id in self[range] { hash = (hash ^ UInt64(id)) &* 0x0000_0100_0000_01B3 }
    }
    return hash
  }

  /// - Throws: `.malformed` where the file was changed while it was read.
  package func requireIntact() throws(Refusal) { if case .mapped(let file) = content { try file.requireIntact() } }
}

/// Says which tokens each step reads. The text is cut into sequences one behind the other, what is left at the end is
/// dropped; where they are used up, they are read again.
package struct TokenOrder: Sendable {
  package let sequenceCount: Int
  private let context: Int
  private let seed: Int?

  /// - Throws: `.malformed` for fewer tokens than one sequence has.
  package init(tokenCount: Int, context: Int, shuffle seed: Int?, source: String) throws(Refusal) {
    sequenceCount = tokenCount / context
    self.context = context
    self.seed = seed
    guard sequenceCount > 0 else {
      throw Refusal(
        .malformed, file: source, "has \(tokenCount) tokens, fewer than one sequence of \(context)",
        advice: "give more text")
    }
  }

  /// The places of the tokens of a sequence, numbered over the whole run.
  package func range(ofSequence number: Int) -> Range<Int> {
    let (epoch, index) = number.quotientAndRemainder(dividingBy: sequenceCount)
    let place = seed.map { Permutation(count: sequenceCount, key: UInt64($0) &+ UInt64(epoch) &<< 32)[index] } ?? index
    return place * context..<(place + 1) * context
  }
}

/// The numbers below a count in an order that a key decides, without a table: four rounds of a Feistel network over the next
/// even number of bits, walking past what is too large (Black, Rogaway 2002, cycle walking).
struct Permutation: Sendable {
  private let count: UInt64
  private let key: UInt64
  private let halfBits: UInt64

  init(count: Int, key: UInt64) {
    self.count = UInt64(count)
    self.key = key
    var bits: UInt64 = 1
    while UInt64(1) << (2 * bits) < self.count { bits += 1 }
    halfBits = bits
  }

  subscript(index: Int) -> Int {
    var number = UInt64(index)
    repeat { number = shuffled(number) } while number >= count
    return Int(number)
  }

  private func shuffled(_ number: UInt64) -> UInt64 {
    let mask = UInt64(1) << halfBits - 1
    var (left, right) = (number >> halfBits, number & mask)
    for round in 0..<4 as Range<UInt64> { (left, right) = (right, left ^ mixed(right, round) & mask) }
    return left << halfBits | right
  }

  private func mixed(_ number: UInt64, _ round: UInt64) -> UInt64 {
    var x = number &+ key &+ round &* 0x9E37_79B9_7F4A_7C15
    x = (x ^ x >> 30) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ x >> 27) &* 0x94D0_49BB_1331_11EB
    return x ^ x >> 31
  }
}
