import Formats

extension Fields {
  /// The objects of a config of Hugging Face transformers that speak of rotary positions: `rope_scaling`, and since version
  /// 5 `rope_parameters`.
  ///
  /// - Throws: `.unsupported` for any type of positions but the plain one.
  func rotaryObjects() throws(Refusal) -> [Fields] {
    var objects: [Fields] = []
    for key in ["rope_scaling", "rope_parameters"] {
      guard let inner = try object(key) else { continue }
      let (newer, older) = (try inner.string("rope_type"), try inner.string("type"))
      let type = newer ?? older ?? "default"
      // Positions that are divided by 1 are what they were.
      let isPlain = type == "default" || type == "linear" && inner["factor"]?.double == 1
      guard isPlain else { throw .scaledRotary(type, file: path, subject: "\(key).rope_type") }
      objects.append(inner)
    }
    return objects
  }

  /// - Throws: `.unsupported` where llama.cpp would compute any type of rotary positions but the plain one.
  func requirePlainRotary() throws(Refusal) {
    let type = try string("rope.scaling.type") ?? "none"
    // Positions that are divided by 1 are what they were. Older files have the factor under the second key.
    let isPlain = type == "none" || type == "linear" && self["rope.scaling.factor"]?.double == 1
    guard isPlain, self["rope.scale_linear"].map({ $0.double == 1 }) ?? true else {
      throw .scaledRotary(type == "none" ? "linear" : type, file: path, subject: fullName("rope.scaling.type"))
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
  static func scaledRotary(_ type: String, file: String, subject: String) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: subject, "rotary positions of type '\(type)' are not supported yet",
      advice: "only plain ones are (default)")
  }
}

extension ConfigurationTable.Key {
  /// The base of rotary positions and the share of each head's features that is rotated, as version 5 of transformers
  /// states them. They are read after the keys of older versions, which they replace.
  static let rotaryParameters: Key = .init(
    "rope_parameters",
    read: { (fields, hyperparameters) throws(Refusal) in
      for inner in try fields.rotaryObjects() {
        hyperparameters.rotaryBase = try inner.positiveNumber("rope_theta", usual: hyperparameters.rotaryBase)
        hyperparameters.rotaryShare = try inner.share("partial_rotary_factor", usual: hyperparameters.rotaryShare)
      }
    })

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
