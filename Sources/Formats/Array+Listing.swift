extension [String] {
  /// `a`, `a and b`, `a, b and c`, `a, b, c and 2 more`: for messages.
  ///
  /// - Parameters:
  ///   - limit: so many are named.
  ///   - remainder: what the number of those that are not named is followed by.
  package func listed(_ conjunction: String = "and", limit: Int = 3, remainder: String = "more") -> String {
    var words = Array(prefix(limit))
    if count > limit { words.append("\(count - limit) \(remainder)") }
    guard words.count > 1, let last = words.popLast() else { return words.first ?? "" }
    return "\(words.joined(separator: ", ")) \(conjunction) \(last)"
  }
}
