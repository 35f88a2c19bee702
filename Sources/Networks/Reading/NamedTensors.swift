import NormFoldFormats

/// The tensors of a checkpoint by their bare names, and the account of what became of each: used, dropped by a named
/// rule, or left over.
struct NamedTensors {
  let checkpoint: Checkpoint
  private(set) var dropped: [Model.DroppedTensor] = []
  /// The parts of names that wrappers had put there.
  let wrappers: [String]
  private var remaining: [String: Tensor] = [:]
  /// The bare names of tensors that adapters have changed.
  private(set) var adapted: Set<String> = []

  /// - Parameter layout: takes off its prefix, drops what it says are no parameters, and replaces other names by its own.
  /// - Throws: `.malformed` where two tensors have the same bare name; what finding out about wrappers throws.
  init(of checkpoint: Checkpoint, layout: Layout, options: ReadingOptions) throws(Refusal) {
    self.checkpoint = checkpoint
    let names = try TensorNames(of: checkpoint, layout: layout, without: options.strippedPrefixes)
    wrappers = names.wrappers
    for (tensor, fullName) in zip(checkpoint.tensors, names.bare) {
      var name = Substring(fullName)
      if name.hasPrefix(layout.prefix) { name = name.dropFirst(layout.prefix.count) }
      if let modality = options.modality {
        guard let chosen = Self.name(name, of: modality) else {
          dropped.append(.init(name: tensor.name, rule: "of the other modality"))
          continue
        }
        name = chosen
      }
      if let inner = Self.unwrapped(name) {
        name = inner
      } else if name.contains(".original_module.") {
        dropped.append(.init(name: tensor.name, rule: "the base's own, beside what peft trained instead"))
        continue
      }
      if name == "n_averaged", tensor.info.elementCount == 1 {
        dropped.append(.init(name: tensor.name, rule: "the counter of torch's AveragedModel"))
      } else if let rule = layout.droppingRule(for: name) {
        dropped.append(.init(name: tensor.name, rule: rule))
      } else if let other = remaining.updateValue(tensor, forKey: layout.ownName(of: name)) {
        throw Refusal(
          .malformed, file: tensor.file.path, subject: tensor.name, "means the same parameter as '\(other.name)'",
          advice: "keep one of the two")
      }
    }
    if let modality = options.modality, !dropped.contains(where: { $0.rule == "of the other modality" }) {
      throw Refusal(
        .usage, file: checkpoint.path, subject: "\(.modality, modality.rawValue)",
        "no tensor is of one of two modalities: none has a part A or B in its name", advice: "leave it out")
    }
    for (second, first) in layout.secondNames {
      guard let tensor = remaining.removeValue(forKey: second) else { continue }
      drop(first, rule: "stored twice")
      remaining[first] = tensor
    }
    for (name, tensor) in remaining where options.ignoredTensors.contains(where: { tensor.name.matches(pattern: $0) }) {
      remaining[name] = nil
      dropped.append(.init(name: tensor.name, rule: "ignored, as told"))
    }
    for (name, tensor) in remaining where layout.ignoredNames.contains(where: { name.matches(pattern: $0) }) {
      remaining[name] = nil
      dropped.append(.init(name: tensor.name, rule: "left out by \(layout.path ?? layout.name)"))
    }
  }

  /// The name of a tensor without the copy that it is of; nil where it is of another one.
  private static func name(_ name: Substring, of modality: ReadingOptions.Modality) -> Substring? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    let copies = ReadingOptions.Modality.allCases.map(\.rawValue)
    guard let copy = parts.first(where: { copies.contains(String($0)) }) else { return name }
    guard copy == modality.rawValue else { return nil }
    return Substring(parts.filter { $0 != copy }.joined(separator: "."))
  }

  /// The name of a tensor inside a module that peft has trained whole, and that its merge leaves wrapped:
  /// `classifier.weight` for `classifier.modules_to_save.default.weight`.
  private static func unwrapped(_ name: Substring) -> Substring? {
    let mark = ".modules_to_save."
    guard let range = name.firstRange(of: mark), let dot = name[range.upperBound...].firstIndex(of: ".") else {
      return nil
    }
    return name[..<range.lowerBound] + name[dot...]
  }

  /// Returns the patterns that no tensor of the checkpoint fits.
  func unmatched(_ patterns: [String]) -> [String] {
    patterns.filter { pattern in !checkpoint.tensors.contains { $0.name.matches(pattern: pattern) } }
  }

  var names: some Collection<String> { remaining.keys }

  /// The tensor of this bare name, which then counts as used.
  mutating func take(_ name: String) -> Tensor? { remaining.removeValue(forKey: name) }

  /// Lets a stored unembedding stand for a token embedding that is not: where the two are tied, a program may leave out
  /// either. safetensors' own `save_model` leaves out all but the first name.
  mutating func fillTiedEmbedding(of layout: Layout) {
    guard let embedding = layout.slot(of: "embedding.tokens.weight", blockCount: 1), peek(embedding.name) == nil,
      let head = layout.slot(of: "unembedding.weight", blockCount: 1), head.axes.last == [.input],
      let tensor = take(head.name)
    else { return }
    remaining[embedding.name] = tensor
  }

  /// The tensor of this bare name, which does not count as used by that.
  func tensor(named name: String) -> Tensor? { remaining[name] }

  mutating func markAdapted(_ name: String) { adapted.insert(name) }

  /// The bare name of a tensor that another file names in full.
  func bareName(of name: String, layout: Layout) -> String {
    let bare = layout.ownName(of: name.hasPrefix(layout.prefix) ? name.dropFirst(layout.prefix.count) : name[...])
    return layout.secondNames[bare] ?? bare
  }

  /// Puts a tensor in the place of the one of this bare name.
  mutating func replace(_ name: String, by tensor: Tensor) { remaining[name] = tensor }

  mutating func drop(_ name: String, rule: String) {
    if let tensor = remaining.removeValue(forKey: name) { dropped.append(.init(name: tensor.name, rule: rule)) }
  }

  // MARK: Parameters, adapters merged

  /// A low-rank adapter beside a frozen parameter, as submarat/removing-layer-norm trains them: y = xW + b + (xA)B with no
  /// further factor, all matrices [in, out].
  private struct Adapter {
    let weight: String
    let down: String
    let up: String

    /// - Parameter name: of the parameter that the adapter stands for: `h.0.mlp.c_fc.weight`.
    init?(for name: String) {
      guard name.hasSuffix(".weight") else { return nil }
      let stem = name.dropLast(".weight".count)
      (weight, down, up) = ("\(stem).weight_frozen", "\(stem).lora_A", "\(stem).lora_B")
    }
  }

  private static func frozenName(of name: String) -> String { name + "_frozen" }

  /// The parameter of this bare name: a stored tensor, or a frozen one with its adapter.
  func peek(_ name: String) -> Parameter? {
    if let tensor = remaining[name] ?? remaining[Self.frozenName(of: name)] { return .stored(tensor) }
    return nil
  }

  /// A parameter, with the tensors that it was read from.
  struct Taken {
    let value: Parameter
    let tensors: [Tensor]
    var isAdapted: Bool { tensors.count > 1 }
    /// Is true if the parameter is one stored tensor in row-major order.
    var isContiguous: Bool { value.storedTensor?.isContiguous ?? false }
  }

  /// Takes the parameter of this bare name, merging its adapter where it has one: W + A·B.
  ///
  /// - Throws: `.malformed` where the adapter is incomplete or does not fit.
  mutating func takeParameter(_ name: String) throws(Refusal) -> Taken? {
    if let tensor = take(name) { return Taken(value: .stored(tensor), tensors: [tensor]) }
    guard let frozen = take(Self.frozenName(of: name)) else { return nil }
    guard let adapter = Adapter(for: name) else { return Taken(value: .stored(frozen), tensors: [frozen]) }
    guard let down = take(adapter.down), let up = take(adapter.up) else {
      throw Refusal(
        .malformed, file: checkpoint.path, subject: frozen.name,
        "is frozen, but '\(adapter.down)' or '\(adapter.up)' is missing",
        advice: "the adapter belongs to it; save the checkpoint whole")
    }
    guard down.shape.count == 2, up.shape.count == 2, frozen.shape == [down.shape[0], up.shape[1]],
      down.shape[1] == up.shape[0]
    else {
      throw Refusal(
        .malformed, file: checkpoint.path, subject: down.name,
        "shapes \(down.shape) and \(up.shape) do not multiply to \(frozen.shape)")
    }
    return Taken(
      value: Parameter.stored(frozen).adding(Parameter.stored(down).multiplied(byMatrix: .stored(up))),
      tensors: [frozen, down, up])
  }

  /// - Throws: `.unsupported` with every tensor that was neither used nor dropped, or with the head that they belong to.
  func requireAllUsed(layout: Layout) throws(Refusal) {
    guard !remaining.isEmpty else { return }
    let names = remaining.values.map(\.name).sorted()
    if let path = layout.path {
      throw Refusal(
        .unsupported, file: checkpoint.path,
        "\(path) has no place for \(names.count) tensor\(names.count == 1 ? "" : "s"): \(names.joined(separator: ", "))",
        advice: "say in it what is held, or list under ignore what takes no part in the network")
    }
    try ForeignTensors.refuseHead(named: names, in: checkpoint)
    throw Refusal(
      .unsupported, file: checkpoint.path,
      "\(names.count) tensor\(names.count == 1 ? "" : "s") of unknown meaning: \(names.joined(separator: ", "))",
      advice: "if they take no part in the network, pass \(.ignoredTensors) with their names")
  }
}

extension String {
  /// Returns whether the whole string fits a pattern in which `*` stands for any part.
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
