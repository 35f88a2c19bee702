import NormFoldFormats

/// The names of a checkpoint's tensors without what programs around a network put before and between them:
///
///     module.transformer.h.0.ln_1.weight            DataParallel, DistributedDataParallel
///     _orig_mod.transformer.h.0.ln_1.weight         torch.compile, also of one block: transformer.h.0._orig_mod.ln_1.weight
///     model.transformer.h.0.ln_1.weight             Lightning
///     _forward_module.model.transformer.…           Lightning with DeepSpeed
///     _module.transformer.…                         Opacus
///     _fsdp_wrapped_module.transformer.h.0._fsdp_wrapped_module._checkpoint_wrapped_module.ln_1.weight
///
/// Where the layout's blocks stand behind something else, it is taken off if every name has it. Anything that not all
/// names have may be one network of several, and is for the user to name.
struct TensorNames {
  /// The name of each tensor, in the order of the checkpoint. The layout's own prefix may still stand before it.
  let bare: [String]
  /// The parts that were taken off, each with its dot as it stood in the names: `_orig_mod.`, `module.`.
  let wrappers: [String]

  /// Names that no module of a network has: where one of them is a part of a name, a wrapper has put it there.
  private static let reserved: Set<Substring> = [
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_module",
  ]
  /// Names that wrappers give to the whole network.
  private static let ofWholeNetwork: Set<Substring> = ["module", "model"]

  /// - Parameter prefixes: what the user says that is to be taken off.
  /// - Throws: `.usage` for a prefix that no name has; `.unsupported` where the layout's blocks stand behind several
  ///   prefixes, or behind one that is no known wrapper's and that not all names have.
  init(of checkpoint: Checkpoint, layout: Layout, without prefixes: [String]) throws(Refusal) {
    var names = checkpoint.tensors.map(\.name)
    for prefix in prefixes.map({ $0.hasSuffix(".") ? $0 : $0 + "." }) {
      guard names.contains(where: { $0.hasPrefix(prefix) }) else {
        throw Refusal(
          .usage, file: checkpoint.path, subject: "\(.strippedPrefixes, prefix)", "no tensor has a name that begins so",
          advice: "the names are \(names.listed())")
      }
      names = names.map { $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0 }
    }
    var wrappers = prefixes
    var inner: [Substring] = []
    names = names.map { name in
      let parts = name.split(separator: ".", omittingEmptySubsequences: false)
      let found = parts.filter(Self.reserved.contains)
      guard !found.isEmpty else { return name }
      for part in found where !inner.contains(part) { inner.append(part) }
      return parts.filter { !Self.reserved.contains($0) }.joined(separator: ".")
    }
    wrappers += inner.map { "\($0)." }
    let prefix = try Self.prefix(of: names, fitting: layout, in: checkpoint)
    if !prefix.isEmpty {
      names = names.map { $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0 }
      wrappers.append(prefix)
    }
    bare = names
    self.wrappers = wrappers
  }

  /// Returns the prefix that stands before the names of the layout's blocks; empty where there is none.
  private static func prefix(
    of names: [String], fitting layout: Layout, in checkpoint: Checkpoint
  ) throws(Refusal) -> String {
    let fitting = layout.blockPrefixes
    var counts: [Substring: Int] = [:]
    for name in names {
      if let prefix = fitting.prefix(of: name) { counts[prefix, default: 0] += 1 }
    }
    // Where some names fit as they are, the others are for their own refusal.
    guard counts[""] == nil, let prefix = counts.keys.first else { return "" }
    guard counts.count == 1 else {
      let found = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "'\($0.key)' (\($0.value))" }
      throw Refusal(
        .unsupported, file: checkpoint.path,
        "expected one network, found names of \(layout.name) behind \(found.listed())",
        advice:
          "say which one is meant with \(.strippedPrefixes), and pass \(.ignoredTensors) with the names of the others")
    }
    let others = names.filter { !$0.hasPrefix(prefix) }
    let isKnown = prefix.split(separator: ".").allSatisfy(ofWholeNetwork.contains)
    guard others.isEmpty || isKnown else {
      throw Refusal(
        .unsupported, file: checkpoint.path,
        "the names of \(layout.name) stand behind '\(prefix)', which others do not have: \(others.listed())",
        advice:
          "if that is the network, pass \(.strippedPrefixes, String(prefix)), and \(.ignoredTensors) with names that take no part in it"
      )
    }
    return String(prefix)
  }
}

extension Layout {
  /// Finds what stands before the name of a block's tensor.
  struct BlockPrefixes {
    /// The texts that may stand before the number of a block, the longest first, by the text behind the number.
    fileprivate var startsByEnd: [Substring: [String]] = [:]

    /// - Returns: `module.` for `module.transformer.h.0.ln_1.weight`; nil for a name that belongs to no block.
    func prefix(of name: String) -> Substring? {
      var index = name.startIndex
      // Names have a handful of parts; what has more is none of ours.
      for _ in 0..<16 {
        guard let dot = name[index...].firstIndex(of: ".") else { return nil }
        let part = name[index..<dot]
        if !part.isEmpty, part.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
          let head = name[..<index]
          for start in startsByEnd[name[dot...]] ?? [] where head.hasSuffix(start) {
            let prefix = head.dropLast(start.count)
            if prefix.isEmpty || prefix.hasSuffix(".") { return prefix }
          }
        }
        index = name.index(after: dot)
      }
      return nil
    }
  }

  var blockPrefixes: BlockPrefixes {
    var result = BlockPrefixes()
    for slot in slots(blockCount: 1) where slot.block != nil {
      guard let number = slot.name.firstRange(of: ".0.") else { continue }
      let end = slot.name[slot.name.index(before: number.upperBound)...]
      let start = slot.name[...number.lowerBound]
      result.startsByEnd[end, default: []] += (prefix.isEmpty ? [] : [prefix + start]) + [String(start)]
    }
    return result
  }
}
