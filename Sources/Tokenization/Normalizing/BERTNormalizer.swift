/// The normalizer of BERT's tokenizers: takes controls out, makes white space spaces, sets Chinese characters apart, takes accents
/// off, and makes letters small, in this order.
///
/// Source: Hugging Face's `tokenizers` 0.23, `BertNormalizer`, of which every character was looked at; it knows categories
/// by Unicode 8.
package struct BERTNormalizer: TextNormalizer, Equatable {
  package var cleansText = true
  package var separatesChinese = true
  /// nil for what ``lowercases`` says.
  package var stripsAccents: Bool?
  package var lowercases = true

  private var takesAccentsOff: Bool { stripsAccents ?? lowercases }

  func normalizedWhole(_ text: String) -> String {
    let bytes = Array(text.utf8)
    return String(decoding: normalized(bytes.span, bytes.indices, at: .start) ?? bytes, as: UTF8.self)
  }

  package func normalized(_ text: Span<UInt8>, _ range: Range<Int>, at place: TextPlace) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(range.count)
    var index = range.lowerBound
    while index < range.upperBound {
      let byte = text[index]
      if byte < 0x80 {
        appendASCII(byte, to: &result)
        index += 1
      } else {
        var end = index
        while end < range.upperBound, text[end] >= 0x80 { end += 1 }
        append(text, index..<end, to: &result)
        index = end
      }
    }
    return result
  }

  private func appendASCII(_ byte: UInt8, to result: inout [UInt8]) {
    if cleansText, byte < 0x20 || byte == 0x7F {
      if [0x09, 0x0A, 0x0D].contains(byte) { result.append(0x20) }
    } else if lowercases, (0x41...0x5A).contains(byte) {
      result.append(byte | 0x20)
    } else {
      result.append(byte)
    }
  }

  /// Appends what becomes of characters that are not ASCII.
  private func append(_ text: Span<UInt8>, _ range: Range<Int>, to result: inout [UInt8]) {
    var prepared: [UInt8] = []
    var index = range.lowerBound
    while index < range.upperBound {
      let (scalar, next) = text.scalar(at: index)
      index = next
      if cleansText {
        if BERTCharacter.isRemoved(scalar) { continue }
        if scalar.properties.isWhitespace {
          prepared.append(0x20)
          continue
        }
      }
      let isChinese = separatesChinese && BERTCharacter.isChinese(scalar)
      if isChinese { prepared.append(0x20) }
      prepared += scalar.utf8
      if isChinese { prepared.append(0x20) }
    }
    func appendLetter(_ scalar: Unicode.Scalar) {
      if lowercases { BERTCharacter.appendSmall(scalar, to: &result) } else { result += scalar.utf8 }
    }
    let (span, whole) = (prepared.span, prepared.indices)
    guard takesAccentsOff else {
      var index = 0
      while index < whole.upperBound {
        let (scalar, next) = span.scalar(at: index)
        appendLetter(scalar)
        index = next
      }
      return
    }
    CanonicalComposition.decompose(span, whole) { if !BERTCharacter.isMark($0) { appendLetter($0) } }
  }

  package func isSegmentStart(_ index: Int, in text: Span<UInt8>) -> Bool {
    let scalar = text.scalar(at: index).scalar
    return !(cleansText && BERTCharacter.isRemoved(scalar)) && CanonicalComposition.startsDecomposition(scalar)
  }

  package var usualShrinkage: Int { 4 }
}

/// Characters as BERT's tokenizers class them.
enum BERTCharacter {
  private static let unicodeVersion: Unicode.Version = (major: 8, minor: 0)

  private static func isKnown(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.age.map { $0 <= unicodeVersion } ?? false
  }

  /// Returns whether cleaning takes a character out: controls, formats, private ones and U+FFFD.
  static func isRemoved(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control: !["\t", "\n", "\r"].contains(scalar)
    case .format: isKnown(scalar)
    case .privateUse: true
    default: scalar == "\u{FFFD}"
    }
  }

  /// Returns whether a character is one of the nonspacing marks that are taken off letters.
  static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    guard scalar.value >= 0x300, isKnown(scalar) else { return false }
    if let wasMark = changedMarks[scalar] { return wasMark }
    return scalar.properties.generalCategory == .nonspacingMark
  }

  /// Characters that later versions of Unicode class in another way, and whether they were nonspacing marks in version 8.
  private static let changedMarks: [Unicode.Scalar: Bool] = [
    "\u{1734}": true, "\u{1885}": false, "\u{1886}": false, "\u{C04}": false, "\u{A9BD}": false, "\u{111C9}": false,
    "\u{1171E}": true,
  ]

  /// Returns whether a character is a word of its own: of ASCII all but letters, digits and controls, else punctuation.
  static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value < 0x80 {
      return scalar.value > 0x20 && scalar.value < 0x7F && !scalar.properties.isAlphabetic
        && scalar.properties.numericType == nil
    }
    guard isKnown(scalar) else { return false }
    switch scalar.properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      return true
    default: return scalar == "\u{166D}" || scalar == "\u{111C9}"
    }
  }

  /// Returns whether a character is one that BERT sets apart as Chinese. One block begins 256 characters later than it does in
  /// Unicode, as it does in the library.
  static func isChinese(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B81F, 0x2B920...0x2CEAF, 0xF900...0xFAFF,
      0x2F800...0x2FA1F:
      true
    default: false
    }
  }

  /// Appends the small form of a character. The library lowercases by Unicode 17, of which these letters are.
  static func appendSmall(_ scalar: Unicode.Scalar, to result: inout [UInt8]) {
    switch scalar.value {
    case 0x16EA0...0x16EB8: result += Array(String(Unicode.Scalar(scalar.value + 27) ?? scalar).utf8)
    case 0xA7CE, 0xA7D2, 0xA7D4: result += Array(String(Unicode.Scalar(scalar.value + 1) ?? scalar).utf8)
    default: result += scalar.properties.lowercaseMapping.utf8
    }
  }
}
