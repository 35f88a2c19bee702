/// Tokens that are found in text before it is split: the end of text, and what a tokenizer's owner added.
///
/// At the first position where one matches, the longest counts; the search goes on where it ends.
struct AddedTokens: Sendable {
  struct Match {
    let id: Int
    let range: Range<Int>
    let matching: BytePairVocabulary.Matching
  }

  private struct Node {
    var id: Int?
    var matching = BytePairVocabulary.Matching()
  }

  private var nodes = [Node()]
  /// From a node and a byte to a node.
  private var edges: [UInt64: Int] = [:]
  private var isFirst = [Bool](repeating: false, count: 256)
  /// In bytes.
  private(set) var longest = 0

  var isEmpty: Bool { longest == 0 }

  /// - Precondition: `text` is not empty.
  mutating func insert(_ text: [UInt8], id: Int, matching: BytePairVocabulary.Matching) {
    var node = 0
    for byte in text {
      let edge = UInt64(node) << 8 | UInt64(byte)
      if let next = edges[edge] {
        node = next
      } else {
        nodes.append(Node())
        edges[edge] = nodes.count - 1
        node = nodes.count - 1
      }
    }
    nodes[node] = Node(id: id, matching: matching)
    isFirst[Int(text[0])] = true
    longest = max(longest, text.count)
  }

  /// The longest token at `start`.
  private func match(at start: Int, in text: Span<UInt8>, upTo end: Int) -> Match? {
    var (node, index) = (0, start)
    var found: Match?
    while index < end, let next = edges[UInt64(node) << 8 | UInt64(text[index])] {
      (node, index) = (next, index + 1)
      if let id = nodes[node].id { found = Match(id: id, range: start..<index, matching: nodes[node].matching) }
    }
    return found
  }

  func firstMatch(from start: Int, in text: Span<UInt8>, upTo end: Int) -> Match? {
    guard !isEmpty else { return nil }
    for index in start..<end where isFirst[Int(text[index])] {
      if let match = match(at: index, in: text, upTo: end) { return match }
    }
    return nil
  }

  /// Whether no token holds the place before `index`, or stands next to it: text cut there has the same ones.
  func allowCut(before index: Int, in text: Span<UInt8>) -> Bool {
    guard !isEmpty else { return true }
    for start in max(0, index - longest)...index where start < text.count && isFirst[Int(text[start])] {
      if let match = match(at: start, in: text, upTo: text.count), match.range.upperBound >= index { return false }
    }
    return true
  }
}
