/// The smallest and the largest of some numbers, and whether all are finite.
struct Extremes {
  let smallest: Double
  let largest: Double
  let areFinite: Bool

  init(of numbers: UnsafeBufferPointer<Double>) {
    var (low, high) = (Lanes(repeating: .infinity), Lanes(repeating: -.infinity))
    // x − x is 0, or NaN where x is NaN or infinite: no later number takes that back.
    var poison = Lanes()
    let whole = numbers.count / Lanes.scalarCount * Lanes.scalarCount
    if let start = numbers.baseAddress {
      for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
        let lanes = unsafe Lanes(at: start + index)
        low.replace(with: lanes, where: lanes .< low)
        high.replace(with: lanes, where: lanes .> high)
        poison += lanes - lanes
      }
    }
    var (least, most, rest) = (low.min(), high.max(), poison.sum())
    for index in whole..<numbers.count {
      let number = unsafe numbers[index]
      (least, most) = (min(least, number), max(most, number))
      rest += number - number
    }
    (smallest, largest, areFinite) = (least, most, rest == 0)
  }
}
