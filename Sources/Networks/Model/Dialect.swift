/// How a checkpoint says that its norms' deviations are fixed, or that they are not.
package enum Dialect: Hashable, Sendable {
  /// Every norm is computed.
  case ordinary
  /// The published form of an LN-removed GPT-2: an epsilon so large that √(variance + epsilon) is √epsilon, and gains
  /// multiplied by it.
  case largeEpsilon(Double)
  /// A training checkpoint of removal: buffers beside each norm say what is fixed, and at what.
  case fakeLayerNorm(withAdapters: Bool)
  /// The deviations come from a file of the user's.
  case sideFile(String)
  /// Trained without norms in its blocks; the last norm is computed.
  case normFree
  /// What this project writes: norms folded into the weights, all but the number that are kept.
  case folded(keptNormCount: Int)

  /// The smallest epsilon that is taken for a fixed deviation: variances of a residual stream stay far below it.
  package static let smallestLargeEpsilon = 1e6

  package var displayName: String {
    switch self {
    case .ordinary: "ordinary: every norm is computed"
    case .largeEpsilon(let epsilon): "published LN-removed form (epsilon \(epsilon.formula))"
    case .fakeLayerNorm(let withAdapters):
      "FakeLayerNorm training checkpoint" + (withAdapters ? " with LoRA adapters" : "")
    case .normFree: "trained without norms in its blocks; the last one is computed"
    case .sideFile(let path): "deviations fixed by \(path)"
    case .folded(0): "folded: no norms"
    case .folded(let count): "folded: \(count) norm\(count == 1 ? "" : "s") kept"
    }
  }
}
