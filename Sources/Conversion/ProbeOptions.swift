import Networks
import Verify

/// On which tokens a verification looks.
package struct ProbeOptions: Sendable {
  package var seed: UInt64 = 1
  /// The length of the longest probe; nil for the full context.
  package var longest: Int?

  package init() {}

  package func probes(for model: Model) -> [Probe] {
    let sizes = model.network.dimensions
    return Probe.standard(
      vocabularySize: sizes.vocabularySize, contextLength: sizes.contextLength, endOfText: model.endOfText, seed: seed,
      fullContext: longest)
  }
}
