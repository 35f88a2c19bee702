import NormFoldNetworks

/// A form for the norms that a network still computes. The logits stay what they were, exactly: arXiv 2305.14858.
///
///     conversion.normForm = .rms
public enum NormForm: String, CaseIterable, Sendable, Codable {
  case unit
  case rms
  case crms

  /// A summary of what becomes of the norms and of the weights.
  public var summary: String {
    switch self {
    case .unit: "gains and biases move into the maps that read the norms; weightless norms stay"
    case .rms:
      "as unit, and all that writes into the residual stream loses its mean, so that LayerNorm is RMSNorm, with the same "
        + "epsilon"
    case .crms: "as rms, and the last feature of the residual stream, minus the sum of the others, is left out"
    }
  }

  /// The name of what norms become, for reports.
  public var displayName: String { self == .unit ? "weightless norms" : "\(kind.displayName)s" }

  /// The kind of norm that it makes of a LayerNorm.
  package var kind: Norm.Kind {
    switch self {
    case .unit: .layer
    case .rms: .rms
    case .crms: .crms
    }
  }
}
