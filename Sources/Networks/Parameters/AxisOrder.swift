/// A permutation of the elements along an axis that is made of factors: of heads that each hold pairs of features, or of
/// parts that are interleaved head by head.
package struct AxisOrder: Hashable, Sendable {
  /// The extents of the factors as they stand before, outermost first. What encloses them all stays in place.
  package let extents: [Int]
  /// For each factor of the result, outermost first, its place among the factors before.
  package let order: [Int]

  /// - Precondition: `order` is a permutation of the indices of `extents`.
  package init(extents: [Int], order: [Int]) {
    precondition(order.sorted() == Array(extents.indices))
    self.extents = extents
    self.order = order
  }

  /// The order that brings the factors back.
  package var inverse: AxisOrder {
    AxisOrder(
      extents: order.map { extents[$0] }, order: order.indices.map { place in order.firstIndex(of: place) ?? place })
  }

  /// Returns the index at which the element at `index` of the result stood before.
  package func origin(of index: Int) -> Int {
    let period = extents.reduce(1, *)
    var (enclosing, rest) = index.quotientAndRemainder(dividingBy: period)
    var coordinates = [Int](repeating: 0, count: extents.count)
    for place in order.reversed() {
      (rest, coordinates[place]) = rest.quotientAndRemainder(dividingBy: extents[place])
    }
    for (extent, coordinate) in zip(extents, coordinates) { enclosing = enclosing * extent + coordinate }
    return enclosing
  }
}

extension AxisOrder: CustomStringConvertible {
  /// `4×3×16 to 3×4×16`: the extents before and after.
  package var description: String {
    func text(_ extents: [Int]) -> String { extents.map(String.init).joined(separator: "×") }
    return "\(text(extents)) to \(text(order.map { extents[$0] }))"
  }
}
