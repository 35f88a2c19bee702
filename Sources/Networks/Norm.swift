/// What a norm site holds: y = s · ((x − mean(x)) / σ ⊙ γ + β), or without the mean for `.rms` and `.crms`.
///
/// A norm is a value, not a kind of model: whether it can be folded is a question to its deviation.
package struct Norm: Hashable, Sendable {
  package enum Kind: String, Sendable, CaseIterable {
    /// Subtracts the mean over the features.
    case layer
    /// Does not.
    case rms
    /// Of a stream whose features sum to zero and whose last one is therefore left out. Of z [d − 1] it computes what `.rms`
    /// computes of all d features: z / √((Σz² + (Σz)²) / d + ε). Compressed RMSNorm, arXiv 2305.14858, section 3.2.
    case crms

    package var displayName: String {
      switch self {
      case .layer: "LayerNorm"
      case .rms: "RMSNorm"
      case .crms: "CRMSNorm"
      }
    }
  }

  /// σ: what the centred activations are divided by.
  package enum Deviation: Hashable, Sendable {
    /// From the activations themselves: √(variance + epsilon). The norm is not linear.
    case computed(epsilon: Double)
    /// A vector [dModel], equal for every token. The norm is a linear map.
    case fixed(Parameter)
    /// A vector [context length]: the same for all features, another at each position.
    case perPosition(Parameter)
    /// Fixed, but another vector [dModel] for the end-of-text token.
    case perToken(usual: Parameter, endOfText: Parameter)
  }

  /// As the tensors spell it: `transformer.h.0.ln_1`.
  package var name: String
  package var kind: Kind
  /// γ [dModel].
  package var gain: Parameter
  /// β [dModel], where there is one.
  package var bias: Parameter?
  package var deviation: Deviation
  /// s, which networks trained with LayerNorm Scaling have: what all that is said above is multiplied by.
  package var outputScale: Double

  package init(
    name: String, kind: Kind, gain: Parameter, bias: Parameter?, deviation: Deviation, outputScale: Double = 1
  ) {
    self.name = name
    self.kind = kind
    self.gain = gain
    self.bias = bias
    self.deviation = deviation
    self.outputScale = outputScale
  }

  package var isFixed: Bool { if case .fixed = deviation { true } else { false } }
  package var isComputed: Bool { if case .computed = deviation { true } else { false } }
}

/// A place where a network may normalise. Attention reads its site twice, because removal switches the path into
/// queries and keys and the path into values at different times.
package enum NormSite: Hashable, Sendable {
  case attentionQueryKey(block: Int)
  case attentionValue(block: Int)
  case mlp(block: Int)
  case final

  package var block: Int? {
    switch self {
    case .attentionQueryKey(let block), .attentionValue(let block), .mlp(let block): block
    case .final: nil
    }
  }
}
