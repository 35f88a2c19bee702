/// The operation that one node of a network computes. Every value is a matrix [tokens, features].
package enum Operation: Hashable, Sendable {
  /// The rows of a table [count, width] that the input names. Reads no value.
  case embed(Parameter, by: Index)
  /// The patches of an image, each as one row, behind a row of zeros for the class token: [1 + patches, channels · height · width
  /// of a patch]. Reads no value.
  case patches(ImageGrid)
  /// Numbers of the word that a token belongs to. Reads no value.
  case features(width: Int)
  case norm(Norm)
  /// xW + b.
  case linear(LinearMap)
  /// Turns pairs of features of each of `headCount` heads by the position of the token.
  case rotate(Rotary, headCount: Int)
  /// Reads queries [T, heads · dHead], keys and values [T, key-value heads · dHead], in this order. Retention is one, too.
  case attend(Attention)
  case activate(Activation)
  /// The product with one number.
  case scale(Double)
  /// The product with a vector [width], feature by feature.
  case scaleFeatures(Parameter)
  /// The sum of two values.
  case add
  /// The product of two values, element by element.
  case multiply
  /// One row of a sequence in the place of each of its rows.
  case select(Selection)

  /// The index that selects the rows of a table.
  package enum Index: Hashable, Sendable {
    case token, position
    /// The number of the token among those that are not the padding token, counted from `padding` + 1 on; for the padding
    /// token itself `padding`.
    case unpaddedPosition(padding: Int)
    /// The number of the text that a token belongs to, where a sequence is made of several.
    case tokenType
    /// Row 0 for the first token; zeros for all others.
    case first
    /// Zeros for the first token; row 0 for all others.
    case others
  }

  /// The row of a sequence that stands for all of it. Every value keeps a row for each token, so that the first row of
  /// what follows is the answer for the sequence, and so are the others.
  package enum Selection: String, Hashable, Sendable {
    /// That of the first token.
    case first
    /// The mean over the tokens of the token's word; that of a token of no word stays.
    case word
  }

  /// The number of values that the operation reads.
  package var operandCount: Int {
    switch self {
    case .embed, .patches, .features: 0
    case .norm, .linear, .rotate, .activate, .scale, .scaleFeatures, .select: 1
    case .add, .multiply: 2
    case .attend: 3
    }
  }

  /// The kind of the operation, for messages that say why a norm cannot be folded into it.
  package var kind: String {
    switch self {
    case .embed: "an embedding"
    case .patches: "an image in patches"
    case .features: "numbers of words"
    case .norm: "a norm"
    case .linear: "a linear map"
    case .rotate: "a rotation by the position"
    case .attend: "attention"
    case .activate: "an activation"
    case .scale: "a product with a number"
    case .scaleFeatures: "a product with a vector"
    case .add: "a sum"
    case .multiply: "a product of two values"
    case .select: "a selection"
    }
  }
}

/// y = xW + b.
package struct LinearMap: Hashable, Sendable {
  /// [in, out]
  package var weight: Parameter
  /// [out]
  package var bias: Parameter?

  package init(weight: Parameter, bias: Parameter?) {
    self.weight = weight
    self.bias = bias
  }
}

/// Attention of a token to tokens of its sequence.
package struct Attention: Hashable, Sendable {
  /// The tokens that a token attends to.
  package enum Mask: Hashable, Sendable {
    /// To itself and to those before it.
    case causal
    /// To itself and to those before it that are less than so many tokens away.
    case window(Int)
    /// To all that are no padding, on both sides.
    case bidirectional

    /// Is true if a token attends to none behind it.
    package var isCausal: Bool { self != .bidirectional }

    /// The number of tokens that a token looks back over, itself counted; nil for the whole context.
    package var width: Int? { if case .window(let width) = self { width } else { nil } }

    /// For messages: `causal`, `causal with a window of 8`.
    package var name: String {
      switch self {
      case .causal: "causal"
      case .window(let width): "causal with a window of \(width)"
      case .bidirectional: "bidirectional"
      }
    }
  }

  /// The way in which the products of a query and the keys that it sees become the numbers that values are multiplied
  /// by.
  package enum Weighting: Hashable, Sendable {
    /// Their exponentials, divided by the sum of these.
    case softmax
    /// Retention in its parallel form (arXiv 2307.08621, section 2.1): the products themselves, times γⁿ for a key n tokens
    /// before the query, with a γ for each head. They do not sum to one.
    case decaying([Double])
  }

  /// The number of heads of the queries.
  package var headCount: Int
  /// The number of heads of keys and values. Each serves ``headCount`` / `keyValueHeadCount` neighbouring heads of the
  /// queries.
  package var keyValueHeadCount: Int
  /// The number that the products of queries and keys are multiplied by first.
  package var scale: Double
  /// c, where scores s become c · tanh(s / c) before the softmax (Gemma 2, arXiv 2408.00118, section 2); nil for none.
  package var softCap: Double?
  package var mask: Mask
  package var weighting: Weighting

  package init(
    headCount: Int, keyValueHeadCount: Int, scale: Double, softCap: Double? = nil, mask: Mask = .causal,
    weighting: Weighting = .softmax
  ) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.scale = scale
    self.softCap = softCap
    self.mask = mask
    self.weighting = weighting
  }

  /// Is true if the numbers that a query multiplies the values by sum to one.
  package var isDistribution: Bool { weighting == .softmax }

  /// The name, for messages, of what is unusual: retention, capped scores or a window. Nil for softmax attention that
  /// is causal over the whole context, or free on both sides.
  package var peculiarity: String? {
    if !isDistribution { return "retention" }
    if softCap != nil { return "attention with capped scores" }
    return mask.width == nil ? nil : "attention with a window"
  }
}

extension Operation {
  /// The same operation with every parameter replaced by what `transform` gives for it.
  package func mappingParameters(_ transform: (Parameter) -> Parameter) -> Operation {
    switch self {
    case .embed(let table, let index): return .embed(transform(table), by: index)
    case .linear(let map): return .linear(LinearMap(weight: transform(map.weight), bias: map.bias.map(transform)))
    case .norm(var norm):
      norm.gain = transform(norm.gain)
      norm.bias = norm.bias.map(transform)
      if case .fixed(let deviation) = norm.deviation { norm.deviation = .fixed(transform(deviation)) }
      return .norm(norm)
    case .scaleFeatures(let vector): return .scaleFeatures(transform(vector))
    case .patches, .features, .rotate, .attend, .activate, .scale, .add, .multiply, .select: return self
    }
  }
}
