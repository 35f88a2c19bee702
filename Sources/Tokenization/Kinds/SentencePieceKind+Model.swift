import NormFoldFormats

extension SentencePieceKind {
  package static func read(directory: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    let path = directory + "/" + fileNames[0]
    guard FileIdentity(ofItemAt: path) != nil else { return false }
    try read(modelAt: path, into: &vocabulary)
    try vocabulary.readAddedTokens(beside: directory)
    // transformers takes text apart at added tokens first; whether a space is put behind them, this key says.
    if let settings = try JSONFile(ifPresentAt: directory + "/tokenizer_config.json"),
      settings.value["legacy"]?.bool == false, var kind = vocabulary.kind as? SentencePieceKind,
      kind.spaces.prefix == .always
    {
      kind.spaces.prefix = .first
      vocabulary.kind = kind
    }
    return true
  }

  package static func read(fileAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) -> Bool {
    guard path.hasSuffix(".model") else { return false }
    try read(modelAt: path, into: &vocabulary)
    return true
  }

  /// Reads SentencePiece's `ModelProto`.
  private static func read(modelAt path: String, into vocabulary: inout Vocabulary) throws(Refusal) {
    let model = try SentencePieceModel([UInt8](contentOf: path), file: path)
    try model.requireKind()
    vocabulary.path = path
    var kind = SentencePieceKind()
    kind.hasBytes = model.trainer.hasBytes
    kind.normalization = model.normalizer.name
    kind.removesExtraSpaces = model.normalizer.removesExtraSpaces
    kind.characterMap = model.normalizer.characterMap
    kind.spaces = Metaspace(prefix: model.normalizer.addsPrefix ? .always : .never)
    var scores: [Int: Float] = [:]
    for (id, piece) in model.pieces.enumerated() {
      var token = Vocabulary.Token(text: piece.text, kind: piece.kind)
      if piece.kind == .userDefined {
        var matching = Vocabulary.Matching()
        matching.isPiece = true
        token.matching = matching
      }
      vocabulary.tokens[id] = token
      scores[id] = piece.score
    }
    kind.order = .scores(scores)
    vocabulary.kind = kind
    // Numbers that the trainer was given stand for texts by now.
    let trainer = model.trainer
    for (role, text, kind) in [
      (Vocabulary.SpecialRole.unknown, trainer.unknown, Vocabulary.TokenKind.unknown),
      (.beginOfText, trainer.beginOfText, .control), (.endOfText, trainer.endOfText, .control),
      (.padding, trainer.padding, .control),
    ] {
      vocabulary.specialTokens[role] = vocabulary.tokens.first { $0.value.kind == kind && $0.value.text == text }?.key
    }
    vocabulary.addsBeginOfText = vocabulary.specialTokens[.beginOfText] != nil
  }
}

/// The content of a `ModelProto`, as far as it is used.
///
/// Source: sentencepiece_model.proto.
private struct SentencePieceModel {
  struct Piece {
    var text = ""
    var score: Float = 0
    var kind = Vocabulary.TokenKind.normal
  }

  struct Trainer {
    /// 1 unigram, 2 BPE, 3 words, 4 characters.
    var type: UInt64 = 1
    var hasBytes = false
    var putsSpacesBehind = false
    var unknown = "<unk>"
    var beginOfText = "<s>"
    var endOfText = "</s>"
    var padding = "<pad>"
  }

  struct Normalizer {
    var name = ""
    var characterMap: CharacterMap?
    var addsPrefix = true
    var removesExtraSpaces = true
    var escapesSpaces = true
  }

  var pieces: [Piece] = []
  var trainer = Trainer()
  var normalizer = Normalizer()
  private let bytes: [UInt8]
  private let file: String

  init(_ bytes: [UInt8], file: String) throws(Refusal) {
    self.bytes = bytes
    self.file = file
    var reader = ProtobufReader(bytes, file: file)
    while let (number, value) = try reader.next() {
      guard case .bytes(let range) = value else { continue }
      switch number {
      case 1: pieces.append(try piece(in: range))
      case 2: try readTrainer(in: range)
      case 3: try readNormalizer(in: range)
      default: break
      }
    }
    guard !pieces.isEmpty else {
      throw Refusal(.malformed, file: file, "has no pieces", advice: "the file is no model of SentencePiece's")
    }
  }

  private func text(_ range: Range<Int>) throws(Refusal) -> String {
    guard let text = String(validating: bytes[range], as: UTF8.self) else {
      throw Refusal(.malformed, file: file, at: range.lowerBound, "a text is not UTF-8")
    }
    return text
  }

  private func piece(in range: Range<Int>) throws(Refusal) -> Piece {
    var piece = Piece()
    var reader = ProtobufReader(bytes, range, file: file)
    while let field = try reader.next() {
      switch field {
      case (1, .bytes(let range)): piece.text = try text(range)
      case (2, .bits32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .number(let number)):
        guard let kind = Int32(exactly: number).flatMap({ Vocabulary.TokenKind(rawValue: $0) }) else {
          throw Refusal(
            .unsupported, file: file, at: range.lowerBound, subject: piece.text, "has the unknown type \(number)")
        }
        piece.kind = kind
      default: break
      }
    }
    return piece
  }

  private mutating func readTrainer(in range: Range<Int>) throws(Refusal) {
    var reader = ProtobufReader(bytes, range, file: file)
    while let field = try reader.next() {
      switch field {
      case (3, .number(let type)): trainer.type = type
      case (24, .number(let flag)): trainer.putsSpacesBehind = flag != 0
      case (35, .number(let flag)): trainer.hasBytes = flag != 0
      case (45, .bytes(let range)): trainer.unknown = try text(range)
      case (46, .bytes(let range)): trainer.beginOfText = try text(range)
      case (47, .bytes(let range)): trainer.endOfText = try text(range)
      case (48, .bytes(let range)): trainer.padding = try text(range)
      default: break
      }
    }
  }

  private mutating func readNormalizer(in range: Range<Int>) throws(Refusal) {
    var reader = ProtobufReader(bytes, range, file: file)
    while let field = try reader.next() {
      switch field {
      case (1, .bytes(let range)): normalizer.name = try text(range)
      case (2, .bytes(let range)):
        normalizer.characterMap = range.isEmpty ? nil : try CharacterMap(bytes[range], file: file)
      case (3, .number(let flag)): normalizer.addsPrefix = flag != 0
      case (4, .number(let flag)): normalizer.removesExtraSpaces = flag != 0
      case (5, .number(let flag)): normalizer.escapesSpaces = flag != 0
      default: break
      }
    }
  }

  /// - Throws: `.unsupported` for a model of another type, or one that does other things with spaces.
  func requireKind() throws(Refusal) {
    let names: [UInt64: String] = [1: "UNIGRAM", 2: "BPE", 3: "WORD", 4: "CHAR"]
    let unused = pieces.first { $0.kind == .unused }
    let checks: [(key: String, holds: Bool, found: String)] = [
      (
        "trainer_spec.model_type: expected BPE", trainer.type == 2, names[trainer.type] ?? "\(trainer.type)"
      ),
      ("trainer_spec.treat_whitespace_as_suffix: expected false", !trainer.putsSpacesBehind, "true"),
      ("normalizer_spec.escape_whitespaces: expected true", normalizer.escapesSpaces, "false"),
      ("pieces: expected none that is unused", unused == nil, "'\(unused?.text ?? "")'"),
    ]
    for check in checks where !check.holds {
      throw Refusal(
        .unsupported, file: file, "\(check.key), found \(check.found)", advice: "name a tokenizer of LLaMA's kind")
    }
  }
}
