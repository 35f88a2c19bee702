/// The largest difference over the largest of `a`; NaN where anything is, or where the two differ in size.
func distance(_ a: [[Double]], _ b: [[Double]]) -> Double {
  guard a.map(\.count) == b.map(\.count) else { return .nan }
  let differences = zip(a.joined(), b.joined()).map { abs($0 - $1) }
  // A maximum alone passes NaN over.
  guard differences.allSatisfy(\.isFinite), let largest = differences.max() else { return .nan }
  return largest / a.joined().reduce(0) { max($0, abs($1)) }
}
