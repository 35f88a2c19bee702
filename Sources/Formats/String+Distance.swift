extension String {
  /// The number of letters that have to be put in, left out or replaced to make the other word of this one, of which the
  /// first 64 bytes count.
  package func distance(to other: String) -> Int {
    let (own, other) = (Array(utf8.prefix(64)), Array(other.utf8))
    var row = Array(0...other.count)
    for (index, letter) in own.enumerated() {
      var last = row[0]
      row[0] = index + 1
      for column in other.indices {
        let replaced = last + (letter == other[column] ? 0 : 1)
        last = row[column + 1]
        row[column + 1] = Swift.min(replaced, last + 1, row[column] + 1)
      }
    }
    return row[other.count]
  }

  /// The word that is most like this one; nil where none is within a third of its letters.
  package func nearest(of words: [String]) -> String? {
    let near = words.map { (word: $0, distance: distance(to: $0)) }.min { $0.distance < $1.distance }
    return near.flatMap { $0.distance <= Swift.max(2, utf8.count / 3) ? $0.word : nil }
  }
}
