import Glibc
import NormFold

/// A scale says where numbers lie along an axis, and which of them are written beside it.
struct Scale: Sendable {
  enum Kind: Sendable { case linear, logarithmic }

  struct Tick: Sendable {
    let value: Double
    let label: String
  }

  let kind: Kind
  let lower: Double
  let upper: Double

  /// A scale from `lower` to `upper`, both positive where it is logarithmic.
  init(_ kind: Kind, from lower: Double, to upper: Double) {
    self.kind = kind
    self.lower = lower
    self.upper = upper
  }

  /// Whole decades around the positive ones of `values`, one decade at least.
  init(decadesAround values: [Double]) {
    let positive = Self.drawable(values).filter { $0 > 0 }
    let first = floor(log10(positive.min() ?? 1))
    let last = max(ceil(log10(positive.max() ?? 1)), first + 1)
    self.init(.logarithmic, from: pow(10, first), to: pow(10, last))
  }

  /// Round numbers around the positive ones of `values`: 1, 2 or 5 times a power of ten, or over several decades whole ones.
  init(logarithmicAround values: [Double]) {
    let positive = Self.drawable(values).filter { $0 > 0 }
    guard let smallest = positive.min(), let largest = positive.max(), largest < 500 * smallest else {
      self.init(decadesAround: values)
      return
    }
    let decade = pow(10, floor(log10(smallest)))
    let lower = [5.0, 2, 1].map { $0 * decade }.first { $0 <= smallest * (1 + 1e-9) } ?? decade
    self.init(.logarithmic, from: lower, to: max(Self.roundStep(largest), lower * 2))
  }

  /// Round numbers around the finite ones of `values`.
  init(linearAround values: [Double], includingZero: Bool) {
    let finite = Self.drawable(values) + (includingZero ? [0] : [])
    let (smallest, largest) = (finite.min() ?? 0, finite.max() ?? 1)
    // What differs in its last digits alone is one number to the eye, and to the labels.
    let magnitude = max(abs(smallest), abs(largest))
    let span = largest - smallest > 1e-6 * magnitude ? largest - smallest : magnitude > 0 ? magnitude : 1
    let step = Self.roundStep(span / 4)
    let lower = (smallest / step).rounded(.down) * step
    self.init(.linear, from: lower, to: max((largest / step).rounded(.up) * step, lower + step))
  }

  /// The finite ones, brought to where sums and quotients of them are finite too; on the page they lie at the end.
  private static func drawable(_ values: [Double]) -> [Double] {
    values.filter(\.isFinite).map { value in
      abs(value) > 1e300
        ? (value < 0 ? -1e300 : 1e300) : value != 0 && abs(value) < 1e-300 ? (value < 0 ? -1e-300 : 1e-300) : value
    }
  }

  /// 0 at the lower end, 1 at the upper; what is beyond lies at the end.
  func fraction(_ value: Double) -> Double {
    let fraction =
      kind == .linear
      ? (value - lower) / (upper - lower) : (log10(value) - log10(lower)) / (log10(upper) - log10(lower))
    return fraction.isFinite ? min(max(fraction, 0), 1) : 0
  }

  /// Round numbers, `count` or fewer where that is possible.
  func ticks(atMost count: Int) -> [Tick] {
    switch kind {
    case .linear:
      var step = Self.roundStep((upper - lower) / Double(max(1, count)))
      if (upper - lower) / step > Double(count) { step = Self.roundStep(step * 1.01) }
      let digits = max(0, Int(-floor(log10(step) + 1e-9)))
      let first = Int((lower / step - 1e-9).rounded(.up))
      let last = Int((upper / step + 1e-9).rounded(.down))
      guard first <= last else { return [] }
      return (first...last).map { index in
        let value = Double(index) * step
        let label =
          digits > 6 || abs(value) >= 1e6
          ? Quantity.short(value) : digits > 0 ? Quantity.fixed(value, digits: digits) : Quantity.count(Int(value))
        return Tick(value: value, label: label)
      }
    case .logarithmic:
      let first = Int((log10(lower) - 1e-9).rounded(.up))
      let last = Int((log10(upper) + 1e-9).rounded(.down))
      let stride = max(1, (last - first + count) / max(1, count))
      let isPlain = first >= -3 && last <= 4
      var ticks = Swift.stride(from: first, through: last, by: 1).filter { $0 % stride == 0 || first == last }.map {
        exponent in
        Tick(
          value: pow(10, Double(exponent)),
          label: !isPlain
            ? Quantity.powerOfTen(exponent)
            : exponent < 3 ? Quantity.short(pow(10, Double(exponent))) : Quantity.count(Int(pow(10, Double(exponent)))))
      }
      if last - first <= 2, count >= 4 {
        let between = (first - 1...last).flatMap { exponent in [2.0, 5].map { $0 * pow(10, Double(exponent)) } }
        ticks += between.filter { $0 >= lower * (1 - 1e-9) && $0 <= upper * (1 + 1e-9) }.map {
          Tick(value: $0, label: Quantity.short($0))
        }
        ticks.sort { $0.value < $1.value }
      }
      return ticks
    }
  }

  /// The next of 1, 2, 5 times a power of ten from `step` upwards.
  private static func roundStep(_ step: Double) -> Double {
    guard step > 0, step.isFinite else { return 1 }
    let decade = pow(10, floor(log10(step)))
    return decade * ([1, 2, 5].first { $0 * decade >= step * (1 - 1e-9) } ?? 10)
  }
}
