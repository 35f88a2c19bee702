/// Sums in eight parts. The compiler may not make them of one by itself, since they round otherwise, and one part waits
/// for each addition before the next.
extension UnsafeBufferPointer<Double> {
  private typealias Lanes = SIMD8<Double>

  var sum: Double {
    var sums = Lanes()
    let whole = count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) { unsafe sums += lanes(at: index) }
    var total = sums.sum()
    for index in whole..<count { unsafe total += self[index] }
    return total
  }

  /// Σ xᵢyᵢ.
  /// - Precondition: both are equally long.
  func product(with other: UnsafeBufferPointer<Double>) -> Double {
    precondition(count == other.count)
    var sums = Lanes()
    let whole = count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
      unsafe sums += lanes(at: index) * other.lanes(at: index)
    }
    var total = sums.sum()
    for index in whole..<count { unsafe total += self[index] * other[index] }
    return total
  }

  private func lanes(at index: Int) -> Lanes {
    unsafe UnsafeRawBufferPointer(self).loadUnaligned(fromByteOffset: index * MemoryLayout<Double>.size, as: Lanes.self)
  }
}
