import Formats
import Networks

/// The files beside a model that tell runtimes what it is. They name sizes, tokens and values of the graph; nothing in
/// them changes what it computes.
package enum RuntimeConfigurations {
  /// `config.json` for Optimum and transformers.js: the source's own, with the sizes as they are and the cache on.
  ///
  /// - Parameters:
  ///   - source: the document of the source's config.json.
  ///   - endOfText: the token that ends a text, where it is known.
  package static func config(
    from source: JSONValue, dimensions: Dimensions, blockCount: Int, endOfText: Int?
  ) -> [UInt8] {
    // Code of others that belongs to another form of the checkpoint.
    var members = (source.members ?? []).map { ($0.key, JSONText.value($0.value)) }.filter { $0.0 != "auto_map" }
    func set(_ key: String, _ value: JSONText) {
      if let index = members.firstIndex(where: { $0.0 == key }) {
        members[index].1 = value
      } else {
        members.append((key, value))
      }
    }
    set("model_type", .string("gpt2"))
    set("architectures", .value(.array([.string("GPT2LMHeadModel")])))
    set("n_layer", .count(blockCount))
    set("n_head", .count(dimensions.headCount))
    set("n_embd", .count(dimensions.dModel))
    set("n_inner", .count(dimensions.dMLP))
    set("n_positions", .count(dimensions.contextLength))
    set("n_ctx", .count(dimensions.contextLength))
    set("vocab_size", .count(dimensions.vocabularySize))
    set("use_cache", .bool(true))
    // Said even where it is unknown: a missing key means token 50256 to transformers.
    for key in ["bos_token_id", "eos_token_id"] {
      let isUsable = source[key]?.count.map { $0 < dimensions.vocabularySize } ?? false
      if !isUsable { set(key, endOfText.map { .count($0) } ?? .value(.null)) }
    }
    return JSONText.object(members).bytes
  }

  /// `genai_config.json` for onnxruntime-genai, as a plain decoder: its type `gpt2` means a graph whose keys and values
  /// are one tensor.
  package static func genAIConfig(dimensions: Dimensions, blockCount: Int, endOfText: Int?) -> [UInt8] {
    // It requires the tokens; one that is never drawn where there is none.
    let end = JSONText.count(endOfText ?? 0)
    let decoder = JSONText.object([
      (
        "session_options",
        .object([("log_id", .string("onnxruntime-genai")), ("provider_options", .value(.array([])))])
      ),
      ("filename", .string(ONNXWriter.modelName)),
      ("head_size", .count(dimensions.dHead)),
      ("hidden_size", .count(dimensions.dModel)),
      (
        "inputs",
        .object([
          ("input_ids", .string("input_ids")), ("attention_mask", .string("attention_mask")),
          ("position_ids", .string("position_ids")), ("past_key_names", .string("past_key_values.%d.key")),
          ("past_value_names", .string("past_key_values.%d.value")),
        ])
      ),
      (
        "outputs",
        .object([
          ("logits", .string("logits")), ("present_key_names", .string("present.%d.key")),
          ("present_value_names", .string("present.%d.value")),
        ])
      ),
      ("num_attention_heads", .count(dimensions.headCount)),
      ("num_hidden_layers", .count(blockCount)),
      ("num_key_value_heads", .count(dimensions.headCount)),
    ])
    let model = JSONText.object([
      ("bos_token_id", end), ("context_length", .count(dimensions.contextLength)), ("decoder", decoder),
      ("eos_token_id", end), ("pad_token_id", end), ("type", .string("decoder")),
      ("vocab_size", .count(dimensions.vocabularySize)),
    ])
    let search = JSONText.object([
      ("do_sample", .bool(false)), ("max_length", .count(dimensions.contextLength)), ("min_length", .count(0)),
      ("num_beams", .count(1)), ("num_return_sequences", .count(1)), ("past_present_share_buffer", .bool(false)),
      ("repetition_penalty", .value(.number("1.0"))), ("temperature", .value(.number("1.0"))), ("top_k", .count(1)),
      ("top_p", .value(.number("1.0"))),
    ])
    return JSONText.object([("model", model), ("search", search)]).bytes
  }
}

/// JSON to be written: two spaces a level, members in the order given, numbers as they were read.
private indirect enum JSONText {
  case value(JSONValue)
  case object([(String, JSONText)])

  static func count(_ value: Int) -> JSONText { .value(.number(String(value))) }
  static func string(_ value: String) -> JSONText { .value(.string(value)) }
  static func bool(_ value: Bool) -> JSONText { .value(.bool(value)) }

  var bytes: [UInt8] { Array((text(indent: "") + "\n").utf8) }

  private func text(indent: String) -> String {
    let inner = indent + "  "
    func list(_ open: String, _ lines: [String], _ close: String) -> String {
      if lines.isEmpty { return open + close }
      return open + "\n" + lines.map { inner + $0 }.joined(separator: ",\n") + "\n" + indent + close
    }
    switch self {
    case .object(let members):
      return list("{", members.map { Self.quoted($0.0) + ": " + $0.1.text(indent: inner) }, "}")
    case .value(.object(let members)):
      return JSONText.object(members.map { ($0.key, .value($0.value)) }).text(indent: indent)
    case .value(.array(let values)): return list("[", values.map { JSONText.value($0).text(indent: inner) }, "]")
    case .value(.null): return "null"
    case .value(.bool(let value)): return value ? "true" : "false"
    case .value(.number(let literal)): return literal
    case .value(.string(let value)): return Self.quoted(value)
    }
  }

  private static func quoted(_ string: String) -> String {
    var result = "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
