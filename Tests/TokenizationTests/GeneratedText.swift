import TestSupport

/// Text that is hard to split: `Tests/Interop/generated_text.py` makes the same from the same seed.
struct GeneratedText {
  private static let words =
    "the of and to in is that it was for on are with as his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people Norm LayerNorm residual stream embedding NASA iPhone McDonald e.g. i.e. U.S."
    .split(separator: " ").map(String.init)
  private static let code = [
    "def f(x):", "return x", "    ", "        ", "\t", "\n", "\r\n", "==", "!=", "->", "=>", "{", "}", "[0]", "();",
    "i++", "0x1F", "1e-5", "// TODO", "/* */", "#include <stdio.h>", "&&", "||", "$_", "%d", "\\n", "\"\"\"", "self.x",
    "a_b_c", "camelCase", "https://example.org/?q=1&r=2", "<div class=\"a\">", "</div>", "@main", "~/.bashrc", "3.14",
    "std::vector<int>",
  ]
  private static let spaces: [UInt32] = [
    0x20, 0x20, 0x20, 0x20, 0xA, 0xA, 0x9, 0xD, 0xB, 0xC, 0x85, 0xA0, 0x1680, 0x2000, 0x2003, 0x2009, 0x200A, 0x2028,
    0x2029, 0x202F, 0x205F, 0x3000, 0x200B, 0x180E, 0xFEFF, 0x1C, 0x1F,
  ]
  private static let contractions = [
    "'", "''", "'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'lL", "'d", "'r", "'v", "'l", "\u{2019}s", "n't",
    " '", " 's", "'s's", "o'", "'\n", "'sn", "'1", "' ", "\"'s", "'\u{E9}", "'\u{17F}",
  ]
  private static let numbers: [UInt32] = [
    0x30, 0x660, 0x6F0, 0x966, 0x2160, 0x2070, 0x2080, 0xBC, 0x2460, 0x1D7CE, 0x3021, 0x10107,
  ]
  private static let emoji: [UInt32] = [
    0x1F600, 0x1F44D, 0x1F468, 0x1F469, 0x1F9D1, 0x2764, 0x1F3F3, 0x1F1E6, 0x1F1FA, 0x1F680, 0x1F9EC, 0x1FAE0, 0x231A,
    0x263A,
  ]
  private static let joiners: [UInt32] = [0x200D, 0xFE0F, 0x1F3FB, 0x1F3FF, 0x20E3, 0xE0067, 0xE007F]
  private static let added = [
    "<|endoftext|>", "<|endoftext|>", "<|endoftext", "<|endoftext|", "<|", "|>", "<<|endoftext|>>", "endoftext",
    "<|ENDOFTEXT|>",
  ]
  private static let punctuation = Array(
    ".,;:!?-_()[]{}<>/\\|@#$%^&*+=~`\"\u{2014}\u{2026}\u{201C}\u{201D}\u{AB}\u{BB}\u{3001}\u{3002}\u{FF01}\u{A1}\u{BF}\u{20AC}\u{A3}\u{B7}"
      .unicodeScalars
  ).map(\.value)
  /// First characters and counts: most scripts are in the first plane.
  private static let planes: [(start: UInt32, count: Int)] = [
    (0, 0x3000), (0, 0x3000), (0, 0x3000), (0x3000, 0x7000), (0xA000, 0x6000), (0x10000, 0x10000), (0x10000, 0x10000),
    (0x20000, 0x20000),
  ]

  private var generator: SeededGenerator
  private var bytes: [UInt8] = []

  /// At least so many bytes.
  static func bytes(seed: UInt64, count: Int) -> [UInt8] {
    var text = GeneratedText(generator: SeededGenerator(seed: seed))
    while text.bytes.count < count {
      if text.isOdd { text.bytes.append(0x20) }
      text.appendFragment()
    }
    return text.bytes
  }

  // MARK: Choices

  private mutating func below(_ count: Int) -> Int { Int(generator.next() % UInt64(count)) }

  private mutating func one<Item>(_ items: [Item]) -> Item { items[below(items.count)] }

  private var isOdd: Bool { mutating get { below(2) == 1 } }

  // MARK: Fragments

  /// The character, with the surrogates moved up behind themselves.
  private mutating func append(_ value: UInt32) {
    let moved = (0xD800..<0xE000).contains(value) ? value + 0x800 : value
    bytes += Array(String(Unicode.Scalar(moved) ?? "\u{FFFD}").utf8)
  }

  private mutating func append(_ text: String) { bytes += Array(text.utf8) }

  private mutating func appendFragment() {
    switch below(20) {
    case ..<7: append(one(Self.words))
    case ..<11: appendScriptWord()
    case 11: append(one(Self.code))
    case 12:
      let longest = below(50) > 0 ? 12 : 400
      appendRun(of: Self.spaces, longest: longest)
    case 13:
      append(one(Self.contractions))
      if isOdd { append(one(Self.words)) }
    case 14:
      let first = one(Self.numbers)
      let longest = below(20) > 0 ? 6 : 200
      for _ in 0...below(longest) { append(first + UInt32(below(10))) }
    case 15:
      for _ in 0...below(4) {
        append(one(Self.emoji))
        if isOdd { append(one(Self.joiners)) }
      }
    case 16: append(one(Self.added))
    case 17:
      append(0x61 + UInt32(below(26)))
      for _ in 0...below(4) { append(0x300 + UInt32(below(0x70))) }
    case 18:
      let longest = below(20) > 0 ? 6 : 100
      for _ in 0...below(longest) { append(one(Self.punctuation)) }
    default:
      guard isOdd else { return append(UInt32(below(0x110000 - 0x800))) }
      for _ in 0...below(5) {
        let controls = [below(32), 127 + below(33)]
        append(UInt32(one(controls)))
      }
    }
  }

  /// Characters of one block of 32: of one script, nearly always.
  private mutating func appendScriptWord() {
    let (start, count) = one(Self.planes)
    let block = start + UInt32(below(count / 32)) * 32
    for _ in 0...below(12) { append(block + UInt32(below(32))) }
  }

  /// Some of them, or one of them again and again.
  private mutating func appendRun(of characters: [UInt32], longest: Int) {
    let count = 1 + below(longest)
    if below(3) == 0 {
      let character = one(characters)
      for _ in 0..<count { append(character) }
    } else {
      for _ in 0..<min(count, 20) { append(one(characters)) }
    }
  }
}
