/// A change that can be made to the weights besides folding norms: each makes the network simpler to look into, and
/// none changes a probability. Rules are applied after the norms are folded, in the order of the cases.
///
///     conversion.rules = [.foldValueBiases, .centerWritingWeights]
public enum FoldingRule: String, CaseIterable, Sendable, Codable {
  case foldValueBiases = "fold-value-biases"
  case centerWritingWeights = "center-writing-weights"
  case centerUnembedding = "center-unembed"

  /// A summary of what becomes of the weights, and of the logits where they do not stay what they were.
  public var summary: String {
    switch self {
    case .foldValueBiases: "b_O' = b_O + b_V · W_O, b_V' = 0: attention rows sum to one"
    case .centerWritingWeights:
      "every row of W_E, W_pos, W_O, W_out and the biases b_O, b_out lose their mean: no reader sees it"
    case .centerUnembedding:
      "every row of W_U and the bias b_U lose their mean: the logits of a position shift by one constant, "
        + "its probabilities stay"
    }
  }

  /// Is true if the logits of each position shift by a constant of that position's own.
  package var shiftsLogits: Bool { self == .centerUnembedding }
}
