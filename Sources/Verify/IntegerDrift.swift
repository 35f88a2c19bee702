import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The differences of networks that are computed in integers from the same networks in double precision. No claim is
/// made about them.
///
///     if let drift = report.integers {
///       for network in drift.networks { print(network.name, network.difference.logits.meanDivergence) }
///     }
public struct IntegerDrift: Sendable, Encodable {
  public var arithmetic: IntegerArithmetic
  public var networks: [NetworkDrift]

  /// One network in integers, held against itself in double precision.
  public struct NetworkDrift: Sendable, Encodable {
    public var name: String
    public var difference: NetworkDifference
    /// Numbers that did not fit into the ring, the worst operation first.
    public var overflows: [IntegerOverflow]
  }

  /// - Throws: `.unsupported` where a network has no form in such integers; what the networks throw.
  package init(
    of networks: [(name: String, network: Network)], in arithmetic: IntegerArithmetic, on probes: [Probe],
    workers: Workers = .all
  ) throws(Refusal) {
    self.arithmetic = arithmetic
    self.networks = []
    for (name, network) in networks {
      try arithmetic.requireForm(of: network)
      let comparison = try Comparison(
        of: [.init(name: "\(name) in integers", network: network, integers: arithmetic)],
        with: .init(name: name, network: network, precision: .double), on: probes, workers: workers)
      self.networks.append(
        NetworkDrift(
          name: name, difference: comparison.outcomes[0], overflows: comparison.integerOverflows[0]))
    }
  }
}
