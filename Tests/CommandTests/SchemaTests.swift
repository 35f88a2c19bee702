import Foundation
import Testing
import TestSupport

/// As much of JSON Schema (draft 2020-12) as `Documentation/json` uses.
private struct Schema {
  let root: [String: Any]

  init(named name: String) throws {
    let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Documentation/json")
    let data = try Data(contentsOf: directory.appending(path: "\(name).schema.json"))
    root = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  private static let keywords: Set<String> = [
    "$schema", "title", "description", "type", "properties", "required", "additionalProperties", "items", "enum",
    "anyOf", "$ref",
    "$defs",
  ]

  /// What is wrong with a document, with its place.
  func problems(of value: Any) -> [String] { problems(of: value, under: root, at: "$") }

  private func problems(of value: Any, under schema: [String: Any], at place: String) -> [String] {
    var problems = schema.keys.filter { !Self.keywords.contains($0) }.map { "\(place): the keyword \($0) is not known" }
    if let reference = schema["$ref"] as? String, let name = reference.split(separator: "/").last {
      let definition = (root["$defs"] as? [String: [String: Any]])?[String(name)]
      return problems
        + (definition.map { self.problems(of: value, under: $0, at: place) } ?? ["\(place): \(reference)?"])
    }
    if let values = schema["enum"] as? [String], !values.contains(where: { $0 == value as? String }) {
      problems.append("\(place): is none of \(values): \(value)")
    }
    if let ways = schema["anyOf"] as? [[String: Any]],
      ways.allSatisfy({ !self.problems(of: value, under: $0, at: place).isEmpty })
    {
      problems.append("\(place): is nothing that may stand here: \(value)")
    }
    let types = schema["type"] as? [String] ?? (schema["type"] as? String).map { [$0] }
    if let types, types.allSatisfy({ !Self.isOf($0, value) }) { problems.append("\(place): is no \(types): \(value)") }
    if let object = value as? [String: Any] {
      let properties = schema["properties"] as? [String: [String: Any]] ?? [:]
      for name in schema["required"] as? [String] ?? [] where object[name] == nil {
        problems.append("\(place): no \(name)")
      }
      for (name, member) in object {
        if let schema = properties[name] ?? schema["additionalProperties"] as? [String: Any] {
          problems += self.problems(of: member, under: schema, at: "\(place).\(name)")
        } else if schema["additionalProperties"] as? Bool == false {
          problems.append("\(place): \(name) is not described")
        }
      }
    }
    if let array = value as? [Any], let items = schema["items"] as? [String: Any] {
      problems += array.enumerated().flatMap { self.problems(of: $1, under: items, at: "\(place)[\($0)]") }
    }
    return problems
  }

  private static func isOf(_ type: String, _ value: Any) -> Bool {
    let number = value as? NSNumber
    let isFlag = number.map { String(cString: $0.objCType) == "c" } ?? false
    return switch type {
    case "object": value is [String: Any]
    case "array": value is [Any]
    case "string": value is String
    case "null": value is NSNull
    case "boolean": isFlag
    case "integer": !isFlag && number.map { $0.doubleValue == $0.doubleValue.rounded() } == true
    case "number": !isFlag && number != nil
    default: false
    }
  }
}

@Suite("Documents are as Documentation/json describes them")
struct SchemaTests {
  private static let text = ["--text", "measured/passage.txt", "--tokenizer", "tokenizer", "--limit", "200"]
  private static let documents: [(schema: String, arguments: [String], status: Int32)] = [
    ("inspect", ["inspect", "lnfree"], 0), ("inspect", ["inspect", "vanilla"], 0),
    ("inspect", ["inspect", "fakeln"], 0), ("inspect", ["inspect", "../vision/timm"], 0),
    (
      "inspect", ["inspect", "../encoders/bert-masked-lm", "--adapter", "../adapters/bert-some-norms"], 0
    ),
    ("plan", ["plan", "lnfree", "--for", "gpt2"], 0),
    ("plan", ["plan", "vanilla", "--to-norm", "rms", "--fold-value-biases"], 0),
    (
      "convert",
      ["convert", "lnfree", "OUT", "--for", "transformers", "llama.cpp", "--tokenizer", "none", "--type", "bf16"], 0
    ),
    ("convert", ["convert", "vanilla", "OUT", "--for", "onnxruntime", "--to-norm", "crms", "--probe-length", "16"], 0),
    ("convert", ["convert", "lnfree", "OUT", "--for", "gpt2", "--no-verify"], 0),
    ("verify", ["verify", "lnfree", "fakeln", "--probe-length", "64"], 0),
    ("verify", ["verify", "lnfree", "vanilla"], 7),
    (
      "verify",
      [
        "verify", "lnfree", "fakeln", "--probe-length", "8", "--arithmetic", "fixed:64,16", "--arithmetic",
        "fixed:24,8",
      ], 0
    ),
    (
      "convert",
      [
        "convert", "lnfree", "OUT", "--for", "gpt2", "--probe-length", "8", "--arithmetic", "int:8,8", "--arithmetic",
        "int:8,12",
      ], 0
    ),
    ("eval", ["eval", "lnfree", "--arithmetic", "int:8,12", "--arithmetic", "fixed:24,8"] + text, 0),
    ("eval", ["eval", "lnfree", "--arithmetic", "int:8,12"] + text, 0),
    ("eval", ["eval", "vanilla", "--compare", "lnfree"] + text, 0), ("eval", ["eval", "lnfree"] + text, 0),
    (
      "eval-labels",
      [
        "eval", "../encoders/labelled", "--labels", "../encoders/labelled/texts.tsv", "--tokenizer",
        "../found/paraphrase-minilm-l3",
      ], 0
    ),
    (
      "eval-labels",
      [
        "eval", "../encoders/labelled", "--labels", "../encoders/labelled/texts.tsv", "--tokenizer",
        "../found/paraphrase-minilm-l3", "--arithmetic", "fixed:24,8",
      ], 0
    ),
    (
      "eval-table",
      ["eval", "../eye-tracking/model.pth", "--table", "../eye-tracking/words.csv", "--precision", "double"], 0
    ),
    ("eval-sentences", ["eval", "../found/paraphrase-minilm-l3", "--sentences", "measured/passage.txt"], 0),
    (
      "eval-sentences",
      [
        "eval", "../found/paraphrase-minilm-l3", "--sentences", "measured/passage.txt", "--arithmetic", "int:8,8",
      ], 0
    ),
    ("eval-images", ["eval", "../vision/tasks/model.pth", "--images", "../vision/tasks/picture.ppm"], 0),
    ("calibrate", ["calibrate", "vanilla"] + text, 0), ("diagnose", ["diagnose", "vanilla"] + text, 0),
    ("generate", ["generate", "lnfree", "--prompt-tokens", "41", "-n", "2"], 0),
    ("generate", ["generate", "lnfree", "--prompt", "To be", "--tokenizer", "tokenizer", "--seed", "3", "-n", "1"], 0),
    (
      "transfer",
      ["transfer", "../gpt-neox/parallel", "../gpt-neox/parallel", "OUT", "--map", "pythia-striped-mamba"], 0
    ),
    (
      "remove",
      [
        "remove", "../tiny-2x32/vanilla", "OUT", "--tokens", "../removal/tokens.bin", "--recipe",
        "../removal/settings.json", "--sites", "ln_2", "--for", "onnxruntime",
      ], 0
    ),
    (
      "remove",
      [
        "remove", "../tiny-2x32/vanilla", "OUT", "--tokens", "../removal/tokens.bin", "--recipe",
        "../removal/settings.json", "--no-removal", "--arithmetic", "int:8,8", "--for", "transformers",
      ], 0
    ),
    ("tokenize", ["tokenize", "tokenizer", "To be"], 0),
    ("tokenize", ["tokenize", Fixtures.path("found/paraphrase-minilm-l3"), "To be", "--pair", "or not"], 0),
    ("refusal", ["inspect", "absent"], 3),
    ("refusal", ["convert", "vanilla", "OUT", "--for", "gpt2"], 5),
  ]

  @Test("Each document", arguments: documents.indices)
  func document(number: Int) throws {
    let (name, arguments, status) = Self.documents[number]
    let place = try TemporaryDirectory()
    let words = arguments.map { $0 == "OUT" ? place / "out" : $0 } + ["--json"]
    let result = try Command.run(words, in: Fixtures.path("shakespeare-4x128"))
    #expect(result.status == status)
    #expect(try Schema(named: name).problems(of: try result.json()) == [])
  }

  @Test("A field more, a field less and another type are seen")
  func mistakes() throws {
    let schema = try Schema(named: "tokenize")
    let document = try Command.run(["tokenize", "tokenizer", "To", "--json"], in: Fixtures.path("shakespeare-4x128"))
      .json()
    for (name, value) in [("more", 1), ("count", "two"), ("count", nil)] as [(String, Any?)] {
      var altered = document
      altered[name] = value
      #expect(schema.problems(of: altered).count == 1, "\(name)")
    }
  }
}
