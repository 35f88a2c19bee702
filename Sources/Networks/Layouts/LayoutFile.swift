import NormFoldFormats

/// The file in which a user describes a home-made network (`Documentation/Layouts.md`): a JSON object with the sizes
/// and choices that no tensor tells, and with what each tensor holds.
///
///     {"heads": 4, "activation": "gelu", "epsilon": 1e-5, "norm": "layer", "positions": "learned",
///      "tensors": {"tok_emb.weight": {"holds": "embedding.tokens.weight"}, …}}
///
/// The file becomes an ``Architecture`` and a ``StorageForm`` like those of any other network.
package struct LayoutFile: Sendable {
  package let path: String
  /// The name that messages give to the network.
  package let name: String
  /// Under which keys a PyTorch archive has the state dict, one inside the other; none to look for it.
  package let stateDict: [String]
  let layout: Layout
  /// The sizes and choices that the file states; sizes are held against the tensors later.
  let sizes: Hyperparameters

  /// Is true if positions rotate queries and keys.
  var isRotary: Bool { sizes.rotaryBase != nil }

  /// Keys that are no sizes or choices of the network. `note` is for its readers.
  private static let otherKeys = ["name", "note", "stateDict", "ignore", "tensors"]

  /// - Throws: `.malformed` for a file that is no JSON object, a key that is unknown, missing or of the wrong type, values that
  ///   a draft left to be filled in, and parameters that are unknown, named twice or missing; `.unsupported` for axes that no
  ///   tensor here has.
  package init(path: String) throws(Refusal) {
    let json = try JSONValue(configurationAt: path)
    let fields = Fields(json: json, path: path)
    try Self.refuseMarks(in: json, path)
    let known = Self.configuration.keyNames + Self.otherKeys
    for member in json.members ?? [] where !known.contains(member.key) {
      throw Refusal(
        .malformed, file: path, at: member.byteOffset, subject: member.key, "there is no such key",
        advice: member.key.nearest(of: known).map { "did you mean \($0)?" } ?? "known are \(known.listed())")
    }
    self.path = path
    name = try fields.string("name") ?? "home-made GPT"
    stateDict = try fields.words("stateDict")
    let ignored = try fields.words("ignore")
    guard let members = fields["tensors"]?.members else { throw fields.refusal("tensors", expected: "an object") }
    var sizes = Hyperparameters(path: path)
    try Self.configuration.read(fields, into: &sizes)
    let holdsHead = LayoutEntry.names(of: "unembedding.weight", in: members)
    sizes.isTied = try fields.bool("tied") ?? !holdsHead
    var entries: [LayoutEntry] = []
    for member in members { entries.append(try LayoutEntry(member, file: path)) }
    try Self.require(entries, sizes, fields)
    var patterns: [SlotPattern] = []
    for entry in entries {
      patterns += try entry.patterns(beside: entries, sizes, file: path)
      guard patterns.count <= 4_096 else {
        throw Refusal(.malformed, file: path, subject: entry.tensor, "names more than 4096 tensors of a block")
      }
    }
    layout = Layout(name: name, path: path, ignoredNames: ignored, [patterns])
    self.sizes = sizes
  }

  // MARK: Sizes and choices

  private static let configuration: ConfigurationTable = .init([
    .size("heads", .heads, required: "say how many heads the queries have"),
    .size("keyValueHeads", .keyValueHeads), .size("headWidth", .headWidth), .size("blocks", .blocks),
    .size("model", .model), .size("hidden", .hidden), .size("vocabulary", .vocabulary), .size("context", .context),
    .init(
      "activation",
      read: { (fields, sizes) throws(Refusal) in
        guard fields["activation"]?.string != nil else { throw fields.refusal("activation", expected: "a name") }
        sizes.activation = try fields.activation("activation", usual: .geluErf)
      }),
    .epsilon("epsilon", usual: nil),
    .init(
      "norm",
      read: { (fields, sizes) throws(Refusal) in
        guard let kind: LayoutNorm = try fields.choice("norm") else {
          throw fields.refusal("norm", expected: "layer or rms")
        }
        sizes.normKind = kind == .layer ? .layer : .rms
      }),
    .init(
      "block",
      read: { (fields, sizes) throws(Refusal) in
        let form: Block? = try fields.choice("block")
        sizes.own["block"] = form.map { .string($0.rawValue) }
      }),
    .init("attentionScale", read: readAttentionScale), .init("embeddingScale", read: readEmbeddingScale),
    .init("positions", read: readPositions), .tied("tied", usual: false), .endOfText("endOfText"),
  ])

  private enum LayoutNorm: String, CaseIterable { case layer, rms }

  /// The form of a block: where its norms stand, and what its MLP reads.
  enum Block: String, CaseIterable {
    case preNorm = "pre-norm"
    case postNorm = "post-norm"
    case parallel
  }

  /// The formulas that scores may be multiplied by, besides a number.
  enum AttentionScale: String, CaseIterable {
    case headWidth = "1/sqrt(headWidth)"
    case model = "1/sqrt(model)"
  }

  @Sendable private static func readAttentionScale(
    _ fields: Fields, _ sizes: inout Hyperparameters
  ) throws(Refusal) {
    let key = "attentionScale"
    guard let value = fields[key] else { throw fields.refusal(key, expected: "a number, or a root") }
    if value.string != nil {
      let choice: AttentionScale? = try fields.choice(key)
      sizes.own[key] = choice.map { .string($0.rawValue) }
    } else {
      sizes.own[key] = .number(try fields.positiveNumber(key, usual: nil))
    }
  }

  @Sendable private static func readEmbeddingScale(
    _ fields: Fields, _ sizes: inout Hyperparameters
  ) throws(Refusal) {
    guard fields["embeddingScale"] != nil else { return }
    sizes.own["embeddingScale"] = .number(try fields.positiveNumber("embeddingScale", usual: nil))
  }

  private enum Positions: String, CaseIterable { case learned, none }

  @Sendable private static func readPositions(_ fields: Fields, _ sizes: inout Hyperparameters) throws(Refusal) {
    let key = "positions"
    if let rotary = fields[key]?["rotary"] {
      let inner = Fields(json: rotary, path: fields.path)
      let known = ["base", "share", "pairs"]
      for member in inner.members where !known.contains(member.key) {
        throw Refusal(
          .malformed, file: fields.path, at: member.byteOffset, subject: member.key,
          "rotary positions have no such key", advice: "known are \(known.listed())")
      }
      sizes.rotaryBase = try inner.positiveNumber("base", usual: nil)
      sizes.rotaryShare = try inner.positiveNumber("share", usual: 1)
      guard sizes.rotaryShare <= 1 else { throw inner.refusal("share", expected: "a share of 1 or less") }
      let pairs: LayoutPairs = try inner.choice("pairs") ?? .halves
      sizes.own["pairs"] = .string(pairs.rawValue)
      guard pairs == .halves || sizes.rotaryShare == 1 else {
        throw Refusal(
          .unsupported, file: fields.path, subject: "share", "neighbours are rotated together in whole heads only")
      }
    } else {
      guard let positions: Positions = try fields.choice(key) else {
        throw fields.refusal(key, expected: "learned, none, or an object with rotary")
      }
      sizes.own[key] = .string(positions.rawValue)
    }
  }

  // MARK: What belongs together

  /// - Throws: `.malformed` for a parameter that two tensors hold, a bias without its weight, and whatever every network has
  ///   and this one does not.
  private static func require(
    _ entries: [LayoutEntry], _ sizes: Hyperparameters, _ fields: Fields
  ) throws(Refusal) {
    var places: [String: String] = [:]
    for entry in entries {
      for parameter in entry.parameters {
        guard let other = places.updateValue(entry.tensor, forKey: parameter) else { continue }
        throw Refusal(
          .malformed, file: fields.path, subject: parameter, "is held by '\(other)' and by '\(entry.tensor)'")
      }
    }
    for parameter in places.keys.sorted() where parameter.hasSuffix(".bias") {
      let path = parameter.dropLast(".bias".count)
      guard places["\(path).weight"] != nil else {
        throw Refusal(
          .malformed, file: fields.path, subject: parameter, "no tensor holds the weight that belongs to it")
      }
      if path.hasSuffix("norm"), sizes.normKind == .rms {
        throw Refusal(.unsupported, file: fields.path, subject: parameter, "RMSNorms have no bias here")
      }
    }
    let learned = "embedding.positions.weight"
    let isLearned = sizes.own["positions"]?.string == Positions.learned.rawValue
    let wanted = LayoutEntry.required + (sizes.isTied ? [] : ["unembedding.weight"]) + (isLearned ? [learned] : [])
    let missing = wanted.filter { places[$0] == nil }
    guard missing.isEmpty else {
      throw Refusal(.malformed, file: fields.path, subject: "tensors", "nothing holds \(missing.listed(limit: 12))")
    }
    if !isLearned, let name = places[learned] {
      throw Refusal(
        .malformed, file: fields.path, subject: "positions", "says that they are not learned, but '\(name)' holds them")
    }
    guard isLearned || sizes.stated(.context) != nil else {
      throw Refusal(
        .malformed, file: fields.path, subject: "context", "is missing",
        advice: "no table of positions says how long a text may be")
    }
    try sizes.requireEvenGroups()
  }

  // MARK: Drafts

  /// The mark at the beginning of each value of a draft that is to be replaced.
  static let mark = "?"

  /// - Throws: `.malformed` with every value that a draft could not know and nobody has filled in yet.
  private static func refuseMarks(in json: JSONValue, _ path: String) throws(Refusal) {
    var marks: [String] = []
    func look(at value: JSONValue, _ place: String) {
      if let text = value.string, text.hasPrefix(mark) {
        marks.append("\(place) (\(text.dropFirst(mark.count).drop { $0 == " " }))")
      }
      for member in value.members ?? [] {
        look(at: member.value, place == "tensors" ? "'\(member.key)'" : place.isEmpty ? member.key : place)
      }
      for element in value.array ?? [] { look(at: element, place) }
    }
    look(at: json, "")
    guard !marks.isEmpty else { return }
    throw Refusal(
      .malformed, file: path,
      "\(marks.count) value\(marks.count == 1 ? " is" : "s are") to be filled in: \(marks.listed(limit: 12))",
      advice: "what no tensor tells stands in the code that trained the network")
  }
}

/// The features of a head that rotary positions rotate together.
enum LayoutPairs: String, CaseIterable { case halves, neighbours }

extension Fields {
  /// One word or several.
  fileprivate func words(_ key: String) throws(Refusal) -> [String] {
    guard let value = self[key], !value.isNull else { return [] }
    if let word = value.string { return [word] }
    let words = value.array?.compactMap(\.string)
    guard let words, words.count == value.array?.count else { throw refusal(key, expected: "a word or several") }
    return words
  }
}
