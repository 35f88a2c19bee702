import Formats

extension Dialect {
  /// The smallest epsilon that is taken for a fixed deviation: variances of a residual stream stay far below it.
  package static let smallestLargeEpsilon = 1e6

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
