import NormFoldFormats

/// The parameters of a checkpoint by name, `blocks.0.attention.query.weight`, with the names of the tensors that hold them.
struct ParameterTable {
  private(set) var parameters: [String: Parameter] = [:]
  /// The stored tensor's name, as it is spelt in the file.
  private var names: [String: String] = [:]
  /// Is true if any matrix was merged with an adapter.
  private(set) var hasAdapters = false

  subscript(name: String) -> Parameter? {
    get { parameters[name] }
    set { parameters[name] = newValue }
  }

  /// The name of the norm at a path as the file spells it: `transformer.h.0.ln_1`.
  func normName(at path: Path) -> String? { names["\(path).weight"].map(Self.stem) }

  /// Names a norm that no tensor holds.
  mutating func setNormName(_ name: String, at path: Path) { names["\(path).weight"] = name }

  private static func stem(_ name: String) -> String {
    for end in [".weight", ".gamma"] where name.hasSuffix(end) { return String(name.dropLast(end.count)) }
    return name
  }

  /// - Throws: `.malformed` with every tensor of the layout that is needed and not there, or with a bias that the config says
  ///   there is none of.
  static func requireAll(
    of layout: Layout, in tensors: NamedTensors, hyperparameters: Hyperparameters
  ) throws(Refusal) {
    let slots = layout.slots(blockCount: layout.blockCount(in: tensors.names))
    let present = Set(slots.filter { tensors.peek($0.name) != nil }.flatMap(\.parameters))
    let missing = slots.filter { slot in
      guard !present.contains(slot.parameters[0]) else { return false }
      switch slot.presence {
      case .always: return true
      case .perhaps, .beyond:
        return slot.isGain && present.contains(slot.parameters[0].dropLast("weight".count) + "bias")
      case .ifSaid(let key): return hyperparameters.flag(key) == true
      }
    }
    guard missing.isEmpty else {
      if let path = layout.path {
        throw Refusal(
          .malformed, file: tensors.checkpoint.path,
          "\(missing.count) tensor\(missing.count == 1 ? "" : "s") that \(path) names "
            + "\(missing.count == 1 ? "is" : "are") missing: \(missing.map(\.name).joined(separator: ", "))",
          advice: "name in it what the checkpoint has, and nothing else")
      }
      let areNorms =
        missing.allSatisfy(\.isOfNorm) && slots.allSatisfy { !$0.isOfNorm || !present.contains($0.parameters[0]) }
      throw Refusal(
        .malformed, file: tensors.checkpoint.path,
        "\(missing.count) tensor\(missing.count == 1 ? " is" : "s are") missing: "
          + missing.map(\.name).joined(separator: ", "),
        advice: areNorms
          ? "these are all of its norms: if they were taken out of the network, pass \(.missingNorms, "identity"); if not, the checkpoint "
            + "is incomplete"
          : "the checkpoint is incomplete; a runtime may fill them with random numbers")
    }
    for slot in slots where present.contains(slot.parameters[0]) {
      guard case .ifSaid(let key) = slot.presence, hyperparameters.flag(key) == false else { continue }
      throw Refusal(
        .malformed, file: tensors.checkpoint.path, subject: layout.fullName(of: slot),
        "is \(slot.isOfNorm ? "of a norm" : slot.parameters[0].hasSuffix(".scale") ? "a scale" : "a bias"), but \(hyperparameters.path) does not say that there is one",
        advice: "a runtime would leave it out; set \(key) to what was trained")
    }
  }

  /// Takes every tensor of the layout that is there.
  ///
  /// - Throws: `.malformed` with the first tensor of a wrong shape; `.unsupported` for an element type that holds no
  ///   weights, or an unembedding that contradicts the tie.
  init(
    taking tensors: inout NamedTensors, layout: Layout, hyperparameters: Hyperparameters, options: ReadingOptions
  ) throws(Refusal) {
    let file = tensors.checkpoint.path
    for slot in layout.slots(blockCount: hyperparameters.blockCount) {
      guard let taken = try tensors.takeParameter(slot.name) else { continue }
      let name = taken.tensors[0].name
      let expected = layout.storedShape(of: slot, in: hyperparameters)
      guard taken.value.shape == expected else {
        let isTransposed = expected.count == 2 && taken.value.shape == expected.reversed()
        throw Refusal(
          .malformed, file: file, subject: name, "expected shape \(expected), found \(taken.value.shape)",
          advice: isTransposed ? "this is the transpose: \(layout.name) stores \(slot.axesDescription)" : "")
      }
      for tensor in taken.tensors { try tensor.requireWeights(in: file) }
      if slot.hasHeadAxis || slot.isReshaped, !taken.isContiguous {
        throw Refusal(
          .unsupported, file: file, subject: name,
          "\(slot.isReshaped ? "it is" : "its heads are") stored as a strided view",
          advice: "save a contiguous copy, or the whole in safetensors")
      }
      if taken.isAdapted { hasAdapters = true }
      for (parameter, value) in layout.parts(of: taken.value, in: slot, sizes: hyperparameters) {
        parameters[parameter] = value
        names[parameter] = name
      }
    }
    joinHeads()
    try settleUnembedding(layout: layout, file: file, hyperparameters, options)
  }

  /// Puts what has a tensor for each head side by side.
  private mutating func joinHeads() {
    var heads: [String: [(number: Int, value: Parameter)]] = [:]
    for (name, value) in parameters {
      guard let part = Slot.headPart(of: name) else { continue }
      heads[part.whole, default: []].append((part.number, value))
      names[part.whole] = names[part.whole] ?? names[name]
      parameters[name] = nil
    }
    for (name, parts) in heads {
      let values = parts.sorted { $0.number < $1.number }.map(\.value)
      parameters[name] = .concatenating(values, axis: values[0].shape.count - 1)
    }
  }

  /// Returns notes on the tensors that runtimes would leave out: those that change something, and that the class they
  /// are named for does not have.
  func notes(layout: Layout) -> [String] {
    layout.slots(blockCount: 1).compactMap { slot in
      guard case .beyond(let className) = slot.presence, let name = names[slot.parameters[0]],
        let value = parameters[slot.parameters[0]], ParameterReader(value).values().contains(where: { $0 != 0 })
      else { return nil }
      return "\(name) takes part here; the class \(className) has no such parameter, and would leave it out"
    }
  }

  /// - Throws: `.usage` where the user says how head scales were applied, and there are none.
  func notesOnHeadScales(_ options: ReadingOptions, file: String) throws(Refusal) -> [Message] {
    let scales = parameters.keys.filter { $0.hasSuffix(".attention.output.scale") }
    if scales.isEmpty {
      guard options.permutesHeadScales else { return [] }
      throw Refusal(
        .usage, file: file, subject: "\(.permutesHeadScales)", "there are no head scales", advice: "leave it out")
    }
    if options.permutesHeadScales {
      return [
        "taken as told (\(.permutesHeadScales)): head scales exchange heads and features; nothing in the file says so"
      ]
    }
    return [
      "the head scales multiply what each head's share of the output map writes; if fairseq of 2021-10-19 to 2021-11-03 trained "
        + "it, pass \(.permutesHeadScales): nothing in the file says so"
    ]
  }

  /// Decides on one unembedding: the stored one, or the token embedding.
  private mutating func settleUnembedding(
    layout: Layout, file: String, _ hyperparameters: Hyperparameters, _ options: ReadingOptions
  ) throws(Refusal) {
    let head = "unembedding.weight"
    guard let embedding = parameters["embedding.tokens.weight"] else { return }
    let tied = embedding.transposed()
    // Of a class without a head nobody reads it; the others without a place for it are tied.
    guard layout.slot(of: head, blockCount: 1) != nil else {
      parameters[head] = hyperparameters.isTied ? tied : nil
      return
    }
    guard let stored = parameters[head] else {
      guard hyperparameters.isTied else {
        throw Refusal(
          .malformed, file: file, subject: layout.slot(of: head, blockCount: 1)?.name,
          "this tensor is missing, and \(hyperparameters.path) does not say that it is tied to the embedding",
          advice: "a runtime may fill it with random numbers; if it is tied, set tie_word_embeddings to true")
      }
      parameters[head] = tied
      return
    }
    guard hyperparameters.isTied else { return }
    if stored.isEqualInNumbers(to: tied) || options.head == .tied {
      parameters[head] = tied
    } else if options.head != .stored {
      throw Refusal(
        .unsupported, file: file, subject: names[head],
        "differs from the token embedding, and by \(hyperparameters.path) they are tied",
        advice: "say which one counts: \(.head, ReadingOptions.Head.stored) or \(.head, ReadingOptions.Head.tied)")
    }
  }
}

extension Slot {
  fileprivate var isGain: Bool { input == nil && parameters[0].hasSuffix(".weight") }
}

extension Parameter {
  /// Returns whether two recipes give the same numbers: by their form where that decides it, else by reading both.
  fileprivate func isEqualInNumbers(to other: Parameter) -> Bool {
    if self == other { return true }
    guard shape == other.shape else { return false }
    // Two names for one storage, as PyTorch saves a tied head.
    if let mine = storedView, let theirs = other.storedView, mine.isSame(as: theirs) { return true }
    // The stored orientation of both, so that rows are read as they lie.
    let mine = ParameterReader(transposed())
    let theirs = ParameterReader(other.transposed())
    let columns = 0..<mine.columnCount
    for start in stride(from: 0, to: mine.rowCount, by: mine.rowsPerBlock) {
      let rows = start..<min(start + mine.rowsPerBlock, mine.rowCount)
      guard mine.values(rows: rows, columns: columns) == theirs.values(rows: rows, columns: columns) else {
        return false
      }
    }
    return true
  }
}
