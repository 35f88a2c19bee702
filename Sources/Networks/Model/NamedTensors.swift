import Formats

/// The tensors of a GPT-2 checkpoint by their bare names, and the account of what became of each: used, dropped by a
/// named rule, or left over.
struct NamedTensors {
  let checkpoint: Checkpoint
  private(set) var dropped: [Model.DroppedTensor] = []
  private var remaining: [String: Tensor] = [:]

  /// Prefixes that wrappers put before every name, outermost first.
  private static let prefixes = ["_orig_mod.", "transformer."]

  /// - Throws: `.malformed` where two tensors have the same bare name.
  init(of checkpoint: Checkpoint, options: ReadingOptions) throws(Refusal) {
    self.checkpoint = checkpoint
    for tensor in checkpoint.tensors {
      var name = Substring(tensor.name)
      for prefix in Self.prefixes where name.hasPrefix(prefix) { name = name.dropFirst(prefix.count) }
      if let rule = Self.droppingRule(for: name) {
        dropped.append(.init(name: tensor.name, rule: rule))
      } else if let other = remaining.updateValue(tensor, forKey: String(name)) {
        throw Refusal(
          .malformed, file: tensor.file.path, subject: tensor.name, "means the same parameter as '\(other.name)'",
          advice: "keep one of the two")
      }
    }
    for (name, tensor) in remaining where options.ignoredTensors.contains(where: { tensor.name.matches(pattern: $0) }) {
      remaining[name] = nil
      dropped.append(.init(name: tensor.name, rule: "ignored because the user said so"))
    }
  }

  /// Buffers of the causal mask: constants that old versions of the stock classes saved.
  private static func droppingRule(for name: Substring) -> String? {
    guard name.hasPrefix("h.") else { return nil }
    if name.hasSuffix(".attn.bias") { return "causal mask buffer" }
    if name.hasSuffix(".attn.masked_bias") { return "causal mask constant" }
    return nil
  }

  var names: some Collection<String> { remaining.keys }

  /// The tensor of this bare name, which then counts as used.
  mutating func take(_ name: String) -> Tensor? { remaining.removeValue(forKey: name) }

  func peek(_ name: String) -> Tensor? { remaining[name] }

  mutating func drop(_ name: String, rule: String) {
    if let tensor = remaining.removeValue(forKey: name) { dropped.append(.init(name: tensor.name, rule: rule)) }
  }

  /// - Throws: `.unsupported` with every tensor that was neither used nor dropped.
  func requireAllUsed() throws(Refusal) {
    guard !remaining.isEmpty else { return }
    let names = remaining.values.map(\.name).sorted()
    throw Refusal(
      .unsupported, file: checkpoint.path,
      "\(names.count) tensor\(names.count == 1 ? "" : "s") of unknown meaning: \(names.joined(separator: ", "))",
      advice: "if they take no part in the network, pass --ignore with their names")
  }
}

extension String {
  /// Whether the whole string fits a pattern in which `*` stands for any part.
  fileprivate func matches(pattern: String) -> Bool {
    var parts = pattern.split(separator: "*", omittingEmptySubsequences: false)[...]
    guard let first = parts.popFirst(), hasPrefix(first) else { return false }
    var rest = dropFirst(first.count)
    guard let last = parts.popLast() else { return rest.isEmpty }
    for part in parts where !part.isEmpty {
      guard let found = rest.firstRange(of: part) else { return false }
      rest = rest[found.upperBound...]
    }
    return rest.hasSuffix(last)
  }
}
