/// Numbers as people read them.
package enum Quantity {
  package static func bytes(_ count: Int) -> String {
    switch count {
    case ..<1_000: "\(count) B"
    case ..<1_000_000: "\(decimal(Double(count) / 1e3)) kB"
    case ..<1_000_000_000: "\(decimal(Double(count) / 1e6)) MB"
    default: "\(decimal(Double(count) / 1e9)) GB"
    }
  }

  /// With thousands apart: `124,439,808`.
  package static func count(_ count: Int) -> String {
    var text = ""
    for (index, digit) in String(count).reversed().enumerated() {
      if index > 0, index % 3 == 0, digit != "-" { text.append(",") }
      text.append(digit)
    }
    return String(text.reversed())
  }

  /// Two significant digits and a power of ten: `1.2e-06`; a dash where there was nothing to measure.
  package static func scientific(_ value: Double) -> String {
    value.isNaN ? none : value == 0 ? "0" : value.text(.scientific(1))
  }

  private static let none = "–"

  /// Three significant digits, the shorter of plain and scientific.
  package static func short(_ value: Double) -> String { value.text(.significant(3)) }

  /// One digit behind the point.
  package static func decimal(_ value: Double) -> String { fixed(value, digits: 1) }

  /// `99.61%`; a dash for the share of nothing.
  package static func percent(_ share: Double) -> String {
    share.isNaN ? none : (share * 100).text(.fixed(2)) + "%"
  }

  /// `45 s`, `12 min`, `3.5 h`
  package static func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<100: fixed(seconds, digits: 0) + " s"
    case ..<6_000: fixed(seconds / 60, digits: 0) + " min"
    default: decimal(seconds / 3_600) + " h"
    }
  }

  /// For the marks of an axis: `10⁻¹²`, `1`, `10`.
  package static func powerOfTen(_ exponent: Int) -> String {
    if exponent == 0 || exponent == 1 { return exponent == 0 ? "1" : "10" }
    let raised: [Character: Character] = [
      "-": "⁻", "0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸", "9": "⁹",
    ]
    return "10" + String(String(exponent).compactMap { raised[$0] })
  }

  /// `digits` behind the point.
  package static func fixed(_ value: Double, digits: Int) -> String { value.text(.fixed(digits)) }
}
