/// The angle between what two networks give for one token, from numbers that arrive in pieces.
struct AngleAccumulator {
  /// r·r, r·Δ and Δ·Δ for the reference r and the difference Δ = r − c from the candidate c.
  private var (squares, products, differences) = (0.0, 0.0, 0.0)

  mutating func add(reference: UnsafeBufferPointer<Double>, candidate: UnsafeBufferPointer<Double>) {
    for index in reference.indices {
      let (expected, difference) = unsafe (reference[index], reference[index] - candidate[index])
      squares += expected * expected
      products += expected * difference
      differences += difference * difference
    }
  }

  /// 1 − cos, by way of sin², which does not cancel: with c·c = r·r − 2r·Δ + Δ·Δ,
  ///
  ///     sin² = (r·r Δ·Δ − (r·Δ)²) / (r·r c·c)      1 − cos = sin² / (1 + cos)
  ///
  /// 0 where both are zero, and 1 where one is.
  var cosineDistance: Double {
    let others = squares - 2 * products + differences
    guard squares > 0, others > 0 else { return squares == others ? 0 : 1 }
    let cosine = (squares - products) / (squares * others).squareRoot()
    guard cosine > 0 else { return 1 - cosine }
    return max(0, squares * differences - products * products) / (squares * others) / (1 + cosine)
  }
}
