/// Byte-pair merging of one piece: of all neighbours that have a merge, those of the smallest rank become one token, the
/// leftmost first, until none are left.
struct Merging {
  /// The tokens so far.
  private(set) var parts: [UInt32] = []
  /// The merge of each part with the next.
  private var merges: [MergeTable.Merge] = []

  /// Above this many bytes, looking through all neighbours for each merge costs more than a heap.
  private static let longestScan = 64

  mutating func removeParts() { parts.removeAll(keepingCapacity: true) }

  @inline(__always)
  mutating func append(_ part: UInt32) { parts.append(part) }

  /// Merges the parts that were appended.
  mutating func merge(by table: MergeTable) {
    if parts.count > Self.longestScan {
      mergeByHeap(table)
    } else {
      mergeByScan(table)
    }
  }

  private mutating func mergeByScan(_ table: MergeTable) {
    merges.removeAll(keepingCapacity: true)
    for index in 1..<max(1, parts.count) { merges.append(table[parts[index - 1], parts[index]]) }
    while true {
      var best = MergeTable.Merge.none
      var place = 0
      for index in merges.indices where merges[index] < best { (best, place) = (merges[index], index) }
      guard best < .none else { return }
      parts[place] = best.result
      parts.remove(at: place + 1)
      merges.remove(at: place)
      if place > 0 { merges[place - 1] = table[parts[place - 1], parts[place]] }
      if place < merges.count { merges[place] = table[parts[place], parts[place + 1]] }
    }
  }

  /// Tokens as a linked list, merges in a heap, those that are out of date left in it until they are reached.
  private mutating func mergeByHeap(_ table: MergeTable) {
    let count = parts.count
    var next = Array(1...count)
    var previous = Array(-1..<count - 1)
    var isGone = [Bool](repeating: false, count: count)
    var heap = MergeHeap()
    func offer(_ index: Int) {
      guard next[index] < count else { return }
      let merge = table[parts[index], parts[next[index]]]
      if merge < .none { heap.insert(.init(rank: merge.rank, place: index)) }
    }
    for index in 0..<count { offer(index) }
    while let first = heap.removeFirst() {
      let place = first.place
      guard !isGone[place], next[place] < count else { continue }
      let other = next[place]
      let merge = table[parts[place], parts[other]]
      guard merge < .none, merge.rank == first.rank else { continue }
      parts[place] = merge.result
      isGone[other] = true
      next[place] = next[other]
      if next[place] < count { previous[next[place]] = place }
      offer(place)
      if previous[place] >= 0 { offer(previous[place]) }
    }
    parts = parts.indices.filter { !isGone[$0] }.map { parts[$0] }
  }
}

/// Candidates for merging, the one of the smallest rank first, the leftmost among equals.
private struct MergeHeap {
  struct Candidate: Comparable {
    let rank: Int
    let place: Int

    static func < (one: Candidate, other: Candidate) -> Bool {
      one.rank == other.rank ? one.place < other.place : one.rank < other.rank
    }
  }

  private var items: [Candidate] = []

  mutating func insert(_ item: Candidate) {
    items.append(item)
    var index = items.count - 1
    while index > 0, items[index] < items[(index - 1) / 2] {
      items.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func removeFirst() -> Candidate? {
    guard let first = items.first else { return nil }
    let last = items.removeLast()
    guard !items.isEmpty else { return first }
    items[0] = last
    var index = 0
    while 2 * index + 1 < items.count {
      var child = 2 * index + 1
      if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
      guard items[child] < items[index] else { break }
      items.swapAt(index, child)
      index = child
    }
    return first
  }
}
