import Glibc

extension Double {
  /// The way in which a number is written.
  package enum Notation: Sendable {
    /// The given number of digits behind the point: `0.25`.
    case fixed(Int)
    /// The given number of digits behind the point, and a power of ten: `2.5e-01`.
    case scientific(Int)
    /// At most the given number of significant digits, in the shorter of the two other notations: `0.25`, `2.5e-09`.
    case significant(Int)
  }

  /// The number in decimal digits, rounded as C's `printf` rounds, with a point in every locale.
  package func text(_ notation: Notation) -> String {
    let (format, digits) =
      switch notation {
      case .fixed(let digits): ("%.*f", digits)
      case .scientific(let digits): ("%.*e", digits)
      case .significant(let digits): ("%.*g", digits)
      }
    // The longest number that is not in scientific notation has 309 digits before the point.
    var characters = [CChar](repeating: 0, count: 320 + digits)
    let count = unsafe withVaList([Int32(digits), self]) { arguments in
      unsafe vsnprintf(&characters, characters.count, format, arguments)
    }
    return String(decoding: characters.prefix(Int(count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
