extension StateDict {
  /// The place of the model's state dict: the archive's own dict, or one of those that it holds.
  ///
  ///     {"wte.weight": tensor, …}                                                         a state dict alone
  ///     {"model": {…}, "optimizer": …, "model_args": …}                                   nanoGPT
  ///     {"epoch": 5, "model_state_dict": {…}, "optimizer_state_dict": …, "loss": …}       PyTorch's tutorial
  ///     {"step_idx": 7, "state": {…}, "metrics": …}                                       preference optimisation
  ///     {"module": {…}, "param_shapes": […], "ds_config": …, …}                           DeepSpeed
  ///
  /// What decides is where the tensors are: a dict under a known key that holds none is no state dict. Where no known
  /// key has one, and the archive's own dict holds no more than scalars, such as a loss, it may be under any key.
  struct Place {
    /// nil for the archive's own dict.
    var key: String?
    var dictionary: Int
    /// The keys of the archive's own dict that are no metadata, such as that of the state dict and that of an
    /// optimizer; empty where the archive's own dict is the state dict.
    var passedKeys: Set<String> = []
    var isUnderKnownKey = true
  }

  static let knownKeys: Set<String> = ["model", "state_dict", "model_state_dict", "state", "module"]

  /// - Throws: `.unsupported` where there is no state dict, or more than one.
  static func findPlace(in root: Int, of heap: PickleHeap, file: String) throws(Refusal) -> Place {
    var contents: [Int: PickleHeap.DictionaryContent] = [:]
    // Each dict is examined once, however many keys lead to it.
    func content(of dictionary: Int) -> PickleHeap.DictionaryContent {
      if let content = contents[dictionary] { return content }
      let content = heap.content(ofDictionary: dictionary)
      contents[dictionary] = content
      return content
    }
    var candidates: [(key: String, dictionary: Int)] = []
    var passedKeys: Set<String> = []
    for (key, value) in heap.dictionaries[root].pairs {
      guard case .string(let key) = key, case .dictionary(let dictionary) = value else { continue }
      let content = content(of: dictionary)
      if content.isOptimizerState {
        passedKeys.insert(key)
      } else if content.tensors != .none, !key.hasPrefix("optimizer") {
        candidates.append((key, dictionary))
      }
    }
    let own = content(of: root)
    let known = candidates.filter { knownKeys.contains($0.key) }
    if known.isEmpty, own.tensors == .some || candidates.isEmpty && own.tensors == .scalars {
      return Place(key: nil, dictionary: root)
    }
    if !known.isEmpty { candidates = known }
    guard let first = candidates.first else {
      guard !own.isOptimizerState else {
        throw Refusal(
          .unsupported, file: file, subject: "param_groups", "this is the state of an optimizer, not of a model",
          advice: "give the file that holds the model's state dict")
      }
      throw Refusal(
        .unsupported, file: file, "the dict holds no tensor, nor does a dict in it", advice: PickleMachine.advice)
    }
    let views = heap.namedViews(ofDictionary: first.dictionary)
    var seen: Set = [first.dictionary]
    let others = candidates.filter { candidate in
      seen.insert(candidate.dictionary).inserted
        && !heap.namedViews(ofDictionary: candidate.dictionary).elementsEqual(views) { $0.isSame(as: $1) }
    }
    guard others.isEmpty else {
      let keys = ([first.key] + others.map(\.key)).map { "'\($0.prefix(80))'" }
      throw Refusal(
        .unsupported, file: file,
        "expected one state dict, found them under \(keys.listed(limit: 4, remainder: "more keys"))",
        advice: "save the one that is meant alone, with torch.save")
    }
    passedKeys.formUnion(candidates.map(\.key))
    return Place(
      key: first.key, dictionary: first.dictionary, passedKeys: passedKeys, isUnderKnownKey: !known.isEmpty)
  }

  /// The place of the state dict that lies under these keys, one inside the other.
  ///
  /// - Throws: `.malformed` for a key that is not there, or that leads to no dict of tensors.
  static func place(
    under keys: [String], in root: Int, of heap: PickleHeap, file: String
  ) throws(Refusal) -> Place {
    var dictionary = root
    for (depth, key) in keys.enumerated() {
      let subject = keys[...depth].joined(separator: ".")
      let found = heap.dictionaries[dictionary].pairs.first {
        if case .string(let name) = $0.0 { name == key } else { false }
      }
      guard let value = found?.1 else {
        let names = heap.dictionaries[dictionary].pairs.compactMap { pair -> String? in
          if case (.string(let name), .dictionary) = pair { "'\(name.prefix(80))'" } else { nil }
        }
        throw Refusal(
          .malformed, file: file, subject: subject, "there is no such key",
          advice: names.isEmpty
            ? "no dict lies here" : "dicts lie under \(names.listed(limit: 4, remainder: "more keys"))")
      }
      guard case .dictionary(let next) = value else {
        throw Refusal(.malformed, file: file, subject: subject, "expected a dict, found \(value.kind)")
      }
      dictionary = next
    }
    guard heap.content(ofDictionary: dictionary).tensors != .none else {
      throw Refusal(
        .malformed, file: file, subject: keys.joined(separator: "."), "expected a dict of tensors, found none in it")
    }
    // What lies beside it on the way is another network, or the state of a training run.
    return Place(
      key: keys.joined(separator: "."), dictionary: dictionary, passedKeys: heap.keysOfDictionaries(in: root))
  }

  /// Returns the keys of every dict in the archive that holds tensors, the outermost key first: at most eight dicts, and at
  /// most four keys each.
  static func places(in root: Int, of heap: PickleHeap) -> [[String]] {
    var places: [[String]] = []
    var seen: Set<Int> = [root]
    var waiting: [(keys: [String], dictionary: Int)] = [([], root)]
    while !waiting.isEmpty, places.count < 8 {
      let (keys, dictionary) = waiting.removeFirst()
      let content = heap.content(ofDictionary: dictionary)
      if content.isOptimizerState { continue }
      if content.tensors == .some { places.append(keys) }
      guard keys.count < 4 else { continue }
      for case (.string(let key), .dictionary(let next)) in heap.dictionaries[dictionary].pairs
      where seen.count < 1_000 && seen.insert(next).inserted { waiting.append((keys + [key], next)) }
    }
    return places
  }

  /// With ZeRO-3 DeepSpeed leaves an empty tensor in the place of each parameter, and says its shape elsewhere.
  ///
  /// - Throws: `.unsupported` for a tensor without elements that should have some.
  static func refuseEmptyParameters(
    _ tensors: [(name: String, tensor: Int)], statedIn root: Int, of heap: PickleHeap, file: String
  ) throws(Refusal) {
    let empty = tensors.filter { heap.tensors[$0.tensor].shape.contains(0) }
    guard !empty.isEmpty else { return }
    var stated: [String: [Int]] = [:]
    for (key, value) in heap.dictionaries[root].pairs {
      guard case .string("param_shapes") = key else { continue }
      let parts: [PickleValue] = if case .list(let list) = value { heap.sequences[list] } else { [value] }
      // As many as there are optimizer groups; a list of the same dict a million times is nothing to be read.
      for case .dictionary(let part) in parts.prefix(64) {
        for case (.string(let name), .tuple(let shape)) in heap.dictionaries[part].pairs {
          stated[name] = heap.sequences[shape].prefix(PickleMachine.maximumRank).map { extent in
            if case .integer(let extent) = extent { extent } else { 0 }
          }
        }
      }
    }
    for (name, tensor) in empty {
      guard let shape = stated[name], !shape.contains(0) else { continue }
      throw Refusal(
        .unsupported, file: file, subject: name,
        "expected shape \(shape), which 'param_shapes' says, found \(heap.tensors[tensor].shape)",
        advice: "its numbers are not in this file: if DeepSpeed's ZeRO-3 wrote it, join the parts with DeepSpeed's"
          + " zero_to_fp32.py and give what that writes")
    }
  }
}

extension PickleHeap {
  /// The keys of a dict that lead to dicts.
  func keysOfDictionaries(in index: Int) -> Set<String> {
    Set(
      dictionaries[index].pairs.compactMap { pair in
        if case (.string(let name), .dictionary) = pair { name } else { nil }
      })
  }

  struct DictionaryContent {
    enum Tensors { case none, scalars, some }

    /// Those that the dict itself holds; `scalars` where all of them have one element and no axis.
    var tensors = Tensors.none
    /// The two keys that the state of every optimizer of PyTorch has.
    var isOptimizerState = false
  }

  func content(ofDictionary index: Int) -> DictionaryContent {
    var content = DictionaryContent()
    var (hasState, hasGroups) = (false, false)
    for (key, value) in dictionaries[index].pairs {
      switch (key, value) {
      case (_, .tensor(let tensor)):
        if !tensors[tensor].shape.isEmpty { content.tensors = .some }
        if content.tensors == .none { content.tensors = .scalars }
      case (.string("state"), .dictionary): hasState = true
      case (.string("param_groups"), .list): hasGroups = true
      default: break
      }
    }
    content.isOptimizerState = hasState && hasGroups && content.tensors == .none
    return content
  }

  /// A tensor of a dict with its name.
  struct NamedView {
    var name: String
    var tensor: Tensor

    /// Returns whether both are the same view of the same storage under the same name.
    func isSame(as other: Self) -> Bool {
      name == other.name && tensor.storage == other.tensor.storage && tensor.type == other.tensor.type
        && tensor.elementOffset == other.tensor.elementOffset && tensor.shape == other.tensor.shape
        && tensor.strides == other.tensor.strides
    }
  }

  func namedViews(ofDictionary index: Int) -> [NamedView] {
    dictionaries[index].pairs.compactMap { key, value in
      guard case .tensor(let tensor) = value else { return nil }
      let name = if case .string(let name) = key { name } else { key.kind }
      return NamedView(name: name, tensor: tensors[tensor])
    }
  }
}
