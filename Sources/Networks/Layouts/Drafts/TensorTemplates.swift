import NormFoldFormats

/// The names of a home-made network's tensors with marks for the numbers of blocks (`#`) and heads (`@`), each with what the
/// words of the name say.
struct TensorTemplates {
  /// A tensor, or the same tensor of every block and head.
  struct Template {
    /// `blocks.#.attn.heads.@.query.weight`
    let name: String
    let shape: [Int]
    /// The words of the name in lower case, without marks, and without the word for the kind of the tensor at its end.
    let words: [String]
    /// Is true if the name says that the tensor is a bias.
    let isBias: Bool
    var isOfBlock: Bool { name.contains("#") }
    var isPerHead: Bool { name.contains("@") }

    func has(_ words: String...) -> Bool { self.words.contains { words.contains($0) } }
  }

  /// In the order of the file, those that hold numbers of a network.
  private(set) var templates: [Template] = []
  /// Names that hold masks, angles or counters, with `*` for numbers.
  private(set) var ignored: [String] = []
  private(set) var blockCount = 0
  /// The number of heads that have tensors of their own; nil where none has.
  private(set) var headCount: Int?

  /// - Throws: `.unsupported` where no names are told apart by the number of a block.
  init(of tensors: [(name: String, tensor: Tensor)], file: String) throws(Refusal) {
    let names = tensors.map(\.name)
    // A block has four matrices at least.
    guard let blocks = Self.numbering(of: names, from: 1, names: 4) else {
      throw Refusal(
        .unsupported, file: file,
        "no names are alike but for the number of a block, counted from 0: \(names.listed())",
        advice: "write the layout by hand")
    }
    blockCount = blocks.count
    let inner = names.compactMap { Self.rest(of: $0, behind: blocks.prefix + "0") }
    let ofHeads = inner.filter { Self.words(of: $0).contains(where: Self.ofHeads.contains) }
    let place = Self.numbering(of: ofHeads, from: 2, names: 1)?.prefix
    // What else each of them has, such as a mask, goes with them.
    let heads = place.flatMap { Self.numbering(of: inner, behind: $0, from: 2, names: 1) }
    headCount = heads?.count
    for (name, tensor) in tensors {
      var text = name
      // What only some blocks or heads have keeps its name.
      if let (number, rest) = Self.number(in: name, behind: blocks.prefix), blocks.rests.contains(rest) {
        guard number == 0 else { continue }
        var own = rest
        if let heads, let (head, behind) = Self.number(in: rest, behind: heads.prefix), heads.rests.contains(behind) {
          guard head == 0 else { continue }
          own = heads.prefix + "@" + behind
        }
        text = blocks.prefix + "#" + own
      }
      let words = Self.words(of: text)
      if FakeLayerNorm.isOwn(name) { continue }
      if tensor.shape.isEmpty || (try? tensor.requireWeights(in: file)) == nil
        || words.contains(where: Self.ofBuffers.contains)
      {
        ignored.append(text.replacing("#", with: "*").replacing("@", with: "*"))
      } else {
        let (stem, isBias) = Self.stem(of: words)
        templates.append(Template(name: text, shape: tensor.shape, words: stem, isBias: isBias))
      }
    }
  }

  // MARK: Numbers

  /// The prefix before numbers that count blocks or heads, with how many numbers there are, and with what stands behind
  /// every one of them.
  private struct Numbering {
    let prefix: String
    let count: Int
    let rests: Set<String>
    var coverage: Int { count * rests.count }
  }

  /// The prefix behind which the most names go on with a number, where the numbers are 0, 1, … and the same names stand
  /// behind each.
  ///
  /// - Parameters:
  ///   - prefix: the one to look behind; nil for any.
  ///   - minimum: how many numbers there must be.
  ///   - nameCount: how many names must go on behind each.
  private static func numbering(
    of names: [String], behind prefix: String? = nil, from minimum: Int, names nameCount: Int
  ) -> Numbering? {
    var rests: [String: [Int: Set<String>]] = [:]
    for name in names.prefix(100_000) {
      for (found, number, rest) in numbers(in: name) where prefix == nil || prefix == found {
        rests[found, default: [:]][number, default: []].insert(rest)
      }
    }
    let fitting = rests.compactMap { prefix, byNumber -> Numbering? in
      guard byNumber.count >= minimum, var shared = byNumber[0] else { return nil }
      for number in 1..<max(1, byNumber.count) { shared.formIntersection(byNumber[number] ?? []) }
      return shared.count >= nameCount ? Numbering(prefix: prefix, count: byNumber.count, rests: shared) : nil
    }
    // The outermost number where several are as good.
    return fitting.max { ($0.coverage, $1.prefix.count, $1.prefix) < ($1.coverage, $0.prefix.count, $0.prefix) }
  }

  /// Every number in a name, with what stands before and behind it; of names with many, the first eight.
  private static func numbers(in name: String) -> [(prefix: String, number: Int, rest: String)] {
    var result: [(String, Int, String)] = []
    var index = name.startIndex
    while index < name.endIndex, result.count < 8 {
      guard let start = name[index...].firstIndex(where: \.isASCIIDigit) else { break }
      let end = name[start...].firstIndex { !$0.isASCIIDigit } ?? name.endIndex
      if let number = Int(name[start..<end]), String(number) == name[start..<end], number < 100_000 {
        result.append((String(name[..<start]), number, String(name[end...])))
      }
      index = end
    }
    return result
  }

  private static func number(in name: String, behind prefix: String) -> (number: Int, rest: String)? {
    numbers(in: name).first { $0.prefix == prefix }.map { ($0.number, $0.rest) }
  }

  private static func rest(of name: String, behind prefix: String) -> String? {
    guard name.hasPrefix(prefix), !(name.dropFirst(prefix.count).first?.isASCIIDigit ?? false) else { return nil }
    return String(name.dropFirst(prefix.count))
  }

  // MARK: Words

  private static let ofHeads: Set<String> = [
    "q", "k", "v", "query", "key", "value", "queries", "keys", "values", "qkv",
  ]
  private static let ofBuffers: Set<String> = [
    "tril", "triu", "mask", "freqs", "freq", "inv", "cos", "sin", "cis", "cached", "rope",
  ]
  private static let biasWords: Set<String> = ["bias", "b", "beta", "shift"]
  private static let kindWords: Set<String> = ["weight", "w", "g", "gain", "gamma", "scale", "alpha", "kernel"]
  /// The words that may stand behind a letter for a weight or a bias: `wq`, `b1`.
  private static let lettered: Set<String> = [
    "q", "k", "v", "o", "qkv", "kqv", "1", "2", "3", "in", "out", "up", "down", "gate", "proj", "fc",
  ]

  /// Parts between dots, underscores and changes from small to capital letters, in lower case.
  static func words(of name: String) -> [String] {
    var words: [String] = []
    var word = ""
    var wasSmall = false
    for character in name {
      let isWord = character.isLetter || character.isNumber
      if !isWord || character.isUppercase && wasSmall {
        if !word.isEmpty { words.append(word) }
        word = ""
      }
      if isWord { word += character.lowercased() }
      wasSmall = character.isLowercase
    }
    return word.isEmpty ? words : words + [word]
  }

  /// The words without the one that says whether the tensor is a weight or a bias.
  private static func stem(of words: [String]) -> (words: [String], isBias: Bool) {
    guard let last = words.last else { return (words, false) }
    if biasWords.contains(last) { return (words.dropLast(), true) }
    if kindWords.contains(last), words.count > 1 { return (words.dropLast(), false) }
    if let letter = last.first, letter == "w" || letter == "b", lettered.contains(String(last.dropFirst())) {
      return (words.dropLast() + [String(last.dropFirst())], letter == "b")
    }
    return (words, false)
  }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { isASCII && isNumber }
}
