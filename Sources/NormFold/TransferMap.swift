import FoundationEssentials
import NormFoldFormats

/// The names by which tensors of one architecture become tensors of another, with `#` for the number of a block.
package struct TransferMap: Sendable {
  struct Rule: Sendable {
    /// The name in the template.
    let target: String
    /// The name in the source.
    let source: String
  }

  let name: String
  let rules: [Rule]

  /// The name in the source of what a tensor of the template becomes; nil where it stays what it is.
  func origin(of name: String) -> String? {
    for rule in rules {
      guard let number = Self.number(in: name, fitting: rule.target) else { continue }
      return rule.source.replacing("#", with: number)
    }
    return nil
  }

  /// Returns what stands for `#` in a name; empty for a pattern without `#` that is the name. Nil where the name does
  /// not fit the pattern.
  private static func number(in name: String, fitting pattern: String) -> String? {
    let parts = pattern.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2 else { return name == pattern ? "" : nil }
    guard name.hasPrefix(parts[0]), name.hasSuffix(parts[1]),
      name.utf8.count > parts[0].utf8.count + parts[1].utf8.count
    else { return nil }
    let number = name.dropFirst(parts[0].count).dropLast(parts[1].count)
    return number.utf8.allSatisfy { (0x30...0x39).contains($0) } ? String(number) : nil
  }

  // MARK: Those that are known

  /// The maps by name, of XATL (arXiv 2404.02684; syncdoth/RetNet-XATL: convert_hf_checkpoint.py, then
  /// convert_lit_llama_to_retnet.py with --skip_reten, the published recipe). Retention, its gate and state spaces stay what the
  /// template has; attention goes along in those layers of a hybrid that have it.
  static let known: [TransferMap] = [
    TransferMap(
      name: "pythia-retnet",
      rules: rules(
        embedding: "transformer.wte", block: "transformer.h.#", attentionNorm: "norm_1", mlpNorm: "norm_2",
        output: "attn.proj", up: "mlp.mlp.fc1", down: "mlp.mlp.fc2", finalNorm: "transformer.ln_f", head: "lm_head",
        fused: "attn.attn")),
    TransferMap(
      name: "pythia-retnet-hf",
      rules: rules(
        embedding: "model.embed_tokens", block: "model.layers.#", attentionNorm: "retention_layer_norm",
        mlpNorm: "final_layer_norm", output: "retention.out_proj", up: "ffn.fc1", down: "ffn.fc2",
        finalNorm: "model.layer_norm", head: "lm_head", fused: nil)),
    TransferMap(
      name: "pythia-striped-mamba",
      rules: rules(
        embedding: "gpt_neox.embed_in", block: "gpt_neox.layers.#", attentionNorm: "input_layernorm",
        mlpNorm: "post_attention_layernorm", output: "attention.dense", up: "mlp.dense_h_to_4h",
        down: "mlp.dense_4h_to_h", finalNorm: "gpt_neox.final_layer_norm", head: "embed_out",
        fused: "attention.query_key_value")),
  ]

  private static func rules(
    embedding: String, block: String, attentionNorm: String, mlpNorm: String, output: String, up: String, down: String,
    finalNorm: String, head: String, fused: String?
  ) -> [Rule] {
    let pythia = "gpt_neox.layers.#"
    var rules = [
      Rule(target: "\(embedding).weight", source: "gpt_neox.embed_in.weight"),
      Rule(target: "\(head).weight", source: "embed_out.weight"),
    ]
    var modules = [
      ("\(block).\(attentionNorm)", "\(pythia).input_layernorm"),
      ("\(block).\(mlpNorm)", "\(pythia).post_attention_layernorm"),
      ("\(block).\(output)", "\(pythia).attention.dense"), ("\(block).\(up)", "\(pythia).mlp.dense_h_to_4h"),
      ("\(block).\(down)", "\(pythia).mlp.dense_4h_to_h"), (finalNorm, "gpt_neox.final_layer_norm"),
    ]
    if let fused { modules.append(("\(block).\(fused)", "\(pythia).attention.query_key_value")) }
    for (target, source) in modules {
      for end in ["weight", "bias"] { rules.append(Rule(target: "\(target).\(end)", source: "\(source).\(end)")) }
    }
    return rules
  }

  /// One that is known, or a file: a JSON object of names in the template, each with the name in the source.
  ///
  /// - Throws: `.malformed` for a file that is no such object.
  package init(named name: String) throws(Refusal) {
    if let known = Self.known.first(where: { $0.name == name }) {
      self = known
      return
    }
    guard FileManager.default.fileExists(atPath: name) else {
      throw Refusal(
        .usage, subject: name, "is no map that is known, and no file",
        advice: "known maps are \(Self.known.map(\.name).joined(separator: ", "))")
    }
    let file = try MappedFile(path: name)
    let json = try file.parse { (bytes) throws(Refusal) in try JSONValue(parsing: bytes, file: name) }
    guard let members = json.members else {
      throw Refusal(
        .malformed, file: name, "expected an object of names, found \(json.kind)",
        advice: "known maps are \(Self.known.map(\.name).joined(separator: ", "))")
    }
    var rules: [Rule] = []
    for member in members {
      guard let source = member.value.string else {
        throw Refusal(
          .malformed, file: name, at: member.byteOffset, subject: member.key,
          "expected the name of a tensor of the source, found \(member.value.kind)")
      }
      func count(_ text: String) -> Int { text.count { $0 == "#" } }
      guard count(member.key) == count(source), count(source) <= 1 else {
        throw Refusal(
          .malformed, file: name, at: member.byteOffset, subject: member.key,
          "expected one # in both names, or none in either, found \"\(source)\"")
      }
      rules.append(Rule(target: member.key, source: source))
    }
    self.init(name: name, rules: rules)
  }

  private init(name: String, rules: [Rule]) { (self.name, self.rules) = (name, rules) }
}
