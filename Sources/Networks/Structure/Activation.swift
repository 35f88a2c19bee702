/// The nonlinearity of an MLP.
package enum Activation: Hashable, Sendable {
  /// x·Φ(x) by the tanh approximation: GPT-2's own.
  case geluTanh
  /// x·Φ(x) exactly, by erf: nanoGPT's.
  case geluErf
  case relu
  /// max(x, 0)²
  case reluSquared
  case leakyReLU(negativeSlope: Double)
  case silu
  case tanh
  /// c · tanh(x / c), which stays below c: of logits, not of an MLP.
  case softCap(Double)

  /// By the name that a Hugging Face config gives it; nil for one that we do not know.
  package init?(configName name: String) {
    switch name {
    case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": self = .geluTanh
    case "gelu", "gelu_python": self = .geluErf
    case "relu": self = .relu
    case "leaky_relu": self = .leakyReLU(negativeSlope: 0.01)
    case "silu", "swish": self = .silu
    case "tanh": self = .tanh
    default: return nil
    }
  }

  /// The name that Hugging Face transformers knows the function by.
  package var configName: String {
    switch self {
    case .geluTanh: "gelu_new"
    case .geluErf: "gelu"
    case .relu: "relu"
    case .reluSquared: "relu2"
    case .leakyReLU: "leaky_relu"
    case .silu: "silu"
    case .tanh: "tanh"
    case .softCap: "soft cap"
    }
  }

  /// The number that a leaky ReLU multiplies negative numbers by; nil for any other function.
  package var negativeSlope: Double? { if case .leakyReLU(let slope) = self { slope } else { nil } }

  /// The name that TransformerLens knows the function by; nil for one that it does not have.
  package var transformerLensName: String? {
    switch self {
    case .leakyReLU, .reluSquared, .tanh, .softCap: nil
    case .geluTanh, .geluErf, .relu, .silu: configName
    }
  }

  package static let knownConfigNames =
    "gelu_new gelu_pytorch_tanh gelu_fast gelu gelu_python relu leaky_relu silu swish tanh"
}
