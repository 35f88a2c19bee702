/// The merges: from a pair of tokens to its rank and to the token that it becomes.
///
/// Open addressing over a power of two at most half full: one multiplication and, nearly always, one line of memory.
struct MergeTable: Sendable {
  /// A rank and the token that the pair becomes. The smallest rank is merged first, of equal ones the leftmost.
  struct Merge: Comparable, Sendable {
    let bits: UInt64

    static let none = Merge(bits: .max)

    init(bits: UInt64) { self.bits = bits }
    init(rank: Int, result: UInt32) { bits = UInt64(rank) << 32 | UInt64(result) }

    var rank: Int { Int(bits >> 32) }
    var result: UInt32 { UInt32(truncatingIfNeeded: bits) }

    @inline(__always)
    static func < (one: Merge, other: Merge) -> Bool { one.bits < other.bits }
  }

  private struct Slot {
    var pair: UInt64
    var merge: Merge
  }

  private var slots: [Slot]
  private let shift: Int
  /// Drawn anew for each table, so that no file can be made of which all pairs fall on one slot.
  private let multiplier = UInt64.random(in: .min ... .max) | 1

  /// No id is 2³² − 1.
  private static let free = UInt64.max

  init(capacity: Int) {
    var bits = 4
    while 1 << bits < 2 * capacity { bits += 1 }
    shift = 64 - bits
    slots = Array(repeating: Slot(pair: Self.free, merge: .none), count: 1 << bits)
  }

  @inline(__always)
  private func slot(of pair: UInt64) -> Int {
    var index = Int(truncatingIfNeeded: (pair &* multiplier) >> UInt64(shift))
    while slots[index].pair != pair, slots[index].pair != Self.free { index = (index + 1) & (slots.count - 1) }
    return index
  }

  /// - Returns: false where the pair has a merge already.
  mutating func insert(_ left: UInt32, _ right: UInt32, _ merge: Merge) -> Bool {
    let pair = UInt64(left) << 32 | UInt64(right)
    let index = slot(of: pair)
    guard slots[index].pair == Self.free else { return false }
    slots[index] = Slot(pair: pair, merge: merge)
    return true
  }

  /// ``Merge/none`` where the two are not merged.
  @inline(__always)
  subscript(left: UInt32, right: UInt32) -> Merge { slots[slot(of: UInt64(left) << 32 | UInt64(right))].merge }
}
