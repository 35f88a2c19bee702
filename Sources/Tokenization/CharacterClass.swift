/// What GPT-2's pattern tells apart in text.
enum CharacterClass: UInt8, Sendable {
  /// `[^\s\p{L}\p{N}]`
  case other
  /// `\p{L}`
  case letter
  /// `\p{N}`
  case number
  /// `\s`
  case space
}

extension CharacterClass {
  init(of scalar: Unicode.Scalar) {
    let properties = scalar.properties
    if properties.isWhitespace {
      self = .space
      return
    }
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
    case .decimalNumber, .letterNumber, .otherNumber: self = .number
    default: self = .other
    }
  }

  /// Of each scalar below ``classifiedCount``, its class.
  static let table: [CharacterClass] = (0..<UInt32(classifiedCount)).map { value in
    Unicode.Scalar(value).map { CharacterClass(of: $0) } ?? .other
  }

  /// Planes 4 to 16 hold neither letters nor numbers nor white space.
  static let classifiedCount = 0x40000
}
