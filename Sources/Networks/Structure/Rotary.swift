import Foundation

/// Rotary positions (arXiv 2104.09864, section 3.4): at position p, features i and i + width/2 of each head of queries and
/// keys are rotated as a pair by the angle p · base^(−2i/width), so that their products depend on distances only. Features
/// from `width` on stay as they are.
///
/// Files that keep the two features of a pair side by side say so in their ``Layout``.
package struct Rotary: Hashable, Sendable {
  package var base: Double
  /// How many features of each head are rotated: an even number, at most the width of a head.
  package var width: Int

  package init(base: Double, width: Int) {
    self.base = base
    self.width = width
  }

  /// The angle of each pair between neighbouring positions: [width / 2].
  package var frequencies: [Double] { (0..<width / 2).map { pow(base, -2 * Double($0) / Double(width)) } }
}
