import TestSupport

/// The largest difference over the largest of `a`; NaN where anything is, or where the two differ in size.
func distance(_ a: [[Double]], _ b: [[Double]]) -> Double {
  a.map(\.count) == b.map(\.count) ? relativeDifference(Array(b.joined()), Array(a.joined())) : .nan
}
