/// How a checkpoint says that its norms' deviations are fixed, or that they are not.
package enum Dialect: Hashable, Sendable {
  /// Every norm is computed.
  case ordinary
  /// The published form of an LN-removed GPT-2: an epsilon so large that √(variance + epsilon) is √epsilon, and gains
  /// multiplied by it.
  case largeEpsilon(Double)
  /// No norms at all: what this project writes.
  case normFree

  package static let smallestLargeEpsilon = 1e6

  package var displayName: String {
    switch self {
    case .ordinary: "ordinary (every norm is computed)"
    case .largeEpsilon(let epsilon): "published LN-removed form (epsilon \(epsilon.formula))"
    case .normFree: "LN-free (no norms)"
    }
  }
}
