import NormFoldFormats

/// A parameter that is nothing but a rectangle of a stored matrix: arithmetic can read it in place.
package struct StoredView: Sendable {
  package let tensor: Tensor
  /// The element of the stored tensor at row 0, column 0 of the view.
  package let elementOffset: Int
  /// The distance in elements between stored rows.
  package let leadingDimension: Int
  /// Is true if a row of the parameter is a column of the stored tensor.
  package let isTransposed: Bool

  /// Returns whether both views lend the same elements of the same file in the same order.
  func isSame(as other: StoredView) -> Bool {
    tensor.file === other.tensor.file && tensor.byteOffset == other.tensor.byteOffset
      && tensor.info.type == other.tensor.info.type && tensor.elementStrides == other.tensor.elementStrides
      && elementOffset == other.elementOffset && leadingDimension == other.leadingDimension
      && isTransposed == other.isTransposed
  }
}

extension Parameter {
  /// The view, where the recipe is a stored tensor, its transpose, or a slice of either.
  package var storedView: StoredView? {
    switch expression {
    case .stored(let tensor):
      StoredView(tensor: tensor, elementOffset: 0, leadingDimension: columnCount, isTransposed: false)
    case .transposed(let inner):
      inner.storedView.map {
        StoredView(
          tensor: $0.tensor, elementOffset: $0.elementOffset, leadingDimension: $0.leadingDimension,
          isTransposed: !$0.isTransposed)
      }
    case .slice(let inner, let axis, let range):
      inner.storedView.map {
        let isAlongStoredRow = (axis == 1 || inner.shape.count == 1) != $0.isTransposed
        return StoredView(
          tensor: $0.tensor,
          elementOffset: $0.elementOffset + range.lowerBound * (isAlongStoredRow ? 1 : $0.leadingDimension),
          leadingDimension: $0.leadingDimension, isTransposed: $0.isTransposed)
      }
    default: nil
    }
  }
}
