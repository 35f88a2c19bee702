import NormFoldFormats

/// The tokens that a tokenizer puts around a text, or around two, before a network reads them: `[CLS] A [SEP] B [SEP]`.
///
/// Source: Hugging Face's `tokenizers`, the post-processors TemplateProcessing, BertProcessing and RobertaProcessing.
package struct TokenTemplate: Equatable, Sendable {
  package enum Part: Equatable, Sendable {
    case token(Int, type: Int)
    case first(type: Int)
    case second(type: Int)
  }

  package var single: [Part]
  package var pair: [Part]

  /// Returns ids and token types of one text, or of two.
  package func applied(to first: [Int], _ second: [Int]?) -> (ids: [Int], types: [Int]) {
    var (ids, types): ([Int], [Int]) = ([], [])
    for part in second == nil ? single : pair {
      switch part {
      case .token(let id, let type): (ids, types) = (ids + [id], types + [type])
      case .first(let type):
        ids += first
        types += repeatElement(type, count: first.count)
      case .second(let type):
        ids += second ?? []
        types += repeatElement(type, count: second?.count ?? 0)
      }
    }
    return (ids, types)
  }
}

extension TokenTemplate {
  /// Reads the part `post_processor` of a `tokenizer.json`; nil where it puts nothing around a text.
  ///
  /// - Throws: `.malformed` for a template of tokens that there are not; `.unsupported` for an unknown kind.
  init?(_ processor: JSONValue?, of vocabulary: Vocabulary, in file: JSONFile) throws(Refusal) {
    guard let processor, !processor.isNull else { return nil }
    switch processor["type"]?.string {
    case "Sequence":
      for part in processor["processors"]?.array ?? [] {
        if let template = try TokenTemplate(part, of: vocabulary, in: file) {
          self = template
          return
        }
      }
      return nil
    case "ByteLevel": return nil
    case "TemplateProcessing":
      single = try Self.parts(processor, "single", in: file)
      pair = try Self.parts(processor, "pair", in: file)
    case "BertProcessing", "RobertaProcessing":
      let isBERT = processor["type"]?.string == "BertProcessing"
      guard let first = processor["cls"]?.array?.last?.count, let last = processor["sep"]?.array?.last?.count else {
        throw file.refusal("post_processor", expected: "cls and sep, a text and an id each", processor["cls"])
      }
      self = .around(first, last, betweenTexts: isBERT ? [last] : [last, last], secondType: isBERT ? 1 : 0)
    case let name:
      throw Refusal(
        .unsupported, file: file.path, subject: "post_processor.type",
        "expected TemplateProcessing, BertProcessing, RobertaProcessing or ByteLevel, found \(name.map { "\"\($0)\"" } ?? "nothing")",
        advice: "name a tokenizer with such a post-processor")
    }
    for case .token(let id, _) in single + pair where vocabulary.tokens[id] == nil {
      throw Refusal(
        .malformed, file: file.path, subject: "post_processor", "puts the token \(id) beside text, which does not exist"
      )
    }
  }

  private static func parts(_ processor: JSONValue, _ key: String, in file: JSONFile) throws(Refusal) -> [Part] {
    guard let items = processor[key]?.array else {
      throw file.refusal("post_processor.\(key)", expected: "an array", processor[key])
    }
    var parts: [Part] = []
    for item in items {
      let sequence = item["Sequence"]
      let type = (sequence ?? item["SpecialToken"])?["type_id"]?.count
      if let name = sequence?["id"]?.string, let type, ["A", "B"].contains(name) {
        parts.append(name == "A" ? .first(type: type) : .second(type: type))
      } else if let name = item["SpecialToken"]?["id"]?.string, let type,
        let ids = processor["special_tokens"]?[name]?["ids"]?.array
      {
        for value in ids {
          guard let id = value.count else {
            throw file.refusal("post_processor.special_tokens.\(name)", expected: "ids", value)
          }
          parts.append(.token(id, type: type))
        }
      } else {
        throw file.refusal("post_processor.\(key)", expected: "sequences and special tokens", item)
      }
    }
    return parts
  }

  /// Returns the template as `tokenizer.json` has it: a TemplateProcessing.
  func json(of vocabulary: Vocabulary) -> JSONValue {
    func name(_ id: Int) -> String { vocabulary.tokens[id]?.text ?? "" }
    func list(_ parts: [Part]) -> JSONValue {
      .array(
        parts.map { part in
          switch part {
          case .token(let id, let type):
            .object(["SpecialToken": .object(["id": .string(name(id)), "type_id": .number(type)])])
          case .first(let type): .object(["Sequence": .object(["id": .string("A"), "type_id": .number(type)])])
          case .second(let type): .object(["Sequence": .object(["id": .string("B"), "type_id": .number(type)])])
          }
        })
    }
    var ids: [Int] = []
    for case .token(let id, _) in single + pair where !ids.contains(id) { ids.append(id) }
    let special = ids.map { id in
      JSONValue.Member(
        key: name(id),
        value: .object([
          "id": .string(name(id)), "ids": .array([.number(id)]), "tokens": .array([.string(name(id))]),
        ]))
    }
    return .object([
      "type": .string("TemplateProcessing"), "single": list(single), "pair": list(pair),
      "special_tokens": .object(special),
    ])
  }

  /// `[first] A [last]` and `[first] A [between] B [last]`, as encoders have it.
  static func around(_ first: Int, _ last: Int, betweenTexts between: [Int], secondType: Int) -> TokenTemplate {
    TokenTemplate(
      single: [.token(first, type: 0), .first(type: 0), .token(last, type: 0)],
      pair: [.token(first, type: 0), .first(type: 0)] + between.map { .token($0, type: 0) }
        + [.second(type: secondType), .token(last, type: secondType)])
  }

  /// `[begin] A` and `[begin] A B`, as LLaMA's tokenizers have it.
  static func beginning(with id: Int) -> TokenTemplate {
    TokenTemplate(
      single: [.token(id, type: 0), .first(type: 0)],
      pair: [.token(id, type: 0), .first(type: 0), .second(type: 1)])
  }
}
