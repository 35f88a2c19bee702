/// An image that is cut into patches, row by row. A network reads it as a sequence of one row for the class token and one for
/// each patch.
package struct ImageGrid: Hashable, Sendable {
  package let channels: Int
  package let height: Int
  package let width: Int
  package let patchHeight: Int
  package let patchWidth: Int

  /// - Returns: nil where patches do not fill the image, or where a number is out of all proportion.
  package init?(channels: Int, height: Int, width: Int, patchHeight: Int, patchWidth: Int) {
    let limit = 1 << 16
    guard [channels, height, width, patchHeight, patchWidth].allSatisfy({ (1...limit).contains($0) }),
      height % patchHeight == 0, width % patchWidth == 0
    else { return nil }
    (self.channels, self.height, self.width) = (channels, height, width)
    (self.patchHeight, self.patchWidth) = (patchHeight, patchWidth)
  }

  package var rows: Int { height / patchHeight }
  package var columns: Int { width / patchWidth }
  /// The number of patches.
  package var count: Int { rows * columns }
  /// The number of values in a patch: those of its first channel row by row, then those of the next.
  package var patchLength: Int { channels * patchHeight * patchWidth }
  package var pixelCount: Int { channels * height * width }

  /// Returns the index of each value of a patch in an image [channels, height, width].
  package func places(ofPatch patch: Int) -> [Int] {
    let (top, left) = (patch / columns * patchHeight, patch % columns * patchWidth)
    return (0..<channels).flatMap { channel in
      (top..<top + patchHeight).flatMap { row in
        (left..<left + patchWidth).map { column in (channel * height + row) * width + column }
      }
    }
  }
}
