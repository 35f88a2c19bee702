import Formats
import Measurement
import Networks
import Verify

/// On which tokens a verification looks.
package struct ProbeOptions: Sendable {
  package var seed: UInt64 = 1
  /// The length of the longest probe; nil for tokens across the full context.
  package var longest: Int?
  /// How many probes of that length there are.
  package var count = 1

  /// A text that is looked at besides random tokens.
  package var text: TextSource?

  package init() {}

  /// - Parameter path: where the model was opened.
  /// - Throws: what reading the text throws.
  package func probes(for model: Model, at path: String) throws(Refusal) -> ProbeSet {
    var probes = ProbeSet.standard(
      for: model.network, endOfText: model.endOfText, seed: seed, longest: longest, count: count)
    guard let text else { return probes }
    let context = model.network.contextLength
    let length = min(longest ?? context, context)
    probes.add(
      text: try text.tokens(limit: length * min(max(1, count), .max / length), for: model, at: path),
      for: model.network, longest: longest, count: count)
    return probes
  }
}
