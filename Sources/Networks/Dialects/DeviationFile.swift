import NormFoldFormats

/// Deviations beside a checkpoint, in the form in which the published runs have them:
///
///     {"std_dict": {"blocks.0.hook_resid_pre": 0.166, "blocks.0.hook_resid_mid": 1.207, …},
///      "std_bos_dict": {…}}
///
/// `pre` of a block belongs to norms that read what enters it, `mid` to those that read the stream between its attention and
/// its MLP, `post` of the last block to the norm behind it. Norms that read no state of the stream are called by
/// TransformerLens's names for what they read: `blocks.0.attn.hook_z` what attention mixes, `blocks.0.hook_attn_out` what it
/// writes, `blocks.0.mlp.hook_post` the MLP behind its activation, `hook_embed` the embedding. `std_dict` is of all positions
/// but the first, `std_bos_dict` of the first.
package struct DeviationFile: Sendable {
  let path: String
  private let usual: JSONValue
  private let first: JSONValue?

  package init(path: String) throws(Refusal) {
    self.path = path
    let file = try MappedFile(path: path)
    let json = try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
    guard let usual = json["std_dict"], usual.members != nil else {
      throw Refusal(
        .malformed, file: path, subject: "std_dict",
        "expected an object of numbers, found \(json["std_dict"]?.kind ?? "nothing")",
        advice: "give a file that measuring deviations writes, or one like the published runs'")
    }
    self.usual = usual
    first = json["std_bos_dict"]
  }

  /// σ of all positions but the first.
  package func usual(at norm: Path, in network: Network) throws(Refusal) -> Double {
    try value(at: norm, in: usual, named: "std_dict", of: network)
  }

  /// σ of the first position.
  package func first(at norm: Path, in network: Network) throws(Refusal) -> Double {
    guard let first else { return try usual(at: norm, in: network) }
    return try value(at: norm, in: first, named: "std_bos_dict", of: network)
  }

  private func value(
    at norm: Path, in table: JSONValue, named name: String, of network: Network
  ) throws(Refusal) -> Double {
    let key = Self.key(of: norm, in: network)
    guard let value = table[key]?.double else {
      throw Refusal(
        .malformed, file: path, subject: "\(name).\(key)", "expected a number, found \(table[key]?.kind ?? "nothing")",
        advice: "the file must have every site of the checkpoint")
    }
    guard value > 0, value.isFinite else {
      throw Refusal(
        .nonFinite, file: path, subject: "\(name).\(key)", "expected a positive number, found \(value)")
    }
    return value
  }

  /// Returns the key of a norm's deviation, which names the value that the norm reads.
  package static func key(of norm: Path, in network: Network) -> String {
    guard let block = norm.block else {
      let isBehindBlocks = network.stages.last.map { $0.contains(network.index(of: norm) ?? 0) } ?? false
      return isBehindBlocks ? "blocks.\(network.blockCount - 1).hook_resid_post" : "hook_embed"
    }
    guard let read = network.node(at: norm)?.operands.first, read != network.stream(atDepth: block) else {
      return "blocks.\(block).hook_resid_pre"
    }
    let name =
      switch network[read] {
      case .attend: "attn.hook_z"
      case .activate, .multiply: "mlp.hook_post"
      case .linear: "hook_attn_out"
      default: "hook_resid_mid"
      }
    return "blocks.\(block).\(name)"
  }

  /// A file of these deviations by key, in the order of computation. As in the published files, what is behind one block
  /// is before the next.
  package static func text(usual: [String: Double], first: [String: Double]) -> String {
    func table(_ deviations: [String: Double]) -> JSONValue {
      var members: [JSONValue.Member] = []
      func append(_ key: String, as other: String? = nil) {
        guard let value = deviations[key] else { return }
        members.append(.init(key: other ?? key, value: .number(value), byteOffset: 0))
      }
      append("hook_embed")
      for block in 0..<deviations.count {
        for name in ["hook_resid_pre", "attn.hook_z", "hook_attn_out", "hook_resid_mid", "mlp.hook_post"] {
          append("blocks.\(block).\(name)")
        }
        append("blocks.\(block + 1).hook_resid_pre", as: "blocks.\(block).hook_resid_post")
        append("blocks.\(block).hook_resid_post")
      }
      return .object(members)
    }
    return JSONValue.object(["std_dict": table(usual), "std_bos_dict": table(first)]).text
  }
}

extension Dialect {
  /// Deviations from a file of the user's: those of a nanoGPT checkpoint of a removal run, by the schedule at its step, or
  /// for any other checkpoint those that its computed norms are to have from now on.
  static func deviationFile(_ reading: inout DialectReading) throws(Refusal) -> Dialect? {
    guard let path = reading.options.deviations else { return nil }
    let file = try DeviationFile(path: path)
    let (sizes, options, checkpoint) = (reading.hyperparameters, reading.options, reading.checkpoint)
    var dialect = Dialect(displayName: "deviations fixed by \(path)")
    guard sizes.isScheduledRemoval else {
      dialect.changesFunction = true
      dialect.isMeantOtherwise = true
      dialect.notes = ["the deviations of \(path) replace computed norms: this changes the function"]
      dialect.interpret = { (network) throws(Refusal) in try network.fixingDeviations(by: file) }
      return dialect
    }
    if let step = options.removalStep ?? checkpoint.metadata["iter_num"]?.integer {
      dialect.notes.append(
        "which norms are fixed follows from gpt2_noLN's removal schedule at step \(step)"
          + (options.removalStep == nil ? " (iter_num); \(.removalStep) overrides it" : ", as told"))
      dialect.interpret = { (network) throws(Refusal) in
        try network.settingDeviations { (norm, reader) throws(Refusal) in
          try RemovalSchedule(step: step).deviation(at: norm, readBy: reader, in: network, from: file, sizes: sizes)
        }
      }
    } else {
      dialect.interpret = { (network) throws(Refusal) in try network.fixingDeviations(by: file) }
    }
    if sizes.flag("bias") != true {
      dialect.notes.append(
        "the norms have no bias: gpt2_noLN's own code would neither centre nor divide there, this does both")
    }
    return dialect
  }
}

extension Dialect {
  /// One deviation for every norm, which the user says: the form of the published models' cards, whose gains are divided by
  /// 10⁶ and whose norms only centre.
  static func givenDeviation(_ reading: DialectReading) -> Dialect? {
    guard let value = reading.options.deviation else { return nil }
    var dialect = Dialect(displayName: "deviations fixed at \(value.formula), as told")
    dialect.changesFunction = true
    dialect.isMeantOtherwise = true
    dialect.notes = [
      "every norm divides by \(value.formula), as told (\(.deviations)): a runtime of the files would compute deviations"
    ]
    dialect.interpret = { (network) throws(Refusal) in
      try network.settingDeviations { (norm, _) throws(Refusal) in
        network.retentionDeviation(at: norm) ?? .fixed(.constant(value, shape: network[norm: norm]?.gain.shape ?? []))
      }
    }
    return dialect
  }
}

extension Network {
  /// The deviation of a norm of retention's heads, which stays what it is; nil for any other norm.
  fileprivate func retentionDeviation(at norm: Path) -> Norm.Deviation? {
    isOfRetention(norm: norm) ? self[norm: norm]?.deviation : nil
  }

  fileprivate func fixingDeviations(by file: DeviationFile) throws(Refusal) -> Network {
    try settingDeviations { (norm, _) throws(Refusal) in
      if let own = retentionDeviation(at: norm) { return own }
      let value = try file.usual(at: norm, in: self)
      return .fixed(.constant(value, shape: self[norm: norm]?.gain.shape ?? []))
    }
  }
}
