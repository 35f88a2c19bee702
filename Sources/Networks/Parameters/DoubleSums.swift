import CNormFoldKernels

extension UnsafeBufferPointer<Double> {
  var sum: Double { unsafe normfold_sum(baseAddress, count) }

  /// Σ xᵢyᵢ.
  /// - Precondition: both are equally long.
  func product(with other: UnsafeBufferPointer<Double>) -> Double {
    precondition(count == other.count)
    return unsafe normfold_sum_of_products(baseAddress, other.baseAddress, count)
  }
}
