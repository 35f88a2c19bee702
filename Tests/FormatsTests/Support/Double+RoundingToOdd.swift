extension Double {
  /// This value as a Float, rounded to odd: where it lies between two Floats, the one whose last bit is 1. Rounding that
  /// to a type with fewer bits gives what rounding the Double would give; a Float rounded to nearest would be rounded
  /// twice. No finite value becomes infinite.
  ///
  /// Source: Boldo and Melquiond, When double rounding is odd, 2005.
  var roundedToOddFloat: Float {
    let nearest = Float(self)
    let back = Double(nearest)
    // One step towards zero where rounding to nearest went away from it.
    let truncated = nearest.bitPattern &- (back.magnitude > magnitude ? 1 : 0)
    return Float(bitPattern: back == self ? nearest.bitPattern : truncated | 1)
  }
}
