import NormFoldFormats

extension Dialect {
  /// The readers that still read a norm that was kept, in what this project writes.
  package enum KeptPath: String, Sendable {
    case all
    case queriesAndKeys = "queries_keys"
    case values

    /// Returns whether an operation at this path reads the norm.
    package func includes(_ reader: Path) -> Bool {
      switch self {
      case .all: true
      case .queriesAndKeys: reader.lastComponent != "value"
      case .values: reader.lastComponent == "value"
      }
    }
  }

  /// The form that this project writes: norms are folded into the weights, all but those that the config names, which
  /// have neither gain nor bias.
  static func folded(_ reading: inout DialectReading) throws(Refusal) -> Dialect? {
    let sizes = reading.hyperparameters
    guard sizes.isFolded else { return nil }
    try reading.refuseDeviationFile(
      because: "the norms that the checkpoint keeps are bare, and meant to be computed")
    var kept: [Path: KeptPath] = [:]
    let places = reading.layout.slots(blockCount: sizes.blockCount).compactMap { slot -> Path? in
      guard slot.input == nil, let parameter = slot.parameters.first, parameter.hasSuffix(".weight") else { return nil }
      return Path(String(parameter.dropLast(".weight".count)))
    }
    func keep(_ place: Path, named name: String, for path: KeptPath) {
      kept[place] = path
      reading.parameters["\(place).weight"] = .constant(1, shape: [sizes.dModel])
      reading.parameters["\(place).bias"] = nil
      reading.parameters.setNormName(name, at: place)
    }
    if sizes.own["kept_norms"]?.string == KeptPath.all.rawValue {
      for place in places { keep(place, named: reading.layout.normName(at: place) ?? place.description, for: .all) }
    }
    for (name, path) in sizes.keptNorms {
      guard let place = places.first(where: { reading.layout.normName(at: $0) == name }) else {
        throw Refusal(.malformed, file: sizes.path, subject: "kept_norms.\(name)", "there is no such norm")
      }
      keep(place, named: name, for: path)
    }
    let count = reading.norms.count
    var dialect = Dialect(
      displayName: count == 0 ? "folded: no norms" : "folded: \(count) norm\(count == 1 ? "" : "s") kept")
    dialect.interpret = { [kept] (network) throws(Refusal) in
      var result = network
      for (path, _) in network.norms {
        let users = network.users(of: path).map(\.path)
        let readers = users.filter { kept[path]?.includes($0) ?? true }
        guard readers.count < users.count, let operand = network.node(at: path)?.operands.first else { continue }
        for user in users where !readers.contains(user) { result.redirect(user, from: path, to: operand) }
        result[norm: path]?.readers = readers.map(\.lastComponent)
      }
      return result
    }
    return dialect
  }
}

extension Hyperparameters {
  /// The norms that are kept in what this project writes, by name.
  var keptNorms: [(name: String, path: Dialect.KeptPath)] {
    own["kept_norms"]?.members?.compactMap { member in
      member.value.string.flatMap(Dialect.KeptPath.init).map { (member.key, $0) }
    } ?? []
  }
}
