/// y = (x − mean(x)) / σ ⊙ γ + β, or without the mean for `.rms` and `.crms`.
///
/// A norm is a value, not a kind of model: whether it can be folded is a question to its deviation.
package struct Norm: Hashable, Sendable {
  package enum Kind: String, Sendable, CaseIterable {
    /// Subtracts the mean over the features.
    case layer
    /// Does not.
    case rms
    /// Reads a stream whose d features sum to zero and whose last one is therefore left out. It computes of z [d − 1] what
    /// `.rms` computes of all features: z / √((Σz² + (Σz)²) / d + ε). Compressed RMSNorm, arXiv 2305.14858, section 3.2.
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
    /// √(variance + epsilon) of the activations themselves. The norm is not linear.
    case computed(epsilon: Double)
    /// A vector [width], equal for every token. The norm is a linear map.
    case fixed(Parameter)
    /// A vector [context length]: the same for all features, another at each position.
    case perPosition(Parameter)
    /// A vector [width], and another one for the end-of-text token.
    case perToken(usual: Parameter, endOfText: Parameter)
  }

  /// The name as the tensors spell it: `transformer.h.0.ln_1`.
  package var name: String
  /// The last parts of the paths of its readers, where other readers of the same stored norm read it with another
  /// deviation: `query`, `key`.
  package var readers: [String]?
  package var kind: Kind
  /// The number of heads whose features are normed each head by itself, all with the same gain: as Qwen3 norms queries
  /// and keys. 1 where all features are normed together.
  package var headCount: Int
  /// γ [width], or that of one head.
  package var gain: Parameter
  /// β [width], where there is one, or that of one head.
  package var bias: Parameter?
  package var deviation: Deviation

  package init(
    name: String, readers: [String]? = nil, kind: Kind, headCount: Int = 1, gain: Parameter, bias: Parameter?,
    deviation: Deviation
  ) {
    self.name = name
    self.readers = readers
    self.kind = kind
    self.headCount = headCount
    self.gain = gain
    self.bias = bias
    self.deviation = deviation
  }

  package var isFixed: Bool { if case .fixed = deviation { true } else { false } }
  package var isComputed: Bool { if case .computed = deviation { true } else { false } }

  /// The name, with the readers where not all of them read this one: `transformer.h.0.ln_1 (queries and keys)`.
  package var displayName: String {
    guard let readers else { return name }
    let plurals = ["query": "queries", "key": "keys", "value": "values"]
    return "\(name) (\(readers.map { plurals[$0] ?? $0 }.joined(separator: " and ")))"
  }
}
