/// The cache holds what short pieces became: most words of a text occurred before. It holds a fixed number, and a new piece takes the
/// place of an old one.
struct PieceCache {
  /// The bytes of a short piece, and their count.
  struct Key: Equatable {
    private var low: UInt64
    private var high: UInt64

    private static let longest = 15

    /// No piece is empty.
    fileprivate static let none = Key(low: 0, high: 0)

    private init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }

    /// - Returns: nil for a piece that is too long.
    @inline(__always)
    init?(_ text: Span<UInt8>, _ range: Range<Int>) {
      let count = range.count
      guard count <= Self.longest else { return nil }
      low = 0
      high = 0
      if range.lowerBound + 16 <= text.count {
        // Within the span, by the line above.
        low = unsafe text.bytes.unsafeLoadUnaligned(fromByteOffset: range.lowerBound, as: UInt64.self)
        high = unsafe text.bytes.unsafeLoadUnaligned(fromByteOffset: range.lowerBound + 8, as: UInt64.self)
        if count < 8 { low &= (1 << UInt64(8 * count)) &- 1 }
        high &= count > 8 ? (1 << UInt64(8 * (count - 8))) &- 1 : 0
      } else {
        for (shift, index) in range.enumerated() {
          let byte = UInt64(text[index])
          if shift < 8 { low |= byte << UInt64(8 * shift) } else { high |= byte << UInt64(8 * (shift - 8)) }
        }
      }
      high |= UInt64(count) << 56
    }

    @inline(__always)
    fileprivate func hash(shift: UInt64) -> Int {
      let product = (low ^ high &* 0x94D0_49BB_1331_11EB) &* 0x9E37_79B9_7F4A_7C15
      return Int(truncatingIfNeeded: product >> shift)
    }
  }

  private struct Entry {
    var key: Key
    /// The tokens of the piece, as many as there are, then ``unused``.
    var tokens: SIMD4<UInt32>
  }

  private static let unused = UInt32.max

  private var entries: [Entry]
  private let shift: UInt64

  init(expecting byteCount: Int) {
    var bits = 4
    while bits < 15, 4 << bits < byteCount { bits += 1 }
    shift = 64 - UInt64(bits)
    entries = Array(repeating: Entry(key: .none, tokens: .init(repeating: Self.unused)), count: 1 << bits)
  }

  /// - Returns: false where the piece is not there.
  @inline(__always)
  func append(_ key: Key, to tokens: inout [Int]) -> Bool {
    let entry = entries[key.hash(shift: shift)]
    guard entry.key == key else { return false }
    for index in 0..<4 where entry.tokens[index] != Self.unused { tokens.append(Int(entry.tokens[index])) }
    return true
  }

  mutating func insert(_ key: Key, _ tokens: ArraySlice<Int>) {
    guard tokens.count <= 4 else { return }
    var entry = Entry(key: key, tokens: .init(repeating: Self.unused))
    for (index, token) in tokens.enumerated() { entry.tokens[index] = UInt32(token) }
    entries[key.hash(shift: shift)] = entry
  }
}
