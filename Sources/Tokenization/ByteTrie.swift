/// Texts by their bytes, each with a number: finds the longest one at a place.
struct ByteTrie: Sendable {
  private static let none = -1

  /// The number of the text that ends at each node.
  private var numbers = [none]
  /// From a node and a byte to a node.
  private var edges: [UInt64: Int] = [:]
  private(set) var isFirst = [Bool](repeating: false, count: 256)
  /// In bytes.
  private(set) var longest = 0

  var isEmpty: Bool { longest == 0 }

  /// A text that is there already gets the new number.
  ///
  /// - Precondition: `text` is not empty.
  mutating func insert(_ text: [UInt8], number: Int) {
    var node = 0
    for byte in text {
      let edge = UInt64(node) << 8 | UInt64(byte)
      if let next = edges[edge] {
        node = next
      } else {
        numbers.append(Self.none)
        edges[edge] = numbers.count - 1
        node = numbers.count - 1
      }
    }
    numbers[node] = number
    isFirst[Int(text[0])] = true
    longest = max(longest, text.count)
  }

  /// The longest text at `start`, and where it ends.
  func match(at start: Int, in text: Span<UInt8>, upTo end: Int) -> (number: Int, end: Int)? {
    var (node, index) = (0, start)
    var found: (Int, Int)?
    while index < end, let next = edges[UInt64(node) << 8 | UInt64(text[index])] {
      (node, index) = (next, index + 1)
      if numbers[node] != Self.none { found = (numbers[node], index) }
    }
    return found
  }
}
