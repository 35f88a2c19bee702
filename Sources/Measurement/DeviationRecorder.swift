import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The deviations that each norm of a pass would divide by, by the norm's name: operations that read one norm with different deviations
/// read the same values.
struct DeviationRecords: MeasuredGroup {
  private(set) var records: [String: DeviationRecord] = [:]
  /// The first row of each sequence.
  private let firstRows: [Int]
  /// For norms whose deviation is fixed.
  private let epsilon: Double

  init(probes: [Probe], epsilon: Double) {
    self.epsilon = epsilon
    var rows: [Int] = []
    var start = 0
    for probe in probes {
      rows.append(start)
      start += probe.tokens.count
    }
    firstRows = rows
  }

  /// The order is that of the names.
  var numbers: [Double] {
    var result = [epsilon]
    for (name, record) in records.sorted(by: { $0.key < $1.key }) {
      result.append(text: name)
      result += record.numbers
    }
    return result
  }

  init(numbers: [Double]) {
    var reader = NumberReader(numbers[...])
    (epsilon, firstRows) = (reader.number(), [])
    while !reader.isAtEnd {
      let name = reader.text()
      records[name] = DeviationRecord(&reader)
    }
  }

  /// Records the values [T, width] that a norm reads.
  mutating func add<Scalar: ArithmeticScalar>(_ x: Matrix<Scalar>, of norm: Norm) {
    guard records[norm.name] == nil else { return }
    records[norm.name] = DeviationRecord(
      of: x.doubles(), width: x.columnCount, firstRows: firstRows, isCentred: norm.kind == .layer,
      epsilon: norm.epsilon ?? epsilon)
  }
}

extension Norm {
  var epsilon: Double? { if case .computed(let epsilon) = deviation { epsilon } else { nil } }
}

/// The deviations that one norm would divide by.
struct DeviationRecord: Sendable {
  var usual = Part()
  var first = Part()
  let epsilon: Double
  let width: Int

  struct Part: Sendable {
    /// The moments of √(variance + ε).
    var moments = Moments()
    /// Over tokens, of the squares of the centred features.
    var squares = 0.0

    init() {}

    init(_ reader: inout NumberReader) {
      moments = Moments(&reader)
      squares = reader.number()
    }

    mutating func add(_ other: Part) {
      moments.add(other.moments)
      squares += other.squares
    }
  }

  /// - Parameters:
  ///   - values: [tokens, width]
  ///   - firstRows: the tokens that are the first of their sequence, ascending.
  init(of values: [Double], width: Int, firstRows: [Int], isCentred: Bool, epsilon: Double) {
    self.epsilon = epsilon
    self.width = width
    var next = 0
    for row in 0..<values.count / width {
      let line = values[row * width..<(row + 1) * width]
      let mean = isCentred ? line.reduce(0, +) / Double(width) : 0
      let squares = line.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      let isFirst = next < firstRows.count && firstRows[next] == row
      if isFirst { next += 1 }
      add(squares, to: isFirst ? \.first : \.usual)
    }
  }

  init(_ reader: inout NumberReader) {
    (epsilon, width) = (reader.number(), reader.int())
    (usual, first) = (Part(&reader), Part(&reader))
  }

  /// The numbers that the record is made of, for ``init(_:)``.
  var numbers: [Double] {
    [epsilon, Double(width)] + [usual, first].flatMap { $0.moments.numbers + [$0.squares] }
  }

  private mutating func add(_ squares: Double, to part: WritableKeyPath<DeviationRecord, Part>) {
    self[keyPath: part].moments.add((squares / Double(width) + epsilon).squareRoot())
    self[keyPath: part].squares += squares
  }

  mutating func add(_ other: DeviationRecord) {
    usual.add(other.usual)
    first.add(other.first)
  }

  func deviation(_ part: Part, by estimator: CalibrationReport.Estimator) -> CalibrationReport.Deviation {
    let pooled = (part.squares / Double(part.moments.count * width - 1)).squareRoot()
    return CalibrationReport.Deviation(
      tokenCount: part.moments.count, value: estimator == .pooled ? pooled : part.moments.mean,
      mean: part.moments.mean, standardDeviation: part.moments.standardDeviation, smallest: part.moments.smallest,
      largest: part.moments.largest, pooled: pooled)
  }
}
