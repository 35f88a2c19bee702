/// The largest |a − b| over the largest |b|; NaN where anything is NaN or infinite, or where there is not one for each.
package func relativeDifference<A: BinaryFloatingPoint>(_ a: [A], _ b: [Double]) -> Double {
  guard a.count == b.count else { return .nan }
  var largest = 0.0
  for (x, y) in zip(a, b) {
    let difference = abs(Double(x) - y)
    // `max` would lose a NaN.
    guard difference.isFinite else { return .nan }
    largest = max(largest, difference)
  }
  return largest / b.reduce(0) { max($0, abs($1)) }
}
