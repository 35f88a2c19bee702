/// Numbers that are summed or compared together, in double precision.
typealias Lanes = SIMD8<Double>

extension Lanes {
  @inline(__always)
  init<Number: ArithmeticScalar>(at start: UnsafePointer<Number>) {
    let numbers = unsafe UnsafeRawPointer(start)
    self =
      unsafe Number.self == Float.self
      ? Lanes(numbers.loadUnaligned(as: SIMD8<Float>.self)) : numbers.loadUnaligned(as: Lanes.self)
  }
}
