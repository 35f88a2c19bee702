import NormFoldFormats

extension Dialect {
  /// The smallest epsilon that is taken for a fixed deviation: variances of a residual stream stay far below it.
  package static let smallestLargeEpsilon = 1e6

  /// Medians of trained gains are below 10; those of the published form are near the root of its epsilon, 10⁶.
  static let smallestGainOfLostEpsilon = 1e3

  /// The published form of an LN-removed network: an epsilon so large that √(variance + epsilon) is √epsilon, and gains
  /// multiplied by it.
  static func largeEpsilon(_ reading: inout DialectReading) throws(Refusal) -> Dialect? {
    let epsilon = reading.hyperparameters.epsilon
    guard epsilon >= smallestLargeEpsilon else { return nil }
    try reading.refuseDeviationFile(because: "the checkpoint's epsilon fixes its deviations already")
    var dialect = Dialect(displayName: "published LN-removed form (epsilon \(epsilon.formula))")
    dialect.isMeantOtherwise = true
    dialect.interpret = { (network) throws(Refusal) in
      network.mappingOperations { _, operation in
        guard case .norm(var norm) = operation else { return operation }
        norm.deviation = .fixed(.constant(epsilon.squareRoot(), shape: norm.gain.shape))
        return .norm(norm)
      }
    }
    return dialect
  }
}

extension Network {
  /// The epsilon and the smallest median gain of computed norms whose gains no trained norm has: those of the published
  /// form, whose epsilon some programs write over when they load or save a network. Nil for any other network.
  package var lostEpsilon: (found: Double, gain: Double)? {
    var smallest = Double.infinity
    var found: Double?
    for (_, norm) in norms {
      guard case .computed(let epsilon) = norm.deviation, epsilon < Dialect.smallestLargeEpsilon else { return nil }
      let gains = ParameterReader(norm.gain).values().map(abs).sorted()
      guard !gains.isEmpty else { return nil }
      smallest = min(smallest, gains[gains.count / 2])
      found = epsilon
    }
    guard let found, smallest >= Dialect.smallestGainOfLostEpsilon else { return nil }
    return (found, smallest)
  }

  /// A note on ``lostEpsilon``, and advice on what to do about it; nil where none was lost.
  package var noteOnLostEpsilon: (problem: String, advice: Message)? {
    lostEpsilon.map { lost in
      (
        "the gains of every norm are larger than any that is trained (half of them above "
          + "\(Int(lost.gain))), beside an epsilon of \(lost.found.formula): this looks like the published LN-removed form "
          + "whose epsilon was written over",
        "set the epsilon in the config to the one that was published with these weights, 1e12 in all that are known"
      )
    }
  }
}
