/// A measurement of some chunks of a text, in a form that one process can hand to another: numbers, which arrive with the
/// same bits.
protocol MeasuredGroup: Sendable {
  /// Everything that it consists of.
  var numbers: [Double] { get }
  /// - Parameter numbers: ``numbers`` of the result of another process.
  init(numbers: [Double])
}

/// Takes numbers one by one from where they were put by ``MeasuredGroup/numbers``.
struct NumberReader {
  private var rest: ArraySlice<Double>

  init(_ numbers: ArraySlice<Double>) { rest = numbers }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func number() -> Double { rest.removeFirst() }

  mutating func int() -> Int { Int(number()) }

  mutating func array(of count: Int) -> [Double] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  /// A text, which is stored as the number of its bytes and the bytes.
  mutating func text() -> String {
    String(decoding: array(of: int()).map { UInt8($0) }, as: UTF8.self)
  }
}

extension [Double] {
  mutating func append(text: String) {
    append(Double(text.utf8.count))
    append(contentsOf: text.utf8.map { Double($0) })
  }
}
