/// Mean and spread of values that come one by one, or in parts (Chan, Golub, LeVeque 1979).
struct Moments: Sendable {
  private(set) var count = 0
  private(set) var mean = 0.0
  private var squares = 0.0
  private(set) var smallest = Double.infinity
  private(set) var largest = -Double.infinity

  init() {}

  init(_ reader: inout NumberReader) {
    (count, mean, squares) = (reader.int(), reader.number(), reader.number())
    (smallest, largest) = (reader.number(), reader.number())
  }

  /// The numbers that they are made of, for ``init(_:)``.
  var numbers: [Double] { [Double(count), mean, squares, smallest, largest] }

  mutating func add(_ value: Double) {
    count += 1
    let difference = value - mean
    mean += difference / Double(count)
    squares += difference * (value - mean)
    smallest = min(smallest, value)
    largest = max(largest, value)
  }

  mutating func add(_ other: Moments) {
    guard other.count > 0 else { return }
    let total = Double(count + other.count)
    let difference = other.mean - mean
    squares += other.squares + difference * difference * Double(count) * Double(other.count) / total
    mean += difference * Double(other.count) / total
    count += other.count
    smallest = min(smallest, other.smallest)
    largest = max(largest, other.largest)
  }

  /// With N − 1; 0 for one value.
  var standardDeviation: Double { count > 1 ? (squares / Double(count - 1)).squareRoot() : 0 }
}
