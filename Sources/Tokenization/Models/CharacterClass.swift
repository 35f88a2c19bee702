/// A class of characters that GPT-2's pattern tells apart.
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
  /// The version of Unicode that Hugging Face's `tokenizers` 0.23 splits text by. The standard library
  /// may know a later one; characters that are newer than this are none of letter, number and white space here, as they
  /// are there.
  private static let unicodeVersion: Unicode.Version = (major: 16, minor: 0)

  init(of scalar: Unicode.Scalar) {
    let properties = scalar.properties
    guard let age = properties.age, age <= Self.unicodeVersion else {
      self = .other
      return
    }
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

  /// The class of each scalar below ``classifiedCount``.
  static let table: [CharacterClass] = (0..<UInt32(classifiedCount)).map { value in
    Unicode.Scalar(value).map { CharacterClass(of: $0) } ?? .other
  }

  /// Planes 4 to 16 hold neither letters nor numbers nor white space.
  static let classifiedCount = 0x40000
}
