import NormFoldFormats

extension Fields {
  /// The objects of a config of Hugging Face transformers that speak of rotary positions: `rope_scaling`, and since version
  /// 5 `rope_parameters`, each with its name and the type of positions that it says.
  private func rotaryObjects() throws(Refusal) -> [(name: String, type: String, fields: Fields)] {
    var objects: [(name: String, type: String, fields: Fields)] = []
    for key in ["rope_scaling", "rope_parameters"] {
      guard let inner = try object(key) else { continue }
      let (newer, older) = (try inner.string("rope_type"), try inner.string("type"))
      objects.append((key, newer ?? older ?? "default", inner))
    }
    return objects
  }

  /// The same for a class whose rotary positions are plain here.
  ///
  /// - Throws: `.unsupported` for any type of positions but the plain one.
  func plainRotaryObjects() throws(Refusal) -> [Fields] {
    var objects: [Fields] = []
    for (name, type, fields) in try rotaryObjects() {
      guard try fields.rotaryScaling(type, of: name, in: path, context: nil) == Rotary.Scaling.none else {
        throw .scaledRotary(type, file: path, subject: "\(name).rope_type", advice: "only plain ones are (default)")
      }
      objects.append(fields)
    }
    return objects
  }

  /// Returns the scaling of the angles that the members of an object for rotary positions state.
  ///
  /// - Parameter context: the number of positions that the config states.
  /// - Throws: `.unsupported` for a type that is not computed here, `.malformed` for a number that is missing.
  fileprivate func rotaryScaling(
    _ type: String, of name: String, in file: String, context: Int?
  ) throws(Refusal) -> Rotary.Scaling {
    switch type {
    // Of type `dynamic`, angles change with the text where it is longer than the context, which no text is here.
    case "default", "dynamic": return .none
    case "linear":
      let factor = try positiveNumber("factor", usual: nil)
      // Positions that are divided by 1 are what they were.
      return factor == 1 ? .none : .linear(factor: factor)
    case "llama3":
      let low = try positiveNumber("low_freq_factor", usual: nil)
      let high = try positiveNumber("high_freq_factor", usual: nil)
      guard high > low else { throw refusal("high_freq_factor", expected: "a number above low_freq_factor") }
      return .llama3(
        factor: try positiveNumber("factor", usual: nil), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContext: try requiredCount("original_max_position_embeddings"))
    case "yarn":
      for key in ["mscale", "mscale_all_dim"] where self[key].map({ !$0.isNull }) ?? false {
        throw Refusal(
          .unsupported, file: file, subject: "\(name).\(key)", "magnitudes of YaRN by two scales are not supported yet")
      }
      let factor = try positiveNumber("factor", usual: nil)
      guard let original = try count("original_max_position_embeddings") ?? context, original > 0 else {
        throw refusal("original_max_position_embeddings", expected: "a whole number")
      }
      let usual = Rotary.YaRN.usualMagnitude(factor: factor)
      let hasMagnitude = self["attention_factor"].map { !$0.isNull } ?? false
      return .yarn(
        Rotary.YaRN(
          factor: factor, originalContext: original, betaFast: try positiveNumber("beta_fast", usual: 32),
          betaSlow: try positiveNumber("beta_slow", usual: 1), isTruncated: try bool("truncate") ?? true,
          magnitude: hasMagnitude ? try positiveNumber("attention_factor", usual: nil) : usual))
    default:
      throw .scaledRotary(
        type, file: file, subject: "\(name).rope_type", advice: "default, dynamic, linear, llama3 and yarn are")
    }
  }

  /// Reads base, share and scaling of rotary positions from the objects of a config into hyperparameters.
  fileprivate func readRotary(into sizes: inout Hyperparameters, hasShare: Bool) throws(Refusal) {
    for (name, type, fields) in try rotaryObjects() {
      sizes.rotaryBase = try fields.positiveNumber("rope_theta", usual: sizes.rotaryBase)
      if hasShare {
        sizes.rotaryShare = try fields.share("partial_rotary_factor", usual: sizes.rotaryShare)
      } else {
        try fields.requireWholeHeads()
      }
      sizes.rotaryScaling = try fields.rotaryScaling(type, of: name, in: path, context: sizes.stated(.context))
      if type == "dynamic" { sizes.hasDynamicAngles = true }
    }
    if !hasShare { try requireWholeHeads() }
  }

  private func requireWholeHeads() throws(Refusal) {
    guard let share = self["partial_rotary_factor"], !share.isNull, share.double != 1 else { return }
    throw Refusal(
      .unsupported, file: path, subject: "partial_rotary_factor",
      "expected 1, found \(share.kind): only heads that are rotated whole are supported")
  }

  /// - Throws: `.unsupported` where llama.cpp would compute any type of rotary positions but the plain one.
  func requirePlainRotary() throws(Refusal) {
    let type = try string("rope.scaling.type") ?? "none"
    // Positions that are divided by 1 are what they were. Older files have the factor under the second key.
    let isPlain = type == "none" || type == "linear" && self["rope.scaling.factor"]?.double == 1
    guard isPlain, self["rope.scale_linear"].map({ $0.double == 1 }) ?? true else {
      throw .scaledRotary(
        type == "none" ? "linear" : type, file: path, subject: fullName("rope.scaling.type"),
        advice: "only plain ones are (none)")
    }
  }

  /// A share: above 0 and at most 1.
  fileprivate func share(_ key: String, usual: Double) throws(Refusal) -> Double {
    let share = try positiveNumber(key, usual: usual)
    guard share <= 1 else { throw refusal(key, expected: "a number above 0 and at most 1") }
    return share
  }
}

extension Refusal {
  static func scaledRotary(_ type: String, file: String, subject: String, advice: Message) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: subject, "rotary positions of type '\(type)' are not supported yet",
      advice: advice)
  }
}

extension ConfigurationTable.Key {
  /// The base of rotary positions and the share of each head's features that is rotated, as version 5 of transformers
  /// states them. They are read after the keys of older versions, which they replace.
  static let rotaryParameters: Key = .init(
    "rope_parameters",
    read: { (fields, hyperparameters) throws(Refusal) in
      for inner in try fields.plainRotaryObjects() {
        hyperparameters.rotaryBase = try inner.positiveNumber("rope_theta", usual: hyperparameters.rotaryBase)
        hyperparameters.rotaryShare = try inner.share("partial_rotary_factor", usual: hyperparameters.rotaryShare)
      }
    })

  /// Rotary positions as transformers has spelt them since version 5 (`rope_parameters`) and before (`rope_theta`,
  /// `rope_scaling`). Both are written.
  ///
  /// - Parameter hasShare: whether a share of each head's features may be rotated.
  static func rotary(usualBase: Double, hasShare: Bool = false) -> [Key] {
    let share = Key.rotaryShare("partial_rotary_factor", usual: 1)
    return [.rotaryBase("rope_theta", usual: usualBase)] + (hasShare ? [share] : []) + [
      Key("rope_scaling", write: { $0.rotaryScaling.members.map { .object($0) } }),
      Key(
        "rope_parameters",
        read: { (fields, sizes) throws(Refusal) in try fields.readRotary(into: &sizes, hasShare: hasShare) },
        write: { sizes in
          guard let base = sizes.rotaryBase else { return nil }
          var members = [JSONValue.Member(key: "rope_theta", value: .number(base))]
          if hasShare { members.append(.init(key: "partial_rotary_factor", value: .number(sizes.rotatedShare))) }
          return .object(
            members + (sizes.rotaryScaling.members ?? [.init(key: "rope_type", value: .string("default"))]))
        }),
    ]
  }

  /// The share of each head's features that is rotated.
  static func rotaryShare(_ name: String, usual: Double) -> Key {
    Key(
      name, .number,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.rotaryShare = try fields.share(name, usual: usual)
      },
      write: { .number($0.rotatedShare) })
  }

  /// The number of each head's features that are rotated: all of them without the key.
  static func rotaryWidth(_ name: String) -> Key {
    Key(
      name, .count,
      read: { (fields, hyperparameters) throws(Refusal) in hyperparameters.rotaryWidth = try fields.count(name) },
      write: { $0.rotary.map { .number($0.width) } })
  }
}

extension Hyperparameters {
  /// The share of each head's features that is rotated: a program that multiplies the width of a head by it and drops the
  /// fraction finds how many they are.
  fileprivate var rotatedShare: Double {
    let width = rotary?.width ?? dHead
    func isRight(_ share: Double) -> Bool { Int(share * Double(dHead)) == width }
    let exact = Double(width) / Double(dHead)
    return isRight(rotaryShare) ? rotaryShare : isRight(exact) ? exact : exact.nextUp
  }
}

extension ConfigurationTable.Key {
  /// The keys that tell llama.cpp how the angles are scaled. They state YaRN with the usual ramp only, and its
  /// magnitude as one more factor on the usual one.
  static let ggufRotaryScaling: [Key] = [
    Key(
      "rope.scaling.type",
      read: { (fields, sizes) throws(Refusal) in
        sizes.rotaryScaling = try fields.ggufRotaryScaling(context: sizes.stated(.context))
      },
      write: { sizes in
        switch sizes.rotaryScaling {
        case .linear: .string("linear")
        case .yarn: .string("yarn")
        case .none, .divided, .llama3: nil
        }
      }),
    Key(
      "rope.scaling.factor", .number,
      write: { sizes in
        switch sizes.rotaryScaling {
        case .linear(let factor): .number(factor)
        case .yarn(let yarn): .number(yarn.factor)
        case .none, .divided, .llama3: nil
        }
      }),
    Key(
      "rope.scaling.original_context_length", .count,
      write: { if case .yarn(let yarn) = $0.rotaryScaling { .number(yarn.originalContext) } else { nil } }),
    Key(
      "rope.scaling.attn_factor", .number,
      write: { sizes in
        guard case .yarn(let yarn) = sizes.rotaryScaling else { return nil }
        let usual = Rotary.YaRN.usualMagnitude(factor: yarn.factor)
        return yarn.magnitude == usual ? nil : .number(yarn.magnitude / usual)
      }),
  ]
}

extension Fields {
  /// Returns the scaling of the angles that the metadata of a GGUF file state.
  fileprivate func ggufRotaryScaling(context: Int?) throws(Refusal) -> Rotary.Scaling {
    // Older files have the factor of linear scaling under a key of its own.
    let older = self["rope.scale_linear"].map { !$0.isNull && $0.double != 1 } ?? false
    let type = try string("rope.scaling.type") ?? "none"
    switch type {
    case "none" where older: return .linear(factor: try positiveNumber("rope.scale_linear", usual: nil))
    case "none": return .none
    case "linear":
      let factor = try positiveNumber("rope.scaling.factor", usual: nil)
      return factor == 1 ? .none : .linear(factor: factor)
    case "yarn":
      for key in members(under: "rope.scaling.yarn_") {
        throw Refusal(
          .unsupported, file: path, subject: fullName(key), "YaRN with numbers of its own is not supported yet")
      }
      let factor = try positiveNumber("rope.scaling.factor", usual: nil)
      guard let original = try count("rope.scaling.original_context_length") ?? context, original > 0 else {
        throw refusal("rope.scaling.original_context_length", expected: "a whole number")
      }
      return .yarn(
        Rotary.YaRN(
          factor: factor, originalContext: original,
          magnitude: Rotary.YaRN.usualMagnitude(factor: factor)
            * (try positiveNumber("rope.scaling.attn_factor", usual: 1))))
    default:
      throw .scaledRotary(
        type, file: path, subject: fullName("rope.scaling.type"), advice: "none, linear and yarn are")
    }
  }
}

extension Hyperparameters {
  /// Takes what a tensor divides the frequencies of rotary positions by.
  ///
  /// - Throws: `.malformed` for another shape than [pairs of a head], `.nonFinite` for numbers that are not positive,
  ///   `.unsupported` where keys scale the angles, too.
  mutating func takeRotaryDivisors(_ tensor: Tensor, in file: String) throws(Refusal) {
    try tensor.requireWeights(in: file)
    let width =
      rotaryWidth ?? stated(.headWidth) ?? stated(.model).flatMap { model in stated(.heads).map { model / max(1, $0) } }
    guard let width, tensor.shape == [width / 2] else {
      throw Refusal(
        .malformed, file: file, subject: tensor.name,
        "expected shape \([(width ?? 0) / 2]), a number for each pair of features of a head, found \(tensor.shape)")
    }
    let divisors = tensor.decoded(as: Double.self)
    for value in divisors where !(value > 0 && value.isFinite) {
      throw Refusal(.nonFinite, file: file, subject: tensor.name, "is \(value), expected positive numbers")
    }
    guard rotaryScaling == .none || divisors.allSatisfy({ $0 == 1 }) else {
      throw Refusal(
        .unsupported, file: file, subject: tensor.name, "scales rotary positions that a key scales already")
    }
    if divisors.contains(where: { $0 != 1 }) { rotaryScaling = .divided(by: divisors) }
  }
}

extension Rotary.Scaling {
  /// The members of the object that states the scaling in a config of transformers; nil for plain positions, and for
  /// numbers that no config can hold.
  fileprivate var members: [JSONValue.Member]? {
    func members(_ type: String, _ others: [(String, JSONValue)]) -> [JSONValue.Member] {
      [.init(key: "rope_type", value: .string(type))] + others.map { .init(key: $0.0, value: $0.1) }
    }
    switch self {
    case .none, .divided: return nil
    case .linear(let factor): return members("linear", [("factor", .number(factor))])
    case .llama3(let factor, let low, let high, let context):
      return members(
        "llama3",
        [
          ("factor", .number(factor)), ("low_freq_factor", .number(low)), ("high_freq_factor", .number(high)),
          ("original_max_position_embeddings", .number(context)),
        ])
    case .yarn(let yarn):
      return members(
        "yarn",
        [
          ("factor", .number(yarn.factor)), ("original_max_position_embeddings", .number(yarn.originalContext)),
          ("beta_fast", .number(yarn.betaFast)), ("beta_slow", .number(yarn.betaSlow)),
          ("attention_factor", .number(yarn.magnitude)), ("truncate", .bool(yarn.isTruncated)),
        ])
    }
  }
}
