import Foundation

/// Rotary positions (arXiv 2104.09864, section 3.4): at position p, features i and i + dHead/2 of each head of queries
/// and keys are turned as a pair by the angle p · base^(−2i/dHead), so that their products see distances only.
///
/// Files that keep the two features of a pair side by side say so in their ``Layout``.
package struct Rotary: Hashable, Sendable {
  package var base: Double

  package init(base: Double) { self.base = base }

  /// The angle of each pair between neighbouring positions: [dHead / 2].
  package func frequencies(dHead: Int) -> [Double] {
    (0..<dHead / 2).map { pow(base, -2 * Double($0) / Double(dHead)) }
  }
}
