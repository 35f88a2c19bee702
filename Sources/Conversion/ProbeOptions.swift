import Networks
import Verify

/// On which tokens a verification looks.
package struct ProbeOptions: Sendable {
  package var seed: UInt64 = 1
  /// The length of the longest probe; nil for tokens across the full context.
  package var longest: Int?
  /// How many probes of that length there are.
  package var count = 1

  package init() {}

  package func probes(for model: Model) -> ProbeSet {
    ProbeSet.standard(for: model.network, endOfText: model.endOfText, seed: seed, longest: longest, count: count)
  }
}
